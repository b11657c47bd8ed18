"""The daily samples of targets: the only module that reads and writes their table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, named_queries
from retentiond.ledger.records import prune_records
from retentiond.model.report import Tally
from retentiond.model.usage import DIVISIONS, Sample, UsageRow

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.report import PassReport
    from retentiond.model.usage import UsageBy

SQL: Final = named_queries(__package__, "samples.sql")


async def has_sample(connection: Conn | Db, target: str) -> bool:
    """Return whether today has a sample of the target already."""
    return bool(await connection.fetchval(SQL["has_sample"], target))


async def save_sample(
    connection: Conn | Db,
    target: str,
    stored: Tally,
    *,
    classes: Mapping[str, Tally],
    largest: Mapping[UsageBy, list[UsageRow]],
    free_bytes: int | None,
) -> bool:
    """Add the sample of today; return False where another process has added it meanwhile."""
    classes_json = {name: [tally.items, tally.bytes] for name, tally in classes.items()}
    largest_json = {by: [[row.key, row.items, row.bytes] for row in rows] for by, rows in largest.items()}
    day = await connection.fetchval(
        SQL["save_sample"],
        target,
        stored.items,
        stored.bytes,
        json.dumps(classes_json),
        json.dumps(largest_json),
        free_bytes,
    )
    return day is not None


async def read_samples(connection: Conn | Db, target: str, most: int | None) -> list[Sample]:
    """Return the newest samples of a target, at most so many, oldest first."""
    return [_sample(row) for row in await connection.fetch(SQL["samples"], target, most)]


def _sample(row: Record) -> Sample:
    classes: dict[str, list[int]] = json.loads(row["classes"])
    largest: dict[UsageBy, list[list[Any]]] = json.loads(row["largest"])
    return Sample(
        row["day"],
        row["at"],
        Tally(row["items"], row["bytes"]),
        classes={name: Tally(*counts) for name, counts in classes.items()},
        # A column of JSON has an order of its own.
        largest={by: tuple(UsageRow(*part) for part in largest[by]) for by in DIVISIONS if by in largest},
        free_bytes=row["free_bytes"],
        database_bytes=row["database_bytes"],
        taken=Tally(row["taken_items"], row["taken_bytes"]),
        purged=Tally(row["purged_items"], row["purged_bytes"]),
        restored=row["restored_items"],
    )


async def prune_after(connection: Conn, report: PassReport, keep: timedelta | None) -> None:
    """Prune records and samples at the end of a pass; None keeps all. If the server is lost, the next pass does it."""
    # A refusal may be for the clock, and by a wrong clock every record is old.
    if keep is None or report.state not in {"finished", "finished_with_failures"}:
        return
    try:
        await prune_records(connection, report.target, keep)
        await connection.execute(SQL["prune_samples"], keep)
    except LOST as error:
        get_logger(target=report.target).warning("records_not_pruned", reason=str(error))
