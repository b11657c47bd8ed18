"""The copy of all references: media in profiles, room state and account data are never purged.

Each source is read whole, in one statement, into a copy; passes and sweeps read the copy. An unreadable source
refuses all work that would rely on it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import UnreachableError
from retentiond.targets.dendrite_media.references.sources import (
    MEMBERS,
    MESSAGES,
    ROOM_COLUMNS,
    ROOM_SQL,
    refusing,
    statements,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.dendrite_media.references.sources import Sources, Statement

SQL: Final = named_queries(__package__, "references.sql")
KEPT_COPY: Final = "retentiond.reference"
PLAN_COPY: Final = "pg_temp.plan_reference"
"""The schema and prefix of a copy of references: the ledger's, and a plan's own."""
_SOURCE_COLUMNS: Final = ("copy_id", "source", "media_id", "media_origin")
_COLUMNS: Final = {
    MESSAGES: (*_SOURCE_COLUMNS, "since_ms"),
    MEMBERS: ("copy_id", "user_id", "until_ms"),
}
_FILLING: Final = {MESSAGES: SQL["copy_messages"], MEMBERS: SQL["copy_members"]}
LARGEST_AGE: Final = timedelta(minutes=10)
"""The largest age of a copy on which a deletion may rely."""
SEEN_SQL: Final = named_queries(__package__, "seen.sql")


@dataclass(frozen=True, slots=True)
class Copy:
    """A whole copy of the references of all sources, and when it was begun by the database server's clock."""

    copy_id: int
    begun_at: datetime


class References:
    """The copy of references from the sources of a target.

    `protections` keep the media that they mention, the first of them is the reason; `asked` are the sources in
    conditions of policies. Sweeps need the protections only.
    """

    def __init__(self, sources: Sources, protections: Sequence[str], asked: Collection[str]) -> None:
        self._sources = sources
        self.protections = tuple(protections)
        self.asked = frozenset(asked)
        self._everything = (*self.protections, *sorted(self.asked - set(self.protections)))

    @property
    def server_names(self) -> list[str]:
        """The names of this server, as statements take them."""
        return sorted(self._sources.server_names)

    def only(self, protections: Sequence[str], asked: Collection[str] = ()) -> References:
        """Return references with only these protections and sources."""
        return References(self._sources, protections, asked)

    async def copy(self, connection: Conn, *, begun_after: datetime) -> Copy | None:
        """Return a copy of all sources begun after that time; make one if necessary.

        None if there is no source. The copy may be dropped at any time: `held` keeps it. Raise RefusedError if a
        source cannot be read.
        """
        return await self._copy(connection, self._everything, begun_after)

    @asynccontextmanager
    async def held(self, connection: Conn, *, begun_after: datetime) -> AsyncIterator[int | None]:
        """Open a transaction, and yield the number of a copy, which is not dropped before the transaction ends."""
        while True:
            copy = await self.copy(connection, begun_after=begun_after)
            async with connection.transaction():
                if copy is None or await connection.fetchval(SQL["hold_copy"], copy.copy_id) is not None:
                    yield copy.copy_id if copy else None
                    return

    async def _copy(self, connection: Conn, wanted: Sequence[str], begun_after: datetime) -> Copy | None:
        if not wanted:
            return None
        found = await connection.fetchrow(SQL["newest_copy"], list(wanted), begun_after)
        return Copy(**dict(found)) if found else await self._make(connection, wanted, begun_after)

    async def _make(self, connection: Conn, wanted: Sequence[str], begun_after: datetime) -> Copy:
        # One transaction: a reader that finds the copy's number finds all of it.
        async with connection.transaction():
            await connection.execute(SQL["take_turn"])
            await connection.execute(SQL["lock_copying"])
            await connection.execute(SQL["end_patience"])
            made_meanwhile = await connection.fetchrow(SQL["newest_copy"], list(wanted), begun_after)
            if made_meanwhile:
                return Copy(**dict(made_meanwhile))
            copy = await connection.fetchrow(SQL["begin_copy"], list(wanted))
            if copy is None:
                raise UnreachableError("the ledger took no copy of the references; look at the server's log")
            await self._fill(connection, KEPT_COPY, copy["copy_id"], wanted)
        await connection.execute(SQL["drop_old_copies"], copy["copy_id"])
        await connection.execute(SQL["analyze_copy"].replace("{reference}", KEPT_COPY))
        return Copy(**dict(copy))

    async def copy_for_plan(self, connection: Conn) -> int | None:
        """Fill a copy that ends with the connection, and return its number; raise RefusedError."""
        if not self._everything:
            return None
        for statement in ("make_plan_copy", "make_plan_members", "sort_plan_members"):
            await connection.execute(SQL[statement])
        await self._fill(connection, PLAN_COPY, 0, self._everything)
        await connection.execute(SQL["analyze_copy"].replace("{reference}", PLAN_COPY))
        return 0

    async def _fill(self, connection: Conn, relation: str, copy_id: int, wanted: Sequence[str]) -> None:
        for statement in statements(wanted):
            with refusing(connection, statement):
                async with self._sources.reading(connection, statement) as source:
                    if statement is MESSAGES and await self._sources.classify_rooms(
                        source, connection, wanted
                    ):
                        await date_rooms(source, connection, note=relation == KEPT_COPY)
                    if source is connection:
                        await self._fill_here(connection, relation, copy_id, statement, wanted)
                    else:
                        await self._fill_from(source, connection, relation, copy_id, statement, wanted)

    async def _fill_here(
        self, connection: Conn, relation: str, copy_id: int, statement: Statement, wanted: Sequence[str]
    ) -> None:
        # An INSERT takes no workers, a table made by its query does.
        await connection.execute(SQL["drop_found"])
        reading = SQL["make_found"].replace("{source}", statement.text)
        await connection.execute(reading, self._asked_with(statement, wanted))
        filling = _FILLING.get(statement, SQL["copy_source"]).replace("{reference}", relation)
        await connection.execute(filling, copy_id)
        await connection.execute(SQL["drop_found"])

    async def _fill_from(
        self, source: Conn, connection: Conn, relation: str, copy_id: int, statement: Statement,
        wanted: Sequence[str],
    ) -> None:  # fmt: skip
        schema, table = (f"{relation}_member" if statement is MEMBERS else relation).split(".")
        async for page in stream(source, statement.text, self._asked_with(statement, wanted)):
            await connection.copy_records_to_table(
                table,
                schema_name=schema,
                records=[(copy_id, *row) for row in page],
                columns=_COLUMNS.get(statement, _SOURCE_COLUMNS),
            )

    def _asked_with(self, statement: Statement, wanted: Sequence[str]) -> list[str]:
        """Return the parameter of a source's statement: the names of this server for members, otherwise the sources."""
        return self.server_names if statement is MEMBERS else list(wanted)


async def date_rooms(source: Conn, connection: Conn, *, note: bool) -> None:
    """Date the undated rooms on `source`, the connection that classified them, by the ledger on `connection`.

    `note` first adds new rooms to the ledger, and deletes those that are no longer of the kind; a plan only reads.
    """
    if not await connection.fetchval(SEEN_SQL["has_ledger"]):
        return
    if source is not connection:
        await connection.execute(ROOM_SQL["drop_room_kinds"])
        await connection.execute(ROOM_SQL["make_room_kinds"])
        async for page in stream(source, SEEN_SQL["undated_rooms"]):
            await connection.copy_records_to_table(
                "retentiond_room",
                schema_name="pg_temp",
                records=[tuple(row) for row in page],
                columns=ROOM_COLUMNS,
            )
    if note:
        await connection.execute(SEEN_SQL["forget_rooms"])
        await connection.execute(SEEN_SQL["note_rooms"])
    # Read to the end first: no statement runs on a connection with an open cursor.
    for page in [page async for page in stream(connection, SEEN_SQL["dated_rooms"])]:
        columns = ([row[name] for row in page] for name in ("room_id", "kind", "since_ms"))
        await source.execute(SEEN_SQL["date_rooms"], *columns)
