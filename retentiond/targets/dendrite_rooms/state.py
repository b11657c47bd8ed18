"""The state of a room target: its status from the ledger, with trouble and unfinished purges, and the checks of `check-config --connect`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import translate_errors
from retentiond.engine.target import NullProgress
from retentiond.ledger.holds import count_holds
from retentiond.ledger.leadership import daemon_of
from retentiond.ledger.lease import current_holder, try_session
from retentiond.ledger.migrations import part_version
from retentiond.ledger.past import read_backlog, read_last_audit, read_last_pass, read_last_success
from retentiond.model.check import Check, PolicyCount
from retentiond.model.errors import RefusedError, RetentiondError, UnreachableError
from retentiond.model.report import TargetStatus
from retentiond.model.text import printable
from retentiond.targets.dendrite_rooms.admin_api import AdminApiError, open_admin_api
from retentiond.targets.dendrite_rooms.context import KIND, SCHEMA, ensure_tables
from retentiond.targets.dendrite_rooms.planning import plan_rooms
from retentiond.targets.dendrite_rooms.purges.due import address_of
from retentiond.targets.dendrite_rooms.purges.purge_table import open_purges
from retentiond.targets.dendrite_rooms.purges.second_look import ensure_own_dendrite
from retentiond.targets.dendrite_rooms.purges.trouble import find_stop

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.model.room_purge import PurgeState
    from retentiond.targets.dendrite_rooms.context import RoomContext

_STATES: Final[dict[PurgeState, str]] = {
    "sent": "its request was sent, and the room is still there; the next sweep goes on",
    "emptied": "the room server has purged it, and rows of sync are awaited; the next sweep goes on",
    "rows_stay": "rows of it stay in sync's tables; `retentiond audit` lists them",
}


async def read_status(context: RoomContext) -> TargetStatus:
    """Read the target's last pass and its running processes."""
    async with context.pool.acquire() as connection:
        if not await context.ledger.exists(connection):
            daemon = await daemon_of(connection, context.name, ledger=False)
            return TargetStatus(context.name, KIND, ledger=False, daemon=daemon)
        await context.ledger.check_version(connection)
        return TargetStatus(
            context.name,
            KIND,
            ledger=True,
            last_pass=await read_last_pass(connection, context.name),
            last_audit=await read_last_audit(connection, context.name),
            holds=await count_holds(connection),
            holder=await current_holder(connection),
            daemon=await daemon_of(connection, context.name, ledger=True),
            backlog=await read_backlog(connection, context.name),
            last_success=await read_last_success(connection, context.name),
            problems=await _purge_problems(connection, context.name),
        )


async def check(context: RoomContext) -> Check:
    """Test the database, the rights and a plan, which counts the rooms of each policy."""
    problems: list[RetentiondError] = []
    try:
        with translate_errors("the database"):
            try:
                await try_session(context.settings.database)
            except RefusedError as error:
                problems.append(error)
            await ensure_tables(context.pool)
            async with context.pool.acquire() as connection:
                missing = await context.ledger.missing_right(connection)
            if missing is not None:
                problems.append(UnreachableError(missing))
            problems += await _check_dendrite(context)
            report = await plan_rooms(context, None, NullProgress())
    except RetentiondError as error:
        return Check([*problems, error])
    # A first pass is always refused without --yes: that is no mistake of the configuration.
    if report.refused is not None and report.refused.limit != "first_pass":
        problems.append(RefusedError(report.refused))
    if (matched := report.matched) is None:
        return Check(problems, (), report.remarks)
    counts = [
        PolicyCount(one.name, matched[one.name], report.due_by[one.name])
        for one in context.settings.rules.policies
    ]
    return Check(problems, counts, report.remarks)


async def _purge_problems(connection: Conn, target: str) -> tuple[str, ...]:
    """Return the trouble that stops a target, and its unfinished purges, a sentence each."""
    if await part_version(connection, SCHEMA[0]) is None:
        return ()
    stopped = await find_stop(connection, target)
    purges = await open_purges(connection, target)
    return (
        *([] if stopped is None else [str(stopped)]),
        *(
            f"the purge of {printable(row['room_id'])} of {row['sent_at']:%Y-%m-%d %H:%M} is not over: {_STATES[row['state']]}"
            for row in purges
        ),
    )


async def _check_dendrite(context: RoomContext) -> list[RetentiondError]:
    """Ask dendrite for its health and its empty rooms, as a pass does; say what stops the target."""
    problems: list[RetentiondError] = []
    async with context.pool.acquire() as connection:
        if await context.ledger.exists(connection) and await part_version(connection, SCHEMA[0]) is not None:
            stopped = await find_stop(connection, context.name)
            if stopped is not None:
                problems.append(RefusedError(stopped))
    try:
        async with open_admin_api(address_of(context)) as api:
            await api.check_health()
            await ensure_own_dendrite(context.pool, api, context.settings.server_names)
    except (AdminApiError, RefusedError) as error:
        problems.append(error)
    return problems
