"""The due rooms of a pass: purged one after the other, within the hours and with the pause of the configuration."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import connection_to, named_queries
from retentiond.engine.target import StoppedError
from retentiond.ledger.migrations import part_version
from retentiond.model.errors import RefusedError
from retentiond.model.report import SweepReport
from retentiond.model.room_purge import PurgeTerms, RoomOrder
from retentiond.targets.dendrite_rooms.admin_api import AdminAddress
from retentiond.targets.dendrite_rooms.context import SCHEMA
from retentiond.targets.dendrite_rooms.purges.purge import open_purger
from retentiond.targets.dendrite_rooms.purges.purge_table import unfinished
from retentiond.targets.dendrite_rooms.purges.tables import reusable_in_words
from retentiond.targets.dendrite_rooms.purges.trouble import find_stop
from retentiond.targets.dendrite_rooms.survey import RoomSurvey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.engine.target import PassOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.report import PassReport
    from retentiond.model.room_purge import PurgeOutcome
    from retentiond.model.rooms import Room
    from retentiond.targets.dendrite_rooms.context import RoomContext
    from retentiond.targets.dendrite_rooms.purges.purge import Purger
    from retentiond.targets.dendrite_rooms.purges.tables import Databases

_AFTER_A_LOOK: Final = timedelta(seconds=1)
"""The pause after a room that the last look kept: dendrite was asked, and changed nothing."""
SQL: Final = named_queries(__package__, "export.sql")
_MOST_STATE: Final = 5_000
_LONGEST_EVENT: Final = 1 << 16
_LARGEST_STATE: Final = 8 << 20
"""Bytes of all state events together: anybody can make a room of large ones, and the database's JSON has its limit, too."""
_MOST_EVENTS: Final = 100_000


def address_of(context: RoomContext) -> AdminAddress:
    """Return the address of the admin API as configured."""
    api = context.config.admin_api
    url = None if api.url is None else str(api.url)
    return AdminAddress(url, api.unix_socket, api.token.get_secret_value(), api.ca_file)


@asynccontextmanager
async def purger_of(context: RoomContext) -> AsyncIterator[Purger]:
    """Open the purger of a target; dendrite is not asked yet."""
    settings, config = context.settings, context.config
    databases = {
        "room_server": settings.database,
        **{str(one): url for one, url in settings.databases.items()},
    }
    terms = PurgeTerms(cache=config.pace.cache, max_duration=config.limits.max_duration)
    async with open_purger(
        context.name, databases, address_of(context), terms, settings.server_names
    ) as purger:
        yield purger


async def sweep_purges(context: RoomContext) -> SweepReport:
    """Go on with the open purges of a target, if there are any; say what stops the target."""
    async with context.pool.acquire() as connection:
        if await part_version(connection, SCHEMA[0]) is None:
            return SweepReport()
    swept = SweepReport()
    if await unfinished(context.pool, context.name):
        async with purger_of(context) as purger:
            found = await purger.resume()
        swept.purged, swept.lost = len(found.purged), found.stay
    swept.stopped = await find_stop(context.pool, context.name)
    return swept


async def purge_due_rooms(
    context: RoomContext,
    purger: Purger,
    survey: RoomSurvey,
    lease: Lease,
    options: PassOptions,
    report: PassReport,
) -> None:
    """Purge the due rooms; the first failure or open purge ends that, and trouble raises RefusedError."""
    async with connection_to(context.settings.database) as connection:
        again = RoomSurvey(context, connection, survey.now)
        if await _purge_each(context, purger, survey, again, lease, options, report):
            await _name_reusable_space(context, purger, report)


async def _purge_each(
    context: RoomContext,
    purger: Purger,
    survey: RoomSurvey,
    again: RoomSurvey,
    lease: Lease,
    options: PassOptions,
    report: PassReport,
) -> bool:
    """Purge one room after the other; return whether all were reached."""
    pause = timedelta(0)
    async for room, verdict in survey.due():
        if pause:
            await options.stop.wait(pause.total_seconds())
        if options.stop.asked:
            raise StoppedError
        if not context.config.is_open(datetime.now(UTC)):
            report.remarks.append(
                f"{report.not_reached.items} due rooms wait for the hours of `pace: {{window: …}}`"
            )
            return False
        # Hours may have passed since the survey: an alias, a space or a hold may keep the room by now.
        judged = await again.judge_again(room.room_id)
        if judged is not None and judged.reason is not None:
            report.reach(1, room.bytes)
            report.kept[judged.reason] += 1
            options.progress.advance(1, 0)
            pause = timedelta(0)
            continue
        about = await _about(context, purger, room)
        policy = (judged or verdict).policy
        order = RoomOrder(room.room_id, policy or "", room.bytes, about)
        outcome = await purger.purge_room(order, lease=lease, pass_id=report.pass_id, stop=options.stop)
        pause = context.config.pace.pause
        if outcome.kind == "kept":
            pause = min(pause, _AFTER_A_LOOK)
        _count(report, room, order, outcome)
        options.progress.advance(1, room.bytes if outcome.kind == "purged" else 0)
        if outcome.trouble is not None:
            raise RefusedError(outcome.trouble)
        if outcome.kind in {"failed", "open"}:
            if options.stop.asked:
                raise StoppedError
            report.remarks.append(f"nothing more is purged in this pass: {outcome.reason}")
            return False
    return True


async def _about(context: RoomContext, purger: Purger, room: Room) -> dict[str, object]:
    """Return what the ledger keeps of a room: how to find it again, and with `keep_state` its state."""
    about: dict[str, object] = {"creator": room.creator, "version": room.version, "successor": room.successor}
    if context.config.keep_state:
        about |= await export_state(purger.databases, room.room_id, room.room_nid)
    return about


def _count(report: PassReport, room: Room, order: RoomOrder, outcome: PurgeOutcome) -> None:
    if outcome.kind == "open":
        return  # not reached: a sweep goes on with it
    report.reach(1, room.bytes)
    if outcome.kind == "purged":
        report.remove(order.policy, 1, room.bytes)
    elif outcome.kind == "failed":
        report.failed["room_not_purged"] += 1
    elif outcome.obstacle is not None:
        report.kept[outcome.obstacle] += 1


async def _name_reusable_space(context: RoomContext, purger: Purger, report: PassReport) -> None:
    """Say how much space VACUUM can make reusable; it is never run from here, and gives nothing back to the disk."""
    if not report.removed:
        return
    spaces = await purger.databases.reusable_space()
    remark = reusable_in_words(spaces)
    if remark is None:
        return
    report.remarks.append(remark)
    tables = {one.table: one.reusable for one in spaces}
    get_logger(target=context.name).info("reusable_space", bytes=sum(tables.values()), tables=tables)


async def export_state(databases: Databases, room_id: str, room_nid: int) -> dict[str, Any]:
    """Return the state and the IDs of the newest events; `cut` says whether there was more than is kept."""
    found = await databases.sync_api.fetch(
        SQL["state"], room_id, _LONGEST_EVENT, _MOST_STATE + 1, _LARGEST_STATE
    )
    state = [row for row in found[:_MOST_STATE] if row["sum"] <= _LARGEST_STATE]
    events = await databases.room_server.fetch(SQL["event_ids"], room_nid, _MOST_EVENTS + 1)
    return {
        "state": [{name: _storable(value) for name, value in row.items() if name != "sum"} for row in state],
        "events": [_storable(row["event_id"]) for row in events[:_MOST_EVENTS]],
        "cut": len(found) > len(state) or len(events) > _MOST_EVENTS,
    }


def _storable(text: str | None) -> str | None:
    """Return a text that JSON of the database can hold: a database without an encoding has any bytes."""
    return text and text.encode("utf-8", "replace").decode()
