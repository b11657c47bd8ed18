"""The survey: every row is judged before the first is released, and the due rows are sorted.

PostgreSQL computes the verdicts (verdicts.py): kept rows come back as counts, due rows go into a temporary table of the
connection, and the rows that the expression leaves open are streamed, a page at a time, through `decide`. The due rows
are sorted by hash: memory stays flat, and rows that share a blob come together.
"""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.match import foreign_user
from retentiond.model.media import Hash, MediaKey, valid_hash
from retentiond.model.mentions import ENCRYPTION, Mentioned
from retentiond.model.policy import EncryptionCount, Keep, Remove, decide
from retentiond.model.protections import keep_reason
from retentiond.model.report import Item
from retentiond.model.text import printable
from retentiond.targets.dendrite_media.database.rows import key_columns, media_key, media_row
from retentiond.targets.dendrite_media.holds.holds import keep_held
from retentiond.targets.dendrite_media.references.copies import KEPT_COPY, PLAN_COPY
from retentiond.targets.dendrite_media.references.encrypted import shown
from retentiond.targets.dendrite_media.store.safety import foreign_users, refuse_foreign_users
from retentiond.targets.dendrite_media.surveys.verdicts import ASKED, FOREIGN, compiled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import MediaRow
    from retentiond.model.policy import Removes, Rules
    from retentiond.targets.dendrite_media.surveys.verdicts import Compiled

LEARNED: Final = "pg_temp.mention"
"""The prefix of a survey's own copy of the sources in conditions of policies, with its members; its number is 0."""


def _statements(relation: str) -> Mapping[str, str]:
    return named_queries(
        __package__,
        "survey.sql",
        reference=relation,
        shown_on_page=shown(LEARNED, row="m", copy="0", names="$5"),
        shown_if_asked=shown(LEARNED, row="m", copy="0", names="$4"),
        shown_of=shown(KEPT_COPY, row="k", copy="$3", names="$7"),
        shown_due=shown(relation, row="m", copy="$1", names="$3"),
    )


SQL: Final = _statements(KEPT_COPY)
PLAN_SQL: Final = _statements(PLAN_COPY)

SAMPLE_SIZE: Final = 10_000
_SPARE: Final = 2
"""How many times the sample's size is read at first: rows share blobs."""
_PAGE: Final = 2000
_LARGEST_SIZE: Final = 1 << 40
"""More than any upload: a stranger's number must not overflow a sum of millions of them."""


@dataclass(frozen=True, slots=True)
class Due:
    """A row that is due by age and policy; `kept` is the hold, mark or protection that keeps it all the same.

    `size` is the recorded size of its file.
    """

    blob: Hash
    key: MediaKey
    policy: int
    kept: str | None
    size: int = 0


def due_row(record: Record) -> Due:
    """Return a row of the temporary table."""
    kept = record["kept"]
    return Due(
        Hash(record["hash"]), media_key(record), record["policy"], kept and keep_reason(kept), record["size"]
    )


async def evicted_of(connection: Conn, keys: Sequence[MediaKey]) -> set[MediaKey]:
    """Return the keys of these that a quota of the same plan removes; only a plan has that table."""
    if not keys:
        return set()
    return {media_key(row) for row in await connection.fetch(SQL["evicted_of"], *key_columns(keys))}


@dataclass(slots=True)
class Survey:
    """The counts of a survey: all rows, and the due rows.

    `due_bytes` are the recorded sizes of due rows; `kept_due` counts rows that are due, and kept by a hold, a mark or
    a protection.
    """

    rows: int = 0
    due: int = 0
    due_bytes: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    kept_due: Counter[str] = field(default_factory=Counter)
    foreign: int = 0
    foreign_example: str = ""


class Surveyor:
    """Makes a survey on one connection, and streams the due rows, page by page.

    `matched` counts the rows that each policy decides about, and `encryption` those that an encrypted room may show.
    """

    _removes: Removes = "media"
    _streams = True
    """Whether the due rows are streamed, which takes an index; without it they are counted alone."""

    def __init__(self, connection: Conn, target: str, rules: Rules) -> None:
        self._connection = connection
        self._target = target
        self._rules = rules
        self._asked: list[str] = []
        self._number = 0
        self.matched: Counter[str] = Counter()
        self.encryption = EncryptionCount()

    async def learn(self, copy: int | None, asked: Collection[str], *, plan: bool) -> None:
        """Copy the mentions of media from the references' copy, for the sources in conditions of policies."""
        if copy is None or not asked:
            return
        statements = PLAN_SQL if plan else SQL
        for statement in ("drop_mentions", "make_mentions", "make_members"):
            await self._connection.execute(SQL[statement])
        self._asked = sorted(asked)
        await self._connection.execute(statements["learn_mentions"], copy, self._asked)
        await self._connection.execute(statements["learn_members"], copy)
        for statement in ("sort_mentions", "analyze_mentions", "sort_members", "analyze_members"):
            await self._connection.execute(SQL[statement])

    async def judge(
        self, now: datetime, progress: Progress, listen: Callable[[Item], None] | None = None
    ) -> Survey:
        """Judge every row at the time `now`; due rows go into the temporary table."""
        # A listener is told of each row.
        if listen is None and (policies := self.compiled(now)) is not None:
            survey, rows = await self._judge_there(policies, progress), self._asked_pages()
        else:
            survey, rows = await self._begin(), self._pages()
        async for page in rows:
            judged = []
            for record in page:
                row = media_row(record)
                if foreign_user(row, self._rules.server_names):
                    survey.foreign += 1
                    survey.foreign_example = printable(row.key.uri)
                mentions = self._mentions(record)
                verdict = decide(row, self._rules, now, mentions, removes=self._removes)
                self.encryption.add(row, verdict, self._rules, mentions)
                judged.append((row, verdict))
            await self._take(survey, judged, listen)
            progress.advance(len(page))
        if survey.foreign:
            raise foreign_users(survey.foreign, survey.foreign_example)
        await self._finish()
        return survey

    def compiled(self, now: datetime) -> Compiled | None:
        """Return the policies as an expression; None for a server that reads texts in another way than Python."""
        # Case and wildcards mean the same here and there in UTF-8 alone.
        if self._connection.get_settings().server_encoding != "UTF8":
            return None
        return compiled(self._rules, now, self._removes)

    async def _judge_there(self, policies: Compiled, progress: Progress) -> Survey:
        """Judge the rows on the server, which puts those that it leaves to `decide` into a table of their own."""
        survey = Survey()
        counts = await self._count_codes(policies)
        if foreign := counts.pop(FOREIGN, 0):
            await refuse_foreign_users(self._connection, self._rules.server_names)
            raise foreign_users(foreign, "some that are gone by now")
        asked = counts.pop(ASKED, 0)
        for code, items in counts.items():
            self._count(survey, policies.verdicts[code], items)
        progress.advance(survey.rows)
        for statement in ("drop_due", "drop_asked"):
            await self._connection.execute(SQL[statement])
        await self._take_due(policies)
        if asked:
            asking = SQL["take_asked"].replace("{verdict}", policies.text).replace("{asked}", str(ASKED))
            await self._connection.execute(asking, *policies.arguments)
            await self._connection.execute(SQL["sort_asked"])
        else:
            await self._connection.execute(SQL["make_asked"])
        return survey

    async def _count_codes(self, policies: Compiled) -> dict[int, int]:
        """Count the rows by the codes of their verdicts."""
        counting = SQL["count_verdicts"].replace("{verdict}", policies.text)
        # Only `fetch` reads to the end at once, which lets the server use its workers.
        rows = await self._connection.fetch(counting, *policies.arguments)
        return {row["code"]: row["items"] for row in rows}

    async def _take_due(self, policies: Compiled) -> None:
        """Make the table of due rows, with those whose verdict the server computes."""
        taking, arguments = policies.due_rows(SQL["take_due"], _LARGEST_SIZE)
        await self._connection.execute(taking, *arguments)

    async def sample(self, survey: Survey) -> list[Hash]:
        """Return a random sample of the blobs; all of them if there are few."""
        seed, part = secrets.randbits(63), min(1.0, _SPARE * SAMPLE_SIZE / max(survey.rows, 1))
        while True:
            largest = min(int((part - 0.5) * 2**64), 2**63 - 1)
            found = await self._connection.fetch(SQL["sample"], SAMPLE_SIZE, seed, largest)
            # Many rows may share few blobs.
            if len(found) == SAMPLE_SIZE or part == 1:
                return sorted(blob for row in found if (blob := valid_hash(row["hash"])) is not None)
            part = 1.0

    def _pages(self) -> AsyncIterator[list[Record]]:
        """Stream all rows, with their mentions if policies need them."""
        statement, arguments = "media_page", list[list[str]]()
        if self._asked:
            statement = "media_page_with_mentions"
            arguments = [self._asked, sorted(self._rules.server_names)]
        return pages(self._connection, SQL[statement], *arguments, size=_PAGE, after=("", ""))

    def _asked_pages(self) -> AsyncIterator[list[Record]]:
        """Stream the rows that the server left open, with their mentions if policies need them."""
        statement, arguments = "asked_page", list[list[str]]()
        if self._asked:
            statement = "asked_page_with_mentions"
            arguments = [self._asked, sorted(self._rules.server_names)]
        return pages(self._connection, SQL[statement], *arguments, size=_PAGE, after=(0,))

    def _mentions(self, record: Record) -> frozenset[str] | None:
        return Mentioned(record["mentions"], record["since_ms"]) if self._asked else None

    async def _begin(self) -> Survey:
        await self._connection.execute(SQL["drop_due"])
        await self._connection.execute(SQL["make_due"])
        return Survey()

    async def _take(
        self,
        survey: Survey,
        judged: Sequence[tuple[MediaRow, Keep | Remove]],
        listen: Callable[[Item], None] | None,
    ) -> None:
        """Count a page of judged rows, and put the due rows into the temporary table."""
        due = []
        # Only plans report each item; rows that their quotas remove are reported by the quotas.
        keys = [row.key for row, _ in judged] if listen is not None else []
        untold = await evicted_of(self._connection, keys)
        for row, verdict in judged:
            self._count(survey, verdict)
            if listen is not None and isinstance(verdict, Keep) and row.key not in untold:
                listen(Item(self._target, row.key.uri, "keep", verdict.reason, verdict.policy, 0))
            if isinstance(verdict, Remove):
                size = min(max(0, row.file_size_bytes), _LARGEST_SIZE)
                key = (row.base64hash, row.media_id, row.media_origin)
                # The server numbers its rows upwards from 1.
                self._number -= 1
                due.append((*key, verdict.index, size, verdict.counted_from, self._number))
        await self._connection.copy_records_to_table(
            "due",
            schema_name="pg_temp",
            records=due,
            columns=("hash", "media_id", "media_origin", "policy", "size", "counted_from", "due_id"),
        )

    async def _finish(self) -> None:
        if self._streams:
            await self._connection.execute(SQL["sort_due"])
        await self._connection.execute(SQL["analyze_due"])

    def _count(self, survey: Survey, verdict: Keep | Remove, items: int = 1) -> None:
        survey.rows += items
        if verdict.policy is not None:
            self.matched[verdict.policy] += items
        if isinstance(verdict, Keep) and self._removes == "media":
            survey.kept[verdict.reason] += items

    async def keep(self, survey: Survey, *, ledger: bool, copy: int | None, protections: tuple[str, ...],
                   plan: bool) -> None:  # fmt: skip
        """Mark the rows that holds, marks and protections keep, and count the others."""
        await self.mark_kept(ledger=ledger, copy=copy, protections=protections, plan=plan)
        tallies = {row["kept"]: row for row in await self._connection.fetch(SQL["tally_due"])}
        due = tallies.pop(None, None)
        survey.due, survey.due_bytes = (0, 0) if due is None else (due["items"], due["bytes"])
        survey.kept_due = Counter({reason: row["items"] for reason, row in tallies.items()})

    async def mark_kept(
        self, *, ledger: bool, copy: int | None, protections: tuple[str, ...], plan: bool
    ) -> None:
        """Mark the rows that holds, marks and protections keep, each in one statement."""
        if ledger:
            await keep_held(self._connection, plan=plan)
            await self._connection.execute(SQL["keep_restored"])
        if copy is not None:
            statements, names = PLAN_SQL if plan else SQL, sorted(self._rules.server_names)
            await self._connection.execute(statements["keep_referenced"], copy, list(protections))
            # The last of all protections.
            if hidden := sorted(ENCRYPTION.intersection(protections)):
                await self._connection.execute(statements["keep_encrypted"], copy, hidden, names)

    async def due_by(self) -> Counter[str]:
        """Count the rows left due, by policy; call it after `keep`."""
        policies = self._rules.policies
        rows = await self._connection.fetch(SQL["due_by_policy"])
        return Counter({policies[row["policy"]].name: row["items"] for row in rows})

    async def due(self, size: int) -> AsyncIterator[list[Due]]:
        """Stream the due rows by hash, a page at a time."""
        after: tuple[Any, ...] = ("", 0)
        async for page in pages(self._connection, SQL["due_page"], size=size, after=after):
            yield [due_row(row) for row in page]
