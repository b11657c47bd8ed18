"""The survey: the facts of every room, set by set, in a temporary table, and the verdict on each."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from retentiond.adapters.postgres import named_queries, pages, read_only_connection, rows_in_pages
from retentiond.ledger.clocks import look_at_clock
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.model.rooms import Room, Verdict, decide
from retentiond.model.text import sentence
from retentiond.targets.dendrite_rooms.context import ensure_tables, ledger_tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import timedelta

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.ledger.clocks import Gap
    from retentiond.targets.dendrite_rooms.context import RoomComponent, RoomContext

SQL: Final = named_queries(__package__, "survey.sql")
MEDIA_SQL: Final = named_queries(__package__, "media.sql")
_SEEN_SQL: Final = named_queries(__package__, "seen.sql")
_PAGE: Final = 1000
stream = partial(rows_in_pages, size=_PAGE)
_FUNCTIONS: Final = ("sent_at_function", "sender_function", "content_function")
_FIELDS: Final = tuple(field.name for field in fields(Room))
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_TABLES: Final = {
    "sync_api": "syncapi_output_room_events, syncapi_current_room_state, syncapi_invite_events",
    "user_api": "userapi_profiles, userapi_account_datas",
    "federation_api": "federationsender_joined_hosts",
    "media_api": "mediaapi_media_repository",
}


class RoomSurvey:
    """The rooms as one connection to the room server's database surveys them."""

    def __init__(self, context: RoomContext, connection: Conn, now: datetime) -> None:
        self._context = context
        self._connection = connection
        self.now = now

    async def take(self, room_id: str | None = None, *, everything: bool = False) -> None:
        """Collect the facts of all rooms, or of one; what a pass has seen before is not among them yet.

        Events of rooms with a joined local user are read with `everything` alone: no verdict needs them.
        """
        connection = self._connection
        await ensure_tables(connection)
        await _prepare(connection)
        await connection.execute(SQL["take_rooms"], everything, room_id)
        await connection.execute(SQL["analyze_rooms"])
        await connection.execute(SQL["date_rooms"])
        await connection.execute(SQL["take_aliases"])
        names = sorted(self._context.settings.server_names)
        async with self.reading("sync_api") as sync:
            if sync is connection:
                source = SQL["take_state"].replace("{source}", SQL["state_of_rooms"])
                await connection.execute(source, names)
            else:
                await self._take_state_from(sync, names)
        await connection.execute(SQL["find_successors"])

    async def _take_state_from(self, sync: Conn, names: Sequence[str]) -> None:
        await _prepare(sync)
        async for page in stream(self._connection, SQL["wanted_rooms"]):
            await copy_rows(sync, "retentiond_room", ("room_nid", "room_id"), page)
        await sync.execute(SQL["analyze_rooms"])
        await self._connection.execute(SQL["drop_state"])
        await self._connection.execute(SQL["make_state"])
        columns = ("room_id", "bytes", "successor", "upgraded_ms", "parents", "state_disagrees")
        async for page in stream(sync, SQL["state_of_rooms"], names):
            await copy_rows(self._connection, "retentiond_room_state", columns, page)
        await self._connection.execute(SQL["take_state"].replace("{source}", SQL["state_table"]))

    async def read_ledger(self) -> None:
        """Add what the ledger knows: since when each room was seen so, and holds. Without a ledger there is nothing."""
        known = await ledger_tables(self._connection)
        if known["seen"]:
            await self._context.ledger.check_version(self._connection)
            gap = (await look_at_clock(self._connection, self._context.name)).gap
            between = (gap.began, gap.ended) if gap is not None else (None, None)
            await self._connection.execute(_SEEN_SQL["take_seen"], *between)
        if known["holds"]:
            await self._connection.execute(_SEEN_SQL["take_holds"])

    async def note_seen(self) -> None:
        """Write to the ledger which rooms are without local users now; of a survey of all rooms only."""
        async with self._connection.transaction():
            await self._connection.execute(_SEEN_SQL["forget_seen"])
            await self._connection.execute(_SEEN_SQL["note_seen"])

    async def judged(self) -> AsyncIterator[list[tuple[Room, Verdict]]]:
        """Stream all rooms with their verdicts, a page at a time; note the due ones in the table."""
        rules = self._context.settings.rules
        async for page in pages(self._connection, SQL["rooms_page"], size=_PAGE, after=(-1,)):
            verdicts = [(room, decide(room, rules, self.now)) for room in map(room_of, page)]
            due = [(room.room_nid, one.policy, one.due) for room, one in verdicts if one.due is not None]
            if due:
                await self._connection.execute(SQL["note_due"], *map(list, zip(*due, strict=True)))
            yield verdicts

    async def judge_again(self, room_id: str) -> Verdict | None:
        """Judge one room by all its facts as they are now, on a connection of its own; None where it is not there any more."""
        self.now = await self._connection.fetchval("SELECT pg_catalog.clock_timestamp()")
        await self.take(room_id)
        await self.read_ledger()
        async for page in self.judged():
            return page[0][1]
        return None

    async def waiting(self) -> AsyncIterator[tuple[Room, Verdict]]:
        """Stream the rooms that are old enough and wait for their media."""
        async for page in pages(self._connection, MEDIA_SQL["waiting_page"], size=_PAGE, after=(-1,)):
            for row in page:
                yield room_of(row), Verdict("media", row["policy"])

    async def due(self) -> AsyncIterator[tuple[Room, Verdict]]:
        """Stream the due rooms, those that are due the longest first."""
        after = _BEGINNING, -1
        while page := await self._connection.fetch(SQL["due_page"], *after, _PAGE):
            for row in page:
                yield room_of(row), Verdict(None, row["policy"], row["due"])
            after = page[-1]["due"], page[-1]["room_nid"]

    async def totals(self) -> tuple[int, int, int]:
        """Return the rooms and events of the server, and the bytes of the tables with events."""
        [row] = await self._connection.fetch(SQL["totals"])
        async with self.reading("sync_api") as sync:
            size = await sync.fetchval(SQL["sync_totals"])
        return row["rooms"], row["events"], row["bytes"] + size

    @asynccontextmanager
    async def reading(self, component: RoomComponent) -> AsyncIterator[Conn]:
        """Yield a connection to a component's database: our own if it is the room server's.

        An error of its tables becomes a refusal with the next step.
        """
        tables, settings = _TABLES[component], self._context.settings
        url = settings.databases[component]
        try:
            if url == settings.database:
                yield self._connection
                return
            async with read_only_connection(url, f"the database of {tables}") as other:
                yield other
        except (asyncpg.PostgresError, UnreachableError) as error:
            if self._connection.is_closed():
                raise
            hint = (
                f"let this role read {tables} (GRANT SELECT), or name their database under `databases: {{{component}: ...}}`; "
                "no room is purged until they can be read"
            )
            found = f"{tables}: {sentence(str(error))}"
            raise RefusedError(Refusal("protection_unreadable", found, "readable", hint)) from error


def room_of(row: Record) -> Room:
    """Return a row of the temporary table as a room."""
    values: dict[str, Any] = {name: row[name] for name in _FIELDS}
    return Room(**values | {name: tuple(values[name]) for name in ("aliases", "parents")})


async def put_off_seen(connection: Conn, gap: Gap) -> None:
    """Let no cool-off end by time that is not known to have passed; call it in the transaction that notes the clock."""
    await connection.execute(_SEEN_SQL["put_off_seen"], gap.began, gap.ended)


async def find_alias(db: Db, alias: str) -> str | None:
    """Return the room of an alias of this server."""
    room_id: str | None = await db.fetchval(SQL["room_of_alias"], alias)
    return room_id


async def let_pass(connection: Conn, time: timedelta) -> None:
    """Make the first looks so much older: for the demo, which cannot wait."""
    await connection.execute(_SEEN_SQL["let_pass"], time)


async def _prepare(connection: Conn) -> None:
    await connection.execute("\n;\n".join(SQL[name] for name in (*_FUNCTIONS, "drop_rooms", "make_rooms")))


async def copy_rows(connection: Conn, table: str, columns: Sequence[str], page: Sequence[Record]) -> None:
    """Copy rows of another connection into a temporary table."""
    records = [tuple(row) for row in page]
    await connection.copy_records_to_table(table, schema_name="pg_temp", columns=columns, records=records)
