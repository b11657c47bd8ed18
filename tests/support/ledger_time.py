"""Time that passes for the ledger alone: what it noted moves into the past, and nobody has to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import timedelta

    import asyncpg

_MOMENTS: Final = {
    "entry": ("renamed_at", "looked_at", "retry_at", "grace_until"),
    "released_media": ("released_at", "grace_until"),
    "released_thumbnail": ("released_at", "grace_until"),
    "thumbnail_release": ("released_at", "grace_until"),
    "shared_blob": ("noted_at",),
    "suspect_thumbnail": ("seen_at",),
    "reference_copy": ("begun_at",),
    "room_seen": ("first_seen",),
}


async def let_pass(connection: asyncpg.Connection[asyncpg.Record], time: timedelta) -> None:
    """Make everything that the quarantine has noted so much older."""
    for table, columns in _MOMENTS.items():
        changes = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
        await connection.execute(f"UPDATE retentiond.{table} SET {changes}", time)
