"""The space of rooms: its divisions, the daily sample, and the statistics of the report. Reading changes nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, read_only_connection
from retentiond.ledger.samples import has_sample, save_sample
from retentiond.model.report import PassReport, Tally
from retentiond.model.rooms import RoomTotals, decide, room_headroom
from retentiond.model.statistics import FREED_DAYS, AgeCurve, PassTotals, StoreStatistics
from retentiond.model.usage import AGES, LARGEST, MOST_ROWS, NOT_KNOWN, OLDER, UsageRow, key_of, with_rest
from retentiond.targets.dendrite_rooms.context import KIND
from retentiond.targets.dendrite_rooms.planning import RoomPlan
from retentiond.targets.dendrite_rooms.purges.purge_table import purged_by_day
from retentiond.targets.dendrite_rooms.state import read_status
from retentiond.targets.dendrite_rooms.survey import RoomSurvey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.rooms import Room, RoomRules, Verdict
    from retentiond.model.usage import UsageBy
    from retentiond.targets.dendrite_rooms.context import RoomContext

SQL: Final = named_queries(__package__, "usage.sql")
DIVISIONS: Final[tuple[UsageBy, ...]] = ("server", "room", "age")
_SAMPLED: Final[tuple[UsageBy, ...]] = ("server", "room")
_OLDER: Final = 0


async def read_usage(context: RoomContext, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
    """Divide all rooms, whoever is in them; the bytes are those of plans."""
    async with read_only_connection(context.settings.database) as connection:
        now = await _survey_all(context, connection, progress)
        return with_rest(await _largest(connection, by, top, now), await _total(connection))


async def take_sample(context: RoomContext, progress: Progress) -> bool:
    """Add the sample of today to the ledger; return False where there is one already."""
    if await has_sample(context.pool, context.name):
        return False
    async with read_only_connection(context.settings.database) as connection:
        now = await _survey_all(context, connection, progress)
        total = await _total(connection)
        largest = {by: await _largest(connection, by, LARGEST, now) for by in _SAMPLED}
    return await save_sample(context.pool, context.name, total, classes={}, largest=largest, free_bytes=None)


async def collect_statistics(context: RoomContext, progress: Progress) -> StoreStatistics:
    """Describe the rooms, and what each policy would purge at other ages; raise RefusedError as a plan does."""
    status = await read_status(context)
    last, audit = status.last_pass or {}, status.last_audit or {"findings": {}}
    progress.stage("survey", None)
    async with read_only_connection(context.settings.database) as connection:
        now: datetime = await connection.fetchval("SELECT pg_catalog.clock_timestamp()")
        curves = _Curves(context.settings.rules, now)
        planned = RoomPlan(context, connection, now, curves.add)
        await planned.judge(
            PassReport(context.name, KIND, dry_run=True, started_at=now), seeing=False, everything=True
        )
        stored = RoomTotals(*await planned.survey.totals())
        total = await _total(connection)
        purged = await purged_by_day(connection, context.name)
        taken = Tally(sum(day.items for day in purged), sum(day.bytes for day in purged))
        return StoreStatistics(
            context.name,
            KIND,
            now,
            total,
            curves=tuple(curves.by_policy.values()),
            limits=room_headroom(context.config.limits, planned.due, stored),
            freed=tuple(day for day in purged if day.day > now.date() - timedelta(days=FREED_DAYS)),
            totals=PassTotals(taken, Tally(), 0) if status.ledger else None,
            kept=last.get("kept", {}).get("by_reason", {}),
            findings={kind: int(tally["items"]) for kind, tally in audit["findings"].items()},
            usage={by: with_rest(await _largest(connection, by, MOST_ROWS, now), total) for by in DIVISIONS},
        )


class _Curves:
    """The rooms that each policy would purge, by age; no age is below the cool-off."""

    def __init__(self, rules: RoomRules, now: datetime) -> None:
        at_once = tuple(replace(one, keep=timedelta(0)) for one in rules.policies)
        self._rules, self._now = replace(rules, policies=at_once), now
        self.by_policy: Mapping[str, AgeCurve] = {
            one.name: AgeCurve(one.name, None if one.keep is None else max(one.keep, rules.cool_off).days)
            for one in rules.policies
        }

    def add(self, room: Room, _verdict: Verdict) -> None:
        """Count a room, if it could be due at any age."""
        found = decide(room, self._rules, self._now)
        if found.due is not None and found.policy is not None:
            age = self._now - found.due + self._rules.cool_off
            self.by_policy[found.policy].add(age.days, 1, room.bytes)


async def _survey_all(context: RoomContext, connection: Conn, progress: Progress) -> datetime:
    progress.stage("survey", None)
    now: datetime = await connection.fetchval("SELECT pg_catalog.clock_timestamp()")
    await RoomSurvey(context, connection, now).take(everything=True)
    return now


async def _total(connection: Conn) -> Tally:
    [row] = await connection.fetch(SQL["total"])
    return Tally(row["items"], row["bytes"])


async def _largest(connection: Conn, by: UsageBy, top: int, now: datetime) -> list[UsageRow]:
    statement = SQL["largest"].replace("{division}", SQL[f"by_{by}"])
    rows = await connection.fetch(statement, top, int(now.timestamp() * 1000), list(AGES))
    if by == "age":
        order = [*map(str, AGES), str(_OLDER)]
        rows.sort(key=lambda row: order.index(row["key"]) if row["key"] in order else len(order))
    return [UsageRow(_key(by, row), row["items"], row["bytes"]) for row in rows]


def _key(by: UsageBy, row: Record) -> str:
    if row["key"] is None:
        return NOT_KNOWN
    return AGES.get(int(row["key"]), OLDER) if by == "age" else key_of(row["key"])
