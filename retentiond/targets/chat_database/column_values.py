"""What columns make of values: a cast shortens or rewrites some without a word, and others cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn


async def held_as(connection: Conn, value: str, kind: str) -> str | None:
    """Return what a column of a type makes of a value, as text; None where it can hold no such value."""
    try:
        held: str | None = await connection.fetchval(f"SELECT $1::text::{kind}::text", value)
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError):
        return None
    return held
