"""What the ledger tells of passes that are over."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from retentiond.ledger.ledger import SQL
from retentiond.model.report import Backlog
from retentiond.model.statistics import FREED_DAYS, Freed

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn


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
    """Return what the passes of a target took, by day in UTC, of the last days."""
    rows = await connection.fetch(SQL["freed"], target, FREED_DAYS)
    return tuple(Freed(row["day"], row["items"], row["bytes"]) for row in rows)


async def read_backlog(connection: Conn, target: str) -> Backlog | None:
    """Return what a target's last survey found due and is there still."""
    row = await connection.fetchrow(SQL["backlog"], target)
    return Backlog(**dict(row)) if row else None
