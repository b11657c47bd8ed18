"""The sign of trouble that stops a target, until an administrator accepts it by `quarantine accept`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.acceptance import accepts_clock, look_at_ledger, save_acceptance
from retentiond.ledger.clocks import Gap, next_step
from retentiond.ledger.lease import hold_lease
from retentiond.model.acceptance import Acceptance
from retentiond.model.errors import Refusal
from retentiond.model.room_purge import TROUBLES
from retentiond.model.text import printable
from retentiond.targets.dendrite_rooms.context import KIND
from retentiond.targets.dendrite_rooms.purges.purge_table import accept_rows
from retentiond.targets.dendrite_rooms.survey import put_off_seen

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.room_purge import Trouble
    from retentiond.targets.dendrite_rooms.context import RoomContext

SQL: Final = named_queries(__package__, "trouble.sql")
_PATIENCE: Final = 10.0


async def stop_target(
    connection: Conn | Db, target: str, sign: Trouble, room_id: str, detail: str = ""
) -> Refusal:
    """Stop a target by its first sign of trouble; a later one leaves that as it is."""
    await connection.execute(SQL["stop"], target, sign, room_id, detail)
    get_logger(target=target).error("rooms_stopped", sign=sign, room=room_id, detail=detail)
    refusal = await find_stop(connection, target)
    assert refusal is not None  # noqa: S101 - it was just written
    return refusal


async def find_stop(connection: Conn | Db, target: str) -> Refusal | None:
    """Return the refusal of a target that trouble has stopped."""
    row = await connection.fetchrow(SQL["stopped"], target)
    if row is None:
        return None
    told, heals = TROUBLES[row["sign"]]
    detail = f" ({printable(row['detail'], 300)})" if row["detail"] else ""
    return Refusal(
        "dendrite_trouble",
        f"{told}{detail}; room {printable(row['room_id'])}, {row['at']:%Y-%m-%d %H:%M:%S%z}",
        None,
        f"nothing more is purged. To repair it: {heals}. Then {next_step(target)}",
    )


async def accept_trouble(connection: Conn, target: str) -> bool:
    """Let a target work again; return whether it was stopped."""
    return await connection.fetchval(SQL["accept"], target) is not None


async def accept(context: RoomContext, *, yes: bool) -> Acceptance:
    """Report what stops the target, trouble with dendrite or a wrong clock; with `yes` accept it, with the user and the time in the records."""
    acceptance = Acceptance(context.name)
    if not await context.ledger.exists(context.pool):
        return acceptance
    await context.make_ledger()
    await look_at_ledger(
        context.pool, await context.ledger.store(context.pool, context.name, KIND), acceptance
    )
    stopped = await find_stop(context.pool, context.name)
    if stopped is not None:
        acceptance.refused.append(stopped)
    if not yes:
        return acceptance
    async with (
        hold_lease(context.settings.database, "quarantine accept", patience=_PATIENCE) as lease,
        context.pool.acquire() as connection,
        connection.transaction(),
    ):
        await lease.check(connection)
        await accept_trouble(connection, context.name)
        await accept_rows(connection, context.name)
        if accepts_clock(acceptance):
            await put_off_seen(
                connection, Gap(None, await connection.fetchval("SELECT pg_catalog.clock_timestamp()"))
            )
        await save_acceptance(connection, context.ledger, acceptance, last_pass=0)
    acceptance.accepted = True
    return acceptance
