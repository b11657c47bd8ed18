"""The backlog: what a survey found due and no pass has taken yet. One that grows is a purge that stalls."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.ledger import SQL as LEDGER_SQL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.model.policy import Policy, Rules
    from retentiond.model.report import PassReport

SQL: Final = named_queries(__package__, "backlog.sql")


async def note_backlog(connection: Conn, target: str, policies: Sequence[Policy]) -> None:
    """Write down what the survey on this connection found due, and since when the oldest of it is."""
    rows = await connection.fetch(SQL["count_backlog"])
    due_since = [
        datetime.fromtimestamp(row["oldest"] / 1000, UTC) + keep
        for row in rows
        if (keep := policies[row["policy"]].keep) is not None
    ]
    await connection.execute(
        LEDGER_SQL["note_backlog"],
        target,
        sum(row["items"] for row in rows),
        sum(row["bytes"] for row in rows),
        min(due_since, default=None),
    )


async def shrink_backlog(connection: Conn, report: PassReport, rules: Rules) -> None:
    """Take off what a pass has taken by age; the bytes of shared contents stay in it until the next survey."""
    by_age = {policy.name for policy in rules.policies if policy.removes == "media"}
    taken = [tally for name, tally in report.removed.items() if name in by_age]
    await connection.execute(
        LEDGER_SQL["shrink_backlog"],
        report.target,
        sum(tally.items for tally in taken),
        sum(tally.bytes for tally in taken),
    )
