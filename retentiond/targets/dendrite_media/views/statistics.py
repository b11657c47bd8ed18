"""Collect the statistics of a store for the report. Like a plan, this changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import read_only_connection
from retentiond.ledger.past import read_freed
from retentiond.model.report import Tally
from retentiond.model.statistics import AgeCurve, Slice, StoreStatistics, with_others
from retentiond.targets.dendrite_media.database.rights import ensure_temporary
from retentiond.targets.dendrite_media.references.shown import read_shown
from retentiond.targets.dendrite_media.references.sources import Sources
from retentiond.targets.dendrite_media.surveys.sizes import due_by_age
from retentiond.targets.dendrite_media.surveys.survey import Surveyor
from retentiond.targets.dendrite_media.views.status import read_status
from retentiond.targets.dendrite_media.views.stored import largest_keys, make_stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.policy import Policy
    from retentiond.model.report import TargetStatus
    from retentiond.model.usage import UsageRow
    from retentiond.targets.dendrite_media.store.context import TargetContext

_MOST_SLICES: Final = 9


async def collect_statistics(context: TargetContext, progress: Progress) -> StoreStatistics:
    """Count the parts of the store, and the removals of each policy at any age; raise RefusedError as a plan does."""
    async with read_only_connection(context.settings.database) as connection:
        ledger = await context.ledger.exists(connection)
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        status = await read_status(context)
        await ensure_temporary(connection)
        await read_shown(Sources.of(context.settings), connection, reading=False)
        total = await make_stored(connection)
        largest = await largest_keys(
            connection,
            ("server", "type", "age"),
            _MOST_SLICES,
            server_names=context.settings.server_names,
            now=now,
        )
        return StoreStatistics(
            context.name,
            "dendrite_media",
            now,
            total,
            by_origin=with_others(_slices(largest["server"]), total, "other servers"),
            by_type=with_others(_slices(largest["type"]), total, "other types"),
            by_age=_slices(largest["age"]),
            curves=await _curves(context, connection, now, progress, ledger=ledger),
            freed=await read_freed(connection, context.name) if ledger else (),
            kept=_kept(status),
            findings=_findings(status),
            quarantine=_in_quarantine(status),
        )


def _slices(rows: Iterable[UsageRow]) -> tuple[Slice, ...]:
    return tuple(Slice(row.key, row.items, row.bytes) for row in rows)


async def _curves(
    context: TargetContext, connection: Conn, now: datetime, progress: Progress, *, ledger: bool
) -> tuple[AgeCurve, ...]:
    """Survey the store as if the age of every policy were zero: the due rows are all that a policy may ever remove."""
    rules = context.settings.rules
    if not rules.policies:
        return ()
    at_once = tuple(replace(policy, keep=timedelta(0)) for policy in rules.policies)
    copy = await context.references.copy_for_plan(connection)
    if ledger:
        await context.hold_references.copy_for_plan(connection)
    surveyor = Surveyor(connection, context.name, replace(rules, policies=at_once))
    await surveyor.learn(copy, context.references.asked, plan=True)
    progress.stage("survey", None)
    survey = await surveyor.judge(now, progress)
    await surveyor.keep(
        survey, ledger=ledger, copy=copy, protections=context.references.protections, plan=True
    )
    curves = [AgeCurve(policy.name, _days(policy)) for policy in rules.policies]
    for part in await due_by_age(connection, rules.policies, now):
        curves[part.policy].add(part.age, part.items, part.bytes)
    return tuple(curves)


def _days(policy: Policy) -> int | None:
    return policy.keep.days if policy.keep is not None else None


def _kept(status: TargetStatus) -> Mapping[str, int]:
    kept: dict[str, Any] = (status.last_pass or {}).get("kept") or {}
    return {str(reason): int(items) for reason, items in kept.get("by_reason", {}).items()}


def _findings(status: TargetStatus) -> Mapping[str, int]:
    """Return the findings of the last audit; without one, those of the last pass."""
    if status.last_audit is not None:
        return {kind: int(tally["items"]) for kind, tally in status.last_audit["findings"].items()}
    return {
        str(kind): int(items) for kind, items in (status.last_pass or {}).get("inconsistencies", {}).items()
    }


def _in_quarantine(status: TargetStatus) -> Tally:
    if status.quarantine is None:
        return Tally()
    return Tally(status.quarantine.items, status.quarantine.bytes)
