"""The target's state as the ledger tells it: it works while a daemon runs, and while none does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from retentiond.ledger.holds import count_holds
from retentiond.ledger.lease import current_holder
from retentiond.ledger.ledger import SQL as LEDGER_SQL
from retentiond.model.report import Backlog, QuarantineSummary, Tally, TargetStatus
from retentiond.targets.dendrite_media.database import SQL

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.targets.dendrite_media.workplace import Place


async def read_status(place: Place) -> TargetStatus:
    """Read the target's last pass, its quarantine, and who looks after it."""
    async with place.pool.acquire() as connection:
        if not await place.ledger.exists(connection):
            return TargetStatus(place.name, "dendrite_media", ledger=False)
        await place.ledger.check_version(connection)
        holder = await current_holder(connection)
        daemons = await connection.fetch(LEDGER_SQL["daemons"])
        return TargetStatus(
            place.name,
            "dendrite_media",
            ledger=True,
            last_pass=await _last_pass(connection, place.name),
            last_audit=await _last_audit(connection, place.name),
            quarantine=await _quarantine(connection),
            holds=await count_holds(connection),
            holder=str(holder) if holder else None,
            daemon=", ".join(f"{row['host']}, pid {row['pid']}" for row in daemons) or None,
            problems=await _problems(connection),
            backlog=await _backlog(connection, place.name),
            last_success=await connection.fetchval(LEDGER_SQL["last_success"], place.name),
        )


async def _last_pass(connection: Conn, target: str) -> dict[str, Any] | None:
    row = await connection.fetchrow(LEDGER_SQL["last_pass"], target)
    refusal = await connection.fetchrow(LEDGER_SQL["last_refusal"], target)
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


async def _last_audit(connection: Conn, target: str) -> dict[str, Any] | None:
    row = await connection.fetchrow(LEDGER_SQL["last_audit"], target)
    if row is None:
        return None
    report: dict[str, Any] = json.loads(row["report"])
    return report | {name: row[name] for name in ("command", "started_at", "finished_at")}


async def _backlog(connection: Conn, target: str) -> Backlog | None:
    row = await connection.fetchrow(LEDGER_SQL["backlog"], target)
    return Backlog(**dict(row)) if row else None


async def _quarantine(connection: Conn) -> QuarantineSummary:
    released = await connection.fetchrow(SQL["released_summary"])
    blobs = {
        row["state"]: Tally(row["entries"], row["bytes"])
        for row in await connection.fetch(SQL["quarantine_summary"])
    }
    return QuarantineSummary(
        released["items"] if released else 0, blobs, released["until"] if released else None
    )


async def _problems(connection: Conn) -> tuple[str, ...]:
    rows = await connection.fetch(SQL["entry_problems"])
    return tuple(f"{row['entries']} blobs: {row['problem']}" for row in rows)
