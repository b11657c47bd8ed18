"""The survey of a request: its rows by key, by server, or by the references of a user or room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg

from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.model.media import parse_media_uri
from retentiond.model.ownership import Ownership
from retentiond.model.policy import Keep
from retentiond.model.request import LEFT_OUT, decide_request
from retentiond.model.text import sentence
from retentiond.targets.dendrite_media.database.rows import key_columns, media_key, media_row
from retentiond.targets.dendrite_media.references.encrypted import shown
from retentiond.targets.dendrite_media.references.sources import Sources, Statement, stream
from retentiond.targets.dendrite_media.store.safety import refuse_foreign_users
from retentiond.targets.dendrite_media.surveys.survey import LEARNED, Surveyor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import Hash, MediaKey
    from retentiond.model.report import Item
    from retentiond.model.request import Request, RequestKind
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.asked import Mentions
    from retentiond.targets.dendrite_media.surveys.survey import Survey

SQL: Final = named_queries(__package__, "requests.sql", shown=shown(LEARNED, row="m", copy="0", names="$4"))
_PAGE: Final = 2000
_ROOMS_SHOWN: Final = 100
_COLUMNS: Final = ("media_id", "media_origin", "room_id", "sender", "own")
_PROFILE: Final = Statement(SQL["profile"], "user_api", "userapi_profiles")


def _events(whose: str) -> Statement:
    tables = "syncapi_output_room_events, syncapi_current_room_state"
    return Statement(SQL["events"].replace("{whose}", whose), "sync_api", tables)


_SOURCES: Final[Mapping[RequestKind, tuple[Statement, ...]]] = {
    # The references of the profile are then looked up in the events.
    "user": (_PROFILE, _events("sender")),
    "room": (_events("room_id"),),
}


class RequestSurveyor(Surveyor):
    """A survey of the requested items alone; `ownership` lists the items left out."""

    def __init__(self, connection: Conn, context: TargetContext, request: Request) -> None:
        super().__init__(connection, context.name, context.settings.rules)
        self._context = context
        self._request = request
        self._sources = Sources.of(context.settings)
        self.ownership = Ownership()

    async def judge(
        self, now: datetime, progress: Progress, listen: Callable[[Item], None] | None = None
    ) -> Survey:
        """Judge every row in the request; the rows to remove go into the temporary table."""
        del now
        await refuse_foreign_users(self._connection, self._rules.server_names)
        await self._collect()
        survey = await self._begin()
        statement, arguments = self._page_query()
        async for page in pages(self._connection, statement, *arguments, size=_PAGE, after=("", "")):
            rows = [media_row(record) for record in page]
            facts = await self._facts_and_hidden([row.key for row in rows])
            names = self._rules.server_names
            judged = [
                (row, decide_request(row, self._request, facts.get(row.key, frozenset()), names))
                for row in rows
            ]
            for row, verdict in judged:
                if isinstance(verdict, Keep) and verdict.reason in LEFT_OUT:
                    self.ownership.leave_out(verdict.reason, row.user_id, row.key.uri)
            await self._take(survey, judged, listen)
            progress.advance(len(page))
        await self._finish()
        await self._count_rooms()
        return survey

    async def sample(self, survey: Survey) -> list[Hash]:
        """Return no blob: no limit applies to a request."""
        del survey
        return []

    async def _facts_and_hidden(self, keys: Collection[MediaKey]) -> Mentions:
        facts = await self.facts(keys)
        if not self._asked:
            return facts
        names = sorted(self._rules.server_names)
        hidden = await self._connection.fetch(SQL["hidden"], *key_columns(keys), self._asked, names)
        return joined(facts, {media_key(row): frozenset(row["sources"]) for row in hidden})

    async def facts(self, keys: Collection[MediaKey]) -> Mentions:
        """Return the facts about each of these for the decisions, from the events when they were read."""
        if self._request.kind not in _SOURCES:
            return {}
        found = await self._connection.fetch(SQL["facts"], *key_columns(keys), self._request.name)
        return {media_key(row): frozenset(row["facts"]) for row in found}

    def _page_query(self) -> tuple[str, tuple[Any, ...]]:
        kind, name = self._request.kind, self._request.name
        match kind:
            case "media":
                return SQL["media_page"], tuple(parse_media_uri(name) or ())
            case "origin":
                return SQL["origin_page"], (name,)
            case "user" | "room":
                return SQL["mentioned_page"], (name,)

    async def _collect(self) -> None:
        """Collect every mention of the references of the user or room, from whichever database they are in."""
        for statement in ("drop_mentions", "make_mentions"):
            await self._connection.execute(SQL[statement])
        for source in _SOURCES.get(self._request.kind, ()):
            try:
                async with self._sources.reading(self._connection, source) as other:
                    await self._take_asked(other)
                    await self._take_mentions(other, source)
            except (asyncpg.PostgresError, UnreachableError) as error:
                if self._connection.is_closed():
                    raise
                raise _unreadable(source, error) from error
        for statement in ("sort_mentions", "analyze_mentions"):
            await self._connection.execute(SQL[statement])

    async def _take_asked(self, other: Conn) -> None:
        """Record the media in question on the connection that reads the events."""
        for statement in ("drop_asked", "make_asked"):
            await other.execute(SQL[statement])
        if self._request.kind != "user":
            return
        if other is self._connection:
            taking = SQL["take_asked"].replace("{source}", SQL["asked"])
            await other.execute(taking, self._request.name)
            return
        async for page in stream(self._connection, SQL["asked"], self._request.name):
            await _copy(other, "retentiond_asked", _COLUMNS[:2], page)

    async def _take_mentions(self, other: Conn, source: Statement) -> None:
        if other is self._connection:
            taking = SQL["take_mentions"].replace("{source}", source.text)
            await other.execute(taking, self._request.name)
            return
        async for page in stream(other, source.text, self._request.name):
            await _copy(self._connection, "request_mention", _COLUMNS, page)

    async def _count_rooms(self) -> None:
        found = await self._connection.fetch(SQL["rooms"], self._request.name, _ROOMS_SHOWN)
        self.ownership.rooms = {row["room_id"]: row["items"] for row in found}
        self.ownership.rooms_in_all = found[0]["rooms"] if found else 0


def joined(facts: Mentions, hidden: Mentions) -> Mentions:
    """Return the facts from the events together with the rows that an encrypted room may show."""
    return {key: facts.get(key, frozenset()) | hidden.get(key, frozenset()) for key in {*facts, *hidden}}


async def _copy(connection: Conn, table: str, columns: tuple[str, ...], page: Collection[Record]) -> None:
    await connection.copy_records_to_table(
        table, schema_name="pg_temp", records=[tuple(row) for row in page], columns=columns
    )


def _unreadable(source: Statement, error: Exception) -> RefusedError:
    return RefusedError(
        Refusal(
            "request_unreadable",
            f"{source.table}: {sentence(str(error))}",
            "readable",
            f"the references of the user or room cannot be read: let this role read {source.table}, or name their database "
            f"under `databases: {{{source.component}: ...}}`",
        )
    )
