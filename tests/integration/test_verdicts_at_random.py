"""Verdicts that PostgreSQL computes, against `decide`: random rows and policies, strange texts and collations."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import astuple
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from retentiond.adapters.postgres import connect
from retentiond.engine.target import NullProgress
from retentiond.model.errors import RefusedError
from retentiond.model.match import CONDITIONS, Match, foreign_user
from retentiond.model.media import MediaRow
from retentiond.model.policy import FIRST_BELIEVABLE_MS, Keep, Policy, Rules, decide
from retentiond.targets.dendrite_media.database.rows import media_row
from retentiond.targets.dendrite_media.surveys.survey import Surveyor
from retentiond.targets.dendrite_media.surveys.verdicts import ASKED, FOREIGN, compiled
from tests.support.chance import AGAIN, NIGHTLY, SEED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.adapters.postgres import Conn
    from retentiond.model.policy import Removes

ROWS: Final = 400
ROUNDS: Final = 1000 if NIGHTLY else 40
COMPARED: Final = 10
"""The least number of surveys that must have found due rows."""
NOW: Final = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)
NOW_MS: Final = int(NOW.timestamp() * 1000)
DAY_MS: Final = 86_400_000
NAMES: Final = frozenset({"here.test", "kk.test", "[::1]"})
SPECIAL: Final = "%_\\*?[]{}()^$|.+-:;'\"/ \t\n\r\v\f\x1c\x1f"
STRANGE: Final = "K\u212a\u017f\u0130\u0131ßéÉ\u00a0\u00ad\u200b\u3000😀\uffff"
"""Letters whose case is another number of letters, or of ASCII; white space; ignorable and large characters."""
COLLATIONS: Final = ('"default"', '"C"', "any")
ORIGINS: Final = (
    "here.test",
    "HERE.test",
    "\u212ak.test",
    "kk.test",
    "there.test",
    "a.b",
    "[::1]",
    "h_re.test",
    "",
)
TYPES: Final = (
    "image/png",
    "IMAGE/PNG",
    "image/png; q=1",
    " \x1cvideo/mp4\t;x",
    "video/mp4",
    "",
    ";",
    "text/%",
)
USERS: Final = (
    "",
    "",
    "@ann:here.test",
    "@Ann:HERE.test",
    "@b%b:kk.test",
    "@ann",
    "@é:here.test",
    "\u00ad",
    "\u200b",
    "\x01",
)
UPLOADS: Final = (
    "cat.png",
    "Cat.PNG",
    "a%20b.png",
    "100%",
    "a_b",
    "a\\b",
    "*",
    "?",
    "[x]",
    "é.png",
    "a\nb",
    "",
)


def text(rng: random.Random, known: tuple[str, ...]) -> str:
    """Draw one of these texts, mostly; otherwise any."""
    if rng.random() < 0.7:
        return rng.choice(known)
    return "".join(rng.choice("aAbkKsSi" + SPECIAL + STRANGE) for _ in range(rng.randrange(8)))


def glob(rng: random.Random, known: tuple[str, ...]) -> str:
    """Draw a glob that often fits one of these texts."""
    chars = list(text(rng, known) or "*")
    for place in range(len(chars)):
        if rng.random() < 0.2:
            chars[place] = rng.choice(("*", "?", "**", "\0" if rng.random() < 0.05 else "?*"))
    return "".join(chars) + ("*" if rng.random() < 0.4 else "")


def number(rng: random.Random) -> int:
    return rng.choice((0, 1, -1, 1000, 1001, rng.randrange(5000), 2**63 - 1, -(2**63)))


def moment(rng: random.Random) -> int:
    edge = rng.choice(
        (
            0,
            FIRST_BELIEVABLE_MS,
            NOW_MS,
            NOW_MS + 60_000,
            NOW_MS - DAY_MS,
            NOW_MS - 7 * DAY_MS,
            -(2**63),
            2**63 - 1,
        )
    )
    near = edge + rng.choice((-1, 0, 1, rng.randrange(-2000, 2000)))
    return max(-(2**63), min(near, 2**63 - 1))


def blob(rng: random.Random) -> str:
    chars = "".join(rng.choice("Aa0_-zZ9") for _ in range(43))
    return rng.choice(
        (chars, chars, chars, chars[1:], chars + "A", chars[1:] + "\n", chars[1:] + "é", chars + "\n", "")
    )


def made_row(rng: random.Random, place: int) -> MediaRow:
    return MediaRow(
        f"{place}{text(rng, ('m',))}", text(rng, ORIGINS), text(rng, TYPES), number(rng), moment(rng),
        text(rng, UPLOADS), blob(rng), text(rng, USERS),
    )  # fmt: skip


def made_match(rng: random.Random) -> Match:
    days = (date(2017, 1, 1), date(1, 1, 1), date(9999, 12, 31), date(2026, 11, 24))
    drawn: dict[str, tuple[int, Any]] = {
        "origin": (4, rng.choice(("local", "remote", glob(rng, ORIGINS)))),
        "user": (2, glob(rng, USERS)),
        "content_type": (3, glob(rng, TYPES)),
        "larger_than": (2, rng.choice((number(rng), 2**70))),
        "uploaded_before": (2, rng.choice(days)),
        "upload_name": (3, glob(rng, UPLOADS)),
        "room": (1, "upgraded"),
        "unreferenced": (1, True),
    }
    assert drawn.keys() == CONDITIONS.keys(), "a condition that is not drawn is never compared with `decide`"
    weights = [weight for weight, _ in drawn.values()]
    chosen = {rng.choices(list(drawn), weights)[0] for _ in range(rng.choice((1, 1, 1, 2, 3)))}
    return Match(**{name: drawn[name][1] for name in chosen})


def made_rules(rng: random.Random) -> Rules:
    keeps = (None, timedelta(0), timedelta(days=1), timedelta(days=7, microseconds=999), timedelta.max)
    policies = tuple(
        Policy(
            f"p{place}",
            made_match(rng),
            rng.choice(keeps),
            removes=rng.choice(("media", "media", "thumbnails")),
        )
        for place in range(rng.randrange(5))
    )
    return Rules(policies, rng.choice((NAMES, NAMES, frozenset(), frozenset({"é.test"}))))


@pytest.fixture(params=COLLATIONS)
async def store(database: str, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Conn, list[MediaRow]]]:
    """A connection to random rows, in columns of some collation."""
    rng = random.Random(SEED)
    connection = await connect(database)
    collation = request.param
    if collation == "any":
        collation = "public.any_case"
        try:
            await connection.execute(
                f"CREATE COLLATION {collation} (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"
            )
        except asyncpg.FeatureNotSupportedError:
            await connection.close()
            pytest.skip("this PostgreSQL has no ICU: set RETENTIOND_POSTGRES_BIN to one that has it")
    for column in ("content_type", "upload_name", "base64hash", "user_id"):
        await connection.execute(
            f"ALTER TABLE mediaapi_media_repository ALTER {column} TYPE text COLLATE {collation}"
        )
    rows = [made_row(rng, place) for place in range(ROWS)]
    await connection.execute(
        "INSERT INTO mediaapi_media_repository SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[],"
        " $5::bigint[], $6::text[], $7::text[], $8::text[])",
        *(list(column) for column in zip(*map(astuple, rows), strict=True)),
    )
    yield connection, rows
    await connection.close()


def plain(row: MediaRow, rules: Rules) -> bool:
    """Whether nothing in a row or in the policies needs Python: then the server must not leave it open."""
    texts = [row.media_origin, row.content_type, row.user_id, *rules.server_names]
    for policy in rules.policies:
        match = policy.match
        globs = [one for one in (match.origin, match.content_type) if one is not None]
        if match.asks_mentions or not all(map(str.isascii, globs)) or abs(match.larger_than or 0) > 2**63 - 1:
            return False
        texts += globs
        if any("\0" in one for one in (*globs, match.user or "", match.upload_name or "")):
            return False
    return all(map(str.isascii, texts)) and not (row.user_id and "%" in row.upload_name)


async def test_the_server_never_judges_a_row_otherwise_than_decide(
    store: tuple[Conn, list[MediaRow]],
) -> None:
    connection, _ = store
    rng = random.Random(SEED)
    seen: Counter[str] = Counter()
    for _ in range(ROUNDS):
        rules = made_rules(rng)
        removes: Removes = "media" if rng.random() < 0.7 else "thumbnails"
        policies = compiled(rules, NOW, removes)
        found = await connection.fetch(
            f"SELECT m.*, {policies.text} AS code FROM mediaapi_media_repository m", *policies.arguments
        )
        for record in found:
            row = media_row(record)
            about = (row, rules, AGAIN)
            if foreign_user(row, rules.server_names):
                assert record["code"] in {FOREIGN, ASKED}, about
                continue
            if record["code"] == ASKED:
                assert not plain(row, rules), about
                seen["asked"] += 1
                continue
            # Mentions that were not read keep; the server never answers for a policy that asks for them.
            verdict = decide(row, rules, NOW, None, removes=removes)
            assert policies.verdicts[record["code"]] == verdict, about
            seen[verdict.reason if isinstance(verdict, Keep) else "due"] += 1
    assert {"asked", "due", "not_due", "undated", "invalid_hash", "no_policy"} <= set(seen), AGAIN


async def test_a_foreign_user_whose_name_looks_empty_refuses_the_survey(
    store: tuple[Conn, list[MediaRow]],
) -> None:
    """Where letters are compared by ICU, a control character equals nothing."""
    connection, _ = store
    await connection.execute("DELETE FROM mediaapi_media_repository WHERE user_id COLLATE \"C\" <> '\x01'")
    rules = Rules((Policy("old", Match(larger_than=-1), timedelta(0)),), NAMES)
    with pytest.raises(RefusedError) as raised:
        await Surveyor(connection, "media", rules).judge(NOW, NullProgress())
    assert raised.value.refusal.limit == "foreign_users"


async def test_a_survey_counts_and_finds_the_same_rows_as_one_that_lists_each(
    store: tuple[Conn, list[MediaRow]],
) -> None:
    connection, rows = store
    rng = random.Random(SEED)
    compared = 0
    for place in range(10 * ROUNDS):
        if place >= ROUNDS // 2 and compared > COMPARED:
            break
        if place == ROUNDS // 8:
            # Until now most surveys were refused.
            foreign = [row.media_id for row in rows if foreign_user(row, NAMES)]
            await connection.execute(
                "DELETE FROM mediaapi_media_repository WHERE media_id = ANY ($1::text[])", foreign
            )
        rules = made_rules(rng)
        if place % 2:
            # Else few rows are due by what was drawn: with this policy all are that no other keeps.
            rules = Rules((*rules.policies, Policy("rest", Match(larger_than=-1), timedelta(0))), NAMES)
        outcomes: list[Any] = []
        for listen in (None, lambda _item: None):
            surveyor = Surveyor(connection, "media", rules)
            await connection.execute(
                "CREATE TEMPORARY TABLE IF NOT EXISTS evicted (media_id text, media_origin text)"
            )
            try:
                survey = await surveyor.judge(NOW, NullProgress(), listen)
            except RefusedError as error:
                outcomes.append(str(error.refusal.limit))
                continue
            due = await connection.fetch(
                "SELECT hash, media_id, media_origin, policy, size, counted_from, kept FROM pg_temp.due"
                ' ORDER BY media_id COLLATE "C", media_origin COLLATE "C"'
            )
            outcomes.append((survey.rows, survey.kept, surveyor.matched, [tuple(row) for row in due]))
            compared += bool(rules.server_names and due)
        assert outcomes[0] == outcomes[1], (rules, AGAIN)
    assert compared > COMPARED, AGAIN
