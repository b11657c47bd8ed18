"""The media that only due rooms refer to. They go first: after a purge no table shows in which room they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.report import Tally
from retentiond.targets.dendrite_rooms.survey import copy_rows, stream

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.targets.dendrite_rooms.survey import RoomSurvey

# A JSON text may have a slash behind backslashes. The work grows with the text, never with its square.
_PATTERN: Final = r"'mxc:\\*/\\*/([^/\\\"[:space:]]{1,255})\\*/([A-Za-z0-9_=-]{1,255})'"
SQL: Final = named_queries(__package__, "media.sql", pattern=_PATTERN)
_NAMED: Final = 1000
_KEYS: Final = ("media_origin", "media_id")


@dataclass(frozen=True, slots=True)
class FoundMedia:
    """The media that only due rooms refer to, whether the rooms wait for them, and the URIs in the room asked about."""

    total: Tally
    waits: bool
    named: tuple[str, ...]


async def find_media(survey: RoomSurvey, home: Conn, *, wait: bool, about: str | None = None) -> FoundMedia:
    """Count the media that only due rooms refer to, by room in the survey's table, and name those `about` one room.

    With `wait` such rooms are due no more, but only where a media target works on the same dendrite: without one nothing would ever delete the media.
    """
    async with survey.reading("sync_api") as sync:
        await sync.execute(SQL["drop_tables"])
        await sync.execute(SQL["make_tables"])
        async for page in stream(home, SQL["due_rooms"]):
            await copy_rows(sync, "retentiond_due", ("room_id",), page)
        await sync.execute(SQL["find_named"])
        waits = await _find_stored(survey, sync) and wait
        await sync.execute(SQL["forget_unstored"])
        # Reading every event of the server is for rooms with media alone.
        if await sync.fetchval(SQL["has_named"]):
            await sync.execute(SQL["named_in_rooms"])
            await _find_in_users(survey, sync)
            await sync.execute(SQL["forget_elsewhere"])
        async for page in stream(sync, SQL["by_room"]):
            columns = [row["room_id"] for row in page], [row["media"] for row in page]
            await home.execute(SQL["note_media"], *columns)
        [total] = await sync.fetch(SQL["total"])
        named = await sync.fetch(SQL["of_room"], about, _NAMED)
    if waits:
        await home.execute(SQL["let_wait"])
    names = tuple(f"mxc://{row['media_origin']}/{row['media_id']}" for row in named)
    return FoundMedia(Tally(total["items"], total["bytes"]), waits, names)


async def _find_stored(survey: RoomSurvey, sync: Conn) -> bool:
    async with survey.reading("media_api") as media:
        waits = bool(await media.fetchval(SQL["media_ledger"]))
        stored = SQL["stored"].replace("{quarantined}", SQL["quarantined"] if waits else "")
        stored = stored.replace("{kept}", SQL["kept"] if waits else "")
        if media is sync:
            source = stored.replace("{names}", SQL["named_keys"])
            await sync.execute(SQL["take_stored"].replace("{source}", source))
        else:
            await media.execute(SQL["drop_names"])
            await media.execute(SQL["make_names"])
            async for page in stream(sync, SQL["named_keys"]):
                await copy_rows(media, "retentiond_names", _KEYS, page)
            source = stored.replace("{names}", "TABLE pg_temp.retentiond_names")
            async for page in stream(media, source):
                await copy_rows(sync, "retentiond_stored", (*_KEYS, "bytes"), page)
    return waits


async def _find_in_users(survey: RoomSurvey, sync: Conn) -> None:
    async with survey.reading("user_api") as users:
        if users is sync:
            await sync.execute(SQL["take_elsewhere"].replace("{source}", SQL["named_by_users"]))
        else:
            async for page in stream(users, SQL["named_by_users"]):
                await copy_rows(sync, "retentiond_elsewhere", _KEYS, page)
