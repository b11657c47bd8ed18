"""What `status` and `check-config --connect` say of purges: trouble, unfinished purges, and whether dendrite can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.ledger.migrations import part_version
from retentiond.model.errors import RefusedError
from retentiond.model.text import printable
from retentiond.targets.dendrite_rooms.admin_api import AdminApiError, open_admin_api
from retentiond.targets.dendrite_rooms.context import SCHEMA
from retentiond.targets.dendrite_rooms.purges.due import address_of
from retentiond.targets.dendrite_rooms.purges.purge_table import open_purges
from retentiond.targets.dendrite_rooms.purges.second_look import refuse_another_dendrite
from retentiond.targets.dendrite_rooms.purges.trouble import find_stop

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.model.errors import RetentiondError
    from retentiond.model.room_purge import PurgeState
    from retentiond.targets.dendrite_rooms.context import RoomContext

_STATES: Final[dict[PurgeState, str]] = {
    "sent": "its request was sent, and the room is still there; the next sweep goes on",
    "emptied": "the room server has purged it, and rows of sync are awaited; the next sweep goes on",
    "rows_stay": "rows of it stay in sync's tables; `retentiond audit` lists them",
}


async def purge_problems(connection: Conn, target: str) -> tuple[str, ...]:
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


async def check_dendrite(context: RoomContext) -> list[RetentiondError]:
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
            await refuse_another_dendrite(context.pool, await api.empty_rooms())
    except (AdminApiError, RefusedError) as error:
        problems.append(error)
    return problems
