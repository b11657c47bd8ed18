"""The survey of a request: which rows it means, by their key, their server, or what a user or room refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import asyncpg

from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.model.media import parse_media_uri
from retentiond.model.request import decide_request
from retentiond.model.text import printable
from retentiond.targets.dendrite_media.database.rows import key_columns, media_key, media_row
from retentiond.targets.dendrite_media.references.sources import Sources, Statement, stream
from retentiond.targets.dendrite_media.store.safety import refuse_foreign_users
from retentiond.targets.dendrite_media.surveys.survey import Surveyor

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import MediaKey
    from retentiond.model.report import Item
    from retentiond.model.request import Request, RequestKind
    from retentiond.targets.dendrite_media.store.workplace import Place
    from retentiond.targets.dendrite_media.surveys.survey import Survey

SQL: Final = named_queries(__package__, "requests.sql")
_PAGE: Final = 2000
_EVENTS: Final = "syncapi_output_room_events, syncapi_current_room_state"


_SOURCES: Final[Mapping[RequestKind, tuple[Statement, ...]]] = {
    "user": (
        Statement(SQL["events_of_user"], "sync_api", _EVENTS),
        Statement(SQL["profile_of_user"], "user_api", "userapi_profiles"),
    ),
    "room": (Statement(SQL["only_in_room"], "sync_api", _EVENTS),),
}


class RequestSurveyor(Surveyor):
    """A survey of what was asked for, and of nothing else."""

    def __init__(self, connection: Conn, place: Place, request: Request) -> None:
        super().__init__(connection, place.name, place.settings.rules)
        self._place = place
        self._request = request
        self._sources = Sources.of(place.settings)

    async def judge(
        self, now: datetime, progress: Progress, listen: Callable[[Item], None] | None = None
    ) -> Survey:
        """Judge every row that the request means; what shall go is put into the temporary table."""
        del now
        await refuse_foreign_users(self._connection, self._rules.server_names)
        await self._collect()
        survey = await self._begin()
        statement, arguments = self._page_query()
        async for page in pages(self._connection, statement, *arguments, size=_PAGE, after=("", "")):
            judged = [
                (row, decide_request(row, self._request, referred_to=record["referred_to"]))
                for record in page
                for row in [media_row(record)]
            ]
            await self._take(survey, judged, listen)
            progress.advance(len(page))
        await self._finish()
        return survey

    async def referred_to(self, keys: Collection[MediaKey]) -> set[MediaKey]:
        """Return which of these keys the user or room refers to."""
        if self._request.kind not in _SOURCES:
            return set()
        columns = [key.media_id for key in keys], [key.media_origin for key in keys]
        return {media_key(row) for row in await self._connection.fetch(SQL["referred_keys"], *columns)}

    def _page_query(self) -> tuple[str, tuple[Any, ...]]:
        kind, name = self._request.kind, self._request.name
        match kind:
            case "media":
                return SQL["media_page"], tuple(parse_media_uri(name) or ())
            case "room":
                return SQL["room_page"], ()
            case "user" | "origin":
                return SQL[f"{kind}_page"], (name,)

    async def _collect(self) -> None:
        """Read what the user or room refers to, in whichever database that lies."""
        await self._connection.execute(SQL["drop_referred"])
        await self._connection.execute(SQL["make_referred"])
        for source in _SOURCES.get(self._request.kind, ()):
            try:
                async with self._sources.reading(self._connection, source) as other:
                    if other is self._connection:
                        taking = SQL["take_referred"].replace("{source}", source.text)
                        await self._connection.execute(taking, self._request.name)
                    else:
                        await self._collect_from(other, source)
            except (asyncpg.PostgresError, UnreachableError) as error:
                if self._connection.is_closed():
                    raise
                raise _unreadable(source, error) from error

    async def _collect_from(self, other: Conn, source: Statement) -> None:
        async for page in stream(other, source.text, self._request.name):
            await self._connection.execute(SQL["take_keys"], *key_columns(media_key(row) for row in page))


def _unreadable(source: Statement, error: Exception) -> RefusedError:
    return RefusedError(
        Refusal(
            "request_unreadable",
            f"{source.table}: {printable(str(error))}",
            "readable",
            f"what the user or room refers to cannot be read: let this role read {source.table}, or name their database "
            f"under `databases: {{{source.component}: ...}}`",
        )
    )
