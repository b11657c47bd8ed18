"""Collect the statistics of a store for the report. Like a plan, this changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, cast

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries, read_only_connection
from retentiond.ledger.past import read_freed, read_totals
from retentiond.model.errors import UnreachableError
from retentiond.model.limits import Counts, headroom
from retentiond.model.report import Tally
from retentiond.model.statistics import AgeCurve, Slice, StoreStatistics, with_others
from retentiond.model.usage import MOST_ROWS, OTHERS, with_rest
from retentiond.targets.dendrite_media.database.rights import ensure_temporary
from retentiond.targets.dendrite_media.references.sources import Sources, Statement
from retentiond.targets.dendrite_media.surveys.criteria import PolicyCriteria, count_growth, has_growth
from retentiond.targets.dendrite_media.surveys.sizes import due_by_age, keeps_of, milliseconds
from retentiond.targets.dendrite_media.surveys.survey import SQL as SURVEY
from retentiond.targets.dendrite_media.surveys.survey import Survey, Surveyor
from retentiond.targets.dendrite_media.views.status import read_status
from retentiond.targets.dendrite_media.views.usage import SQL as STORED
from retentiond.targets.dendrite_media.views.usage import (
    largest_files,
    largest_keys,
    make_stored,
    read_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.limits import Headroom
    from retentiond.model.policy import Policy
    from retentiond.model.report import TargetStatus
    from retentiond.model.usage import UsageBy, UsageRow
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.verdicts import Compiled
    from retentiond.targets.dendrite_media.views.usage import Division

SQL: Final = named_queries(__package__, "statistics.sql")
_NAMES: Final = Statement(SQL["room_names"], "sync_api", "syncapi_current_room_state")
_LONGEST_NAME: Final = 255
_MOST_SLICES: Final = 9
_DIVISIONS: Final[tuple[Division, ...]] = ("server", "room", "user", "type", "age")

_log = get_logger()


class _MeasuringSurveyor(Surveyor):
    """Measures the store and finds the due rows in one reading: each measured row has its verdict with it."""

    _streams = False

    async def measure(self, now: datetime) -> Tally:
        """Measure every row, and return the total; `judge` is for the same time."""
        return await make_stored(self._connection, self.compiled(now))

    async def _count_codes(self, policies: Compiled) -> dict[int, int]:
        del policies  # computed with the measure
        return {row["code"]: row["items"] for row in await self._connection.fetch(SQL["count_codes"])}

    async def _take_due(self, policies: Compiled) -> None:
        await self._connection.execute(SQL["take_due"], policies.indexes)

    async def _finish(self) -> None:
        async with self._connection.transaction():
            await self._connection.execute(STORED["few_statistics"])
            await self._connection.execute(SURVEY["analyze_due"])

    async def _begin(self) -> Survey:
        # Every row is left to `decide`, and none is measured in the table of due rows.
        await self._connection.execute(SURVEY["drop_due"])
        await self._connection.execute(SQL["take_due"], [])
        return Survey()


async def collect_statistics(context: TargetContext, progress: Progress) -> StoreStatistics:
    """Count the parts of the store, and the removals of each policy at any age; raise RefusedError as a plan does."""
    async with read_only_connection(context.settings.database) as connection:
        ledger = await context.ledger.exists(connection)
        now: datetime = await connection.fetchval("SELECT clock_timestamp()")
        status = await read_status(context)
        await ensure_temporary(connection)
        progress.stage("references", None)
        shown = await read_events(context, connection)
        progress.stage("sizes", None)
        # As if the age of every policy were zero: the due rows are all that a policy may ever remove.
        rules = context.settings.rules
        at_once = tuple(replace(policy, keep=timedelta(0)) for policy in rules.policies)
        surveyor = _MeasuringSurveyor(connection, context.name, replace(rules, policies=at_once))
        total = await surveyor.measure(now)
        usage = await _usage(context, connection, now, total, rooms=shown)
        return StoreStatistics(
            context.name,
            "dendrite_media",
            now,
            total,
            usage=usage,
            by_origin=with_others(_slices(usage["server"]), total, "other servers"),
            by_type=with_others(_slices(usage["type"]), total, "other types"),
            by_age=_slices(usage["age"]),
            curves=await _curves(context, surveyor, connection, now, progress, ledger=ledger),
            limits=await _limits(context, connection, now, total, ledger=ledger),
            freed=await read_freed(connection, context.name) if ledger else (),
            totals=await read_totals(connection, context.name) if ledger else None,
            kept=_kept(status),
            findings=_findings(status),
            quarantine=_in_quarantine(status),
        )


async def read_room_names(context: TargetContext, rooms: Sequence[str]) -> dict[str, str]:
    """Return the names, or else the aliases, of those of these rooms that have one; the texts are untrusted."""
    async with read_only_connection(context.settings.database) as connection:
        try:
            async with Sources.of(context.settings).reading(connection, _NAMES) as source:
                rows = await source.fetch(_NAMES.text, [room for room in rooms if "\0" not in room])
        except (asyncpg.PostgresError, UnreachableError) as error:
            # The page has the room's ID then.
            _log.warning("rooms_not_named", target=context.name, reason=str(error))
            return {}
    named = ((row["room_id"], row["type"], _name_in(row["event"], row["type"])) for row in rows)
    # The name comes last, and wins over the alias.
    return {room: name for room, kind, name in sorted(named) if name}


def _name_in(event: str, kind: str) -> str:
    try:
        name = json.loads(event)["content"]["name" if kind == "m.room.name" else "alias"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return name[:_LONGEST_NAME] if isinstance(name, str) else ""


async def _usage(
    context: TargetContext, connection: Conn, now: datetime, total: Tally, *, rooms: bool
) -> dict[UsageBy, tuple[UsageRow, ...]]:
    """Return all divisions of the store, by one reading of it; without `rooms` their events were not read."""
    names = context.settings.server_names
    largest = await largest_keys(
        connection,
        [division for division in _DIVISIONS if rooms or division != "room"],
        MOST_ROWS,
        server_names=names,
        now=now,
    )
    rows = {cast("UsageBy", by): rows for by, rows in largest.items()}
    rows["file"] = await largest_files(connection, MOST_ROWS)
    return {by: tuple(with_rest(parts, total)) for by, parts in rows.items()}


def _slices(rows: Iterable[UsageRow]) -> tuple[Slice, ...]:
    return tuple(
        Slice(row.key, row.items, row.bytes) for row in list(rows)[:_MOST_SLICES] if row.key != OTHERS
    )


async def _curves(
    context: TargetContext,
    surveyor: Surveyor,
    connection: Conn,
    now: datetime,
    progress: Progress,
    *,
    ledger: bool,
) -> tuple[AgeCurve, ...]:
    """Return what each policy would remove at any age, by the surveyor of a measured store."""
    rules = context.settings.rules
    if not rules.policies:
        return ()
    copy = await context.references.copy_for_plan(connection)
    if ledger:
        await context.hold_references.copy_for_plan(connection)
    await surveyor.learn(copy, context.references.asked, plan=True)
    progress.stage("survey", None)
    await surveyor.judge(now, progress)
    await surveyor.mark_kept(ledger=ledger, copy=copy, protections=context.references.protections, plan=True)
    curves = [AgeCurve(policy.name, _days(policy)) for policy in rules.policies]
    for part in await due_by_age(connection, rules.policies, now, measured=True):
        curves[part.policy].add(part.age, part.items, part.bytes)
    return tuple(curves)


async def _limits(
    context: TargetContext, connection: Conn, now: datetime, total: Tally, *, ledger: bool
) -> tuple[Headroom, ...]:
    """Compare the rows that are due now, of those that the curves found, with the limits; a pass samples the files."""
    policies = context.settings.rules.policies
    if not policies:
        return ()
    today = milliseconds(now), keeps_of(policies)
    due = await connection.fetchval(SQL["count_due"], *today)
    rules = PolicyCriteria(context, connection, now).rules()
    growth = 0
    if ledger and await has_growth(context, connection, rules):
        await connection.execute(SQL["drop_not_due"], *today)
        growth = await count_growth(context, connection, rules, now)
    return headroom(context.config.limits, Counts(total.items, due, growth=growth))


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
