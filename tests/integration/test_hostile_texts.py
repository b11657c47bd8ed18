"""One hostile row costs that row at most, and the work on a text grows with its length."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from retentiond.engine.target import NullProgress, Selection
from retentiond.targets.dendrite_media.references.sources import ROOM_SQL, SQL, prepare
from tests.support.chance import NIGHTLY
from tests.support.media_target import Retention
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.database import DatabaseServer

    Connection = asyncpg.Connection[asyncpg.Record]

ROOM = "!room:there.test"
# 131,072 digits each, once they are printed in full: together more than the server can hold in one value.
HUGE_NUMBERS = "[" + ",".join(["1e131071"] * 9000) + "]"
UNREFERENCED: dict[str, Any] = {
    "messages_in": ["joined_rooms"],
    "policies": [{"name": "unused", "match": {"origin": "remote", "unreferenced": True}, "keep": "30d"}],
}


async def show_everywhere(store: DendriteStore, text: Callable[[str], str]) -> dict[str, str]:
    """Let each place of dendrite's mention a medium in such a content; return what keeps each."""
    media = {place: await store.add() for place in ("state", "avatar", "account", "invite", "message")}
    event = {place: f'{{"content": {text(one.uri)}}}' for place, one in media.items()}
    await store.add_state_event(ROOM, "m.room.topic", "", event["state"])
    await store.add_state_event(ROOM, "m.room.member", "@a:there.test", event["avatar"])
    await store.add_account_data("ann", "x", text(media["account"].uri))
    await store._database.execute(
        "INSERT INTO syncapi_invite_events (event_id, room_id, target_user_id, headered_event_json, deleted)"
        " VALUES ('$i', $1, '@ann:here.test', $2, false)",
        *(ROOM, event["invite"]),
    )
    await store.add_event(ROOM, event["message"])
    return {one.uri: place for place, one in media.items()}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(lambda uri: f'{{"url": "{uri}", "n": {HUGE_NUMBERS}}}', id="numbers of 131,072 digits"),
        pytest.param(
            lambda uri: f'{{"url": "{uri}", "n": {"9" * 200_000}}}', id="a number of 200,000 digits"
        ),
        pytest.param(lambda uri: f'{{"url": "{uri}", "n": "\\u0000"}}', id="a NUL"),
        pytest.param(lambda uri: f'{{"url": "{uri}", "n": "\\ud800"}}', id="half a surrogate"),
        pytest.param(lambda uri: f'{{"n": {"[" * 50_000}"{uri}"', id="too deep for the stack"),
        pytest.param(lambda uri: f'{{"url": "{uri}", "n": "{"x" * 3_000_000}"}}', id="too long to parse"),
        pytest.param(lambda uri: f'{{"n": "{"x" * 1_048_500}", "url": "{uri}"', id="across two pieces"),
    ],
)
async def test_a_hostile_value_costs_its_row_at_most(
    store: DendriteStore, retention: Retention, text: Callable[[str], str]
) -> None:
    shown = await show_everywhere(store, text)
    loose = await store.add()
    report, items = await retention.one_plan(**UNREFERENCED)
    assert (report.refused, report.error) == (None, None)
    assert {item.media for item in items if item.reason == "due"} == {loose.uri}
    report = await retention.one_pass(**UNREFERENCED)
    assert (report.refused, report.removed_items) == (None, 1)
    assert {key.uri for key in await store.rows()} == set(shown)


async def test_rows_that_do_not_parse_are_named_and_counted(
    store: DendriteStore, retention: Retention
) -> None:
    for number in range(9):
        await store.add_account_data("ann", f"type-{number}", f"no JSON, but mxc://there.test/{number}")
    await store.add()
    with capture_logs() as log:
        await retention.one_plan()
    (told,) = [entry for entry in log if entry["event"] == "rows_not_parsed"]
    assert (told["table"], told["rows"], len(told["examples"])) == ("userapi_account_datas", 9, 5)
    assert told["examples"][0].startswith("ann:here.test")


WORST: dict[str, Callable[[int], str]] = {
    "backslashes": lambda n: "\\" * n + "u0\\u003a",
    "escaped backslashes": lambda n: '{"content": "mxc' + "\\\\" * (n // 2) + 'u003a"}',
    "escaped quotes": lambda n: '{"content": "mxc' + '\\"' * (n // 2) + '"}',
    "quotes": lambda n: '"' * n,
    "mentions": lambda n: "mxc://a/b " * (n // 10),
    "mentions without an end": lambda n: "mxc://" * (n // 6),
    "mentions side by side": lambda n: "mxc://there.test/bbbbbbbbbbb" * (n // 28),
    "escaped mentions": lambda n: "mxc%3a%2f%2fa%2fb " * (n // 18),
    "an ID without an end": lambda n: "mxc://a/" + "b" * n,
    "emphasis without an end": lambda n: "mxc://a/b" + "_=-" * (n // 3) + "mxc://a/" + "_b" * (n // 3),
    "percent signs": lambda n: "mxc%" + "25" * (n // 4) + "%25" * (n // 6),
    "entities": lambda n: "&#" + "0" * (n // 2) + "&#0" * (n // 6),
    "escapes": lambda n: "\\u0041" * (n // 6) + "mxc",
    "slashes": lambda n: "\\/" * (n // 2),
    "numbers": lambda n: '{"content": ["mxc"' + ",1e131071" * (n // 9) + "]}",
    "strings": lambda n: '{"content": ["mxc"' + ',"mxc"' * (n // 6) + "]}",
    "keys": lambda n: '{"content": {"mxc":1' + "".join(f',"{i}":1' for i in range(n // 9)) + "}}",
    "depth": lambda n: "[" * n,
    "JSON in JSON": lambda n: '{"content": "' + "mxc:\\\\/\\\\/a\\\\/b " * (n // 20) + '"}',
}
CALLS = {
    "document_function": "SELECT pg_temp.retentiond_document($1)",
    "content_function": "SELECT pg_temp.retentiond_content($1)",
    "state_function": "SELECT pg_temp.retentiond_is_state($1)",
    "slice_function": "SELECT max(length(s)) FROM pg_temp.retentiond_slices($1, 1048576) s",
    "window_function": "SELECT max(length(w)) FROM pg_temp.retentiond_windows($1) w",
    "raw_function": "SELECT max(length(r)) FROM pg_temp.retentiond_raw($1) r",
    "unquoted_function": "SELECT length(pg_temp.retentiond_unquoted($1))",
    "key_function": "SELECT count(*) FROM pg_temp.retentiond_keys($1)",
    "sent_at_function": "SELECT pg_temp.retentiond_sent_at($1)",
    "string_function": "SELECT count(*) FROM pg_temp.retentiond_strings(pg_temp.retentiond_document($1))",
}


def test_each_function_over_texts_has_its_call_here() -> None:
    assert set(CALLS) == {name for name in (*SQL, *ROOM_SQL) if name.endswith("_function")}


async def processor_time(connection: Connection, statement: str, *arguments: Any) -> float:
    """Run a statement, and return the seconds of a processor that its server took for it."""
    process = await connection.fetchval("SELECT pg_backend_pid()")
    before = spent(process)
    await connection.fetchval(statement, *arguments)
    return spent(process) - before


def spent(process: int) -> float:
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[0]) / 1e9
    except FileNotFoundError:
        pytest.skip("the server is on another machine, or in a container")


@pytest.mark.parametrize("worst", WORST)
async def test_the_work_on_a_text_grows_with_its_length_and_not_with_its_square(
    connection: Connection, worst: str
) -> None:
    await connection.execute("SET statement_timeout = '60s'")
    await prepare(connection)

    async def cost(call: str, length: int) -> float:
        text = WORST[worst](length)
        return min([await processor_time(connection, call, text) for _ in range(2)])

    # Sixteen times the text: sixteen times the work, and not 256 times. What takes no time at all shows nothing.
    growth = {
        name: await cost(call, 320_000) / max(await cost(call, 20_000), 0.002) for name, call in CALLS.items()
    }
    assert {name: factor for name, factor in growth.items() if factor > 80} == {}


async def test_the_work_on_pieces_of_a_very_long_text_grows_with_its_length(connection: Connection) -> None:
    await prepare(connection)
    await connection.execute("CREATE TEMPORARY TABLE long (text text)")

    async def cost(times: int) -> float:
        await connection.execute("TRUNCATE pg_temp.long")
        await connection.execute("INSERT INTO pg_temp.long SELECT repeat('mxc://é/ü ', $1)", times)
        return await processor_time(
            connection,
            "SELECT max(length(w)) FROM pg_temp.long l CROSS JOIN LATERAL pg_temp.retentiond_windows(l.text) AS w",
        )

    # Eight times the text: eight times the work, and not 64 times.
    assert await cost(4_000_000) <= 24 * await cost(500_000)


@pytest.mark.skipif(not NIGHTLY, reason="a value of 274 MB takes its time: RETENTIOND_TEST_NIGHTLY=1")
async def test_an_avatar_of_any_length_costs_its_row_at_most(
    store: DendriteStore, retention: Retention, connection: Connection
) -> None:
    loose, shown = await store.add(), await store.add()
    # An expression works on four bytes a character, and no server has more than 1 GiB for one value.
    await store.add_profile("ann", "")
    await connection.execute(
        "UPDATE userapi_profiles SET avatar_url = repeat('x', 274000000) || ' ' || $1", shown.uri
    )
    plan, items = await retention.one_plan()
    assert (plan.refused, plan.error) == (None, None)
    assert {item.media: item.reason for item in items} == {loose.uri: "due", shown.uri: "profile_avatars"}


@pytest.fixture
async def any_bytes(postgres: DatabaseServer) -> AsyncIterator[str]:
    """A database with dendrite's tables whose texts have no encoding."""
    dsn = await postgres.make("ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    yield dsn
    await postgres.drop(dsn)


async def test_a_text_that_is_not_utf_8_costs_nothing_but_is_kept_and_restored_byte_for_byte(
    any_bytes: str, media_path: Path
) -> None:
    connection = await asyncpg.connect(any_bytes)
    store, retention = DendriteStore(connection, media_path), Retention(any_bytes, media_path)
    loose, shown, named = await store.add(), await store.add(), await store.add(upload_name="Übung ☃ 1.png")
    names = "SELECT media_id, encode(convert_to(upload_name, 'SQL_ASCII'), 'hex') FROM mediaapi_media_repository ORDER BY 1"
    await connection.execute(
        "UPDATE mediaapi_media_repository SET upload_name = E'a\\xff\\xfe.png' WHERE media_id = $1",
        loose.key.media_id,
    )
    await connection.execute(
        "INSERT INTO userapi_account_datas (localpart, server_name, room_id, type, content)"
        f" VALUES ('ann', 'here.test', '', 'x', E'{{\"a\": \"\\xff {shown.uri}\"}}')"
    )
    before = await connection.fetch(names)
    plan, items = await retention.one_plan()
    assert (plan.refused, plan.error) == (None, None)
    assert {item.media: item.reason for item in items} == {
        loose.uri: "due",
        shown.uri: "account_data",
        named.uri: "due",
    }
    by_name = [{"name": "exercises", "match": {"upload_name": "Übung ☃ *"}, "keep": "30d"}]
    report = await retention.one_pass(policies=by_name)
    assert (report.refused, report.error, report.removed_items) == (None, None, 1)
    report = await retention.one_pass()
    assert (report.refused, report.error, report.removed_items) == (None, None, 1)
    async with retention.opened() as target:
        await target.restore(Selection())
        await target.explain(loose.uri, NullProgress())
        await target.statistics(NullProgress())
    assert await connection.fetch(names) == before
    await connection.close()
