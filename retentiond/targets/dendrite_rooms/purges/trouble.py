"""The sign of trouble that stops a target, until an administrator accepts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.clocks import next_step
from retentiond.model.errors import Refusal
from retentiond.model.room_purge import TROUBLES
from retentiond.model.text import printable

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.room_purge import Trouble

SQL: Final = named_queries(__package__, "trouble.sql")


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
        f"nothing more is purged. What heals it: {heals}. Then {next_step(target)}",
    )


async def accept_trouble(connection: Conn, target: str) -> bool:
    """Let a target work again; return whether it was stopped."""
    return await connection.fetchval(SQL["accept"], target) is not None
