"""The target's state from the ledger: available with or without a running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.holds import count_holds
from retentiond.ledger.leadership import daemon_of
from retentiond.ledger.lease import current_holder
from retentiond.ledger.past import read_backlog, read_last_audit, read_last_pass, read_last_success
from retentiond.model.report import QuarantineSummary, Tally, TargetStatus
from retentiond.targets.dendrite_media.database.rights import ensure_tables

if TYPE_CHECKING:
    from datetime import timedelta

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.dendrite_media.store.context import TargetContext

SQL: Final = named_queries(__package__, "status.sql")


async def read_status(context: TargetContext) -> TargetStatus:
    """Read the target's last pass, its quarantine, and its running processes."""
    async with context.pool.acquire() as connection:
        await ensure_tables(connection)
        if not await context.ledger.exists(connection):
            daemon = await daemon_of(connection, context.name, ledger=False)
            return TargetStatus(context.name, "dendrite_media", ledger=False, daemon=daemon)
        await context.ledger.check_version(connection)
        holder = await current_holder(connection)
        return TargetStatus(
            context.name,
            "dendrite_media",
            ledger=True,
            last_pass=await read_last_pass(connection, context.name),
            last_audit=await read_last_audit(connection, context.name),
            quarantine=await _quarantine(connection, context.config.settle),
            holds=await count_holds(connection),
            holder=holder,
            daemon=await daemon_of(connection, context.name, ledger=True),
            problems=await _problems(connection),
            backlog=await read_backlog(connection, context.name),
            last_success=await read_last_success(connection, context.name),
        )


async def _quarantine(connection: Conn, settle: timedelta) -> QuarantineSummary:
    released = await connection.fetchrow(SQL["released_summary"])
    blobs = {
        row["state"]: Tally(row["entries"], row["bytes"])
        for row in await connection.fetch(SQL["quarantine_summary"])
    }
    settling = await connection.fetchrow(SQL["settling"], settle)
    return QuarantineSummary(
        released["items"] if released else 0,
        blobs,
        released["until"] if released else None,
        settling["first"] if settling else None,
        settling["last"] if settling else None,
    )


async def _problems(connection: Conn) -> tuple[str, ...]:
    rows = await connection.fetch(SQL["entry_problems"])
    return tuple(
        f"{row['entries']:,} {'file' if row['entries'] == 1 else 'files'}: {row['problem']}" for row in rows
    )
