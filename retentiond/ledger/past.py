"""The history of passes and audits, as the ledger remembers it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.report import Backlog, Tally
from retentiond.model.statistics import FREED_DAYS, Freed, PassTotals

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.adapters.postgres import Conn, Db

SQL: Final = named_queries(__package__, "past.sql")


async def read_last_pass(connection: Conn, target: str) -> dict[str, Any] | None:
    """Return the newest pass of a target, or its last refusal where that came later."""
    row = await connection.fetchrow(SQL["last_pass"], target)
    refusal = await connection.fetchrow(SQL["last_refusal"], target)
    if refusal is not None and (row is None or refusal["at"] > row["started_at"]):
        return {
            "pass_id": None,
            "state": "refused",
            "started_at": refusal["at"],
            "finished_at": refusal["at"],
            "refused": json.loads(refusal["refused"]),
        }
    if row is None:
        return None
    report = json.loads(row["report"]) if row["report"] else {}
    return report | {name: row[name] for name in ("pass_id", "state", "started_at", "finished_at")}


async def read_last_audit(connection: Conn, target: str) -> dict[str, Any] | None:
    """Return the newest audit of a target."""
    row = await connection.fetchrow(SQL["last_audit"], target)
    if row is None:
        return None
    report: dict[str, Any] = json.loads(row["report"])
    return report | {name: row[name] for name in ("command", "started_at", "finished_at")}


async def read_freed(connection: Conn, target: str) -> tuple[Freed, ...]:
    """Return the deletions of a target's passes, by day in UTC, for the last days."""
    rows = await connection.fetch(SQL["freed"], target, FREED_DAYS)
    return tuple(Freed(row["day"], row["items"], row["bytes"]) for row in rows)


async def read_totals(connection: Conn, target: str) -> PassTotals:
    """Return the deletions, purges and restores of all passes of a target."""
    row = await connection.fetchrow(SQL["totals"], target)
    assert row is not None  # noqa: S101 - an aggregate has one row
    return PassTotals(
        Tally(row["taken_items"], row["taken_bytes"]),
        Tally(row["purged_items"], row["purged_bytes"]),
        row["restored"],
    )


async def read_backlog(connection: Conn, target: str) -> Backlog | None:
    """Return the media that a target's last survey found due and that still exist."""
    row = await connection.fetchrow(SQL["backlog"], target)
    return Backlog(**dict(row)) if row else None


async def read_last_success(connection: Conn, target: str) -> datetime | None:
    """Return when the newest pass of a target that did all of its work ended."""
    ended: datetime | None = await connection.fetchval(SQL["last_success"], target)
    return ended


async def read_pass_state(pool: Db, pass_id: int) -> str | None:
    """Return the state of a pass; None for an unknown number."""
    state: str | None = await pool.fetchval(SQL["pass_state"], pass_id)
    return state


async def save_audit(
    pool: Db, target: str, command: str, began: datetime, ended: datetime, report: dict[str, Any]
) -> None:
    """Remember an audit with its report."""
    await pool.execute(SQL["save_audit"], target, command, began, ended, json.dumps(report))


async def save_backlog(connection: Conn, target: str, items: int, size: int, since: datetime | None) -> None:
    """Remember the items that are due and were not removed, and since when the oldest is due."""
    await connection.execute(SQL["save_backlog"], target, items, size, since)


async def shrink_backlog(connection: Conn, target: str, removed: int) -> None:
    """Take removed items off the backlog, of items without a size; the last one ends it."""
    await connection.execute(SQL["shrink_backlog"], target, removed)
