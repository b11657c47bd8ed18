"""When a pass is next due: a pure function of the schedule, the last pass and the time, all in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cronsim import CronSim
from tzlocal import get_localzone

if TYPE_CHECKING:
    from datetime import tzinfo

    from retentiond.config.schedule import Schedule

_LONGEST_CHANGE = timedelta(hours=3)


def next_run(schedule: Schedule, last_started: datetime | None, now: datetime) -> datetime | None:
    """Return when the next pass is due, without jitter; `now` if one was missed since the last began.

    One pass makes up for all that were missed. Without a last pass nothing was missed: cron waits for
    its time, an interval for its length. None where the schedule never comes again. The datetimes are aware.
    """
    # A last pass in the future is another clock's; it must not put off the next one.
    since = now if last_started is None else min(last_started, now)
    due = following(schedule, since)
    return None if due is None else max(due, now.astimezone(UTC))


def following(schedule: Schedule, moment: datetime) -> datetime | None:
    """Return the schedule's first time after the moment; None where it never comes again."""
    moment = moment.astimezone(UTC)
    if schedule.every is not None:
        return moment + schedule.every
    assert schedule.cron is not None  # noqa: S101 - the configuration has one or the other
    zone = schedule.zone or get_localzone()
    if _each_hour(schedule.cron):
        due = next(CronSim(schedule.cron, moment.astimezone(zone)), None)
        return None if due is None else due.astimezone(UTC)
    return _by_the_wall(schedule.cron, zone, moment)


def _by_the_wall(cron: str, zone: tzinfo, moment: datetime) -> datetime | None:
    """Return the first time after the moment, computed on a wall clock that is never changed.

    A time that a change of the clocks leaves out comes as much later as the clocks were put forward: cronsim's own
    rule, like that of Debian's cron, runs all such lines in the same minute. Of a time that comes twice the first counts.
    """
    # A time that was left out comes after the change: start a little earlier to find it.
    wall = moment.astimezone(zone).replace(tzinfo=UTC) - _LONGEST_CHANGE
    # In UTC at once: by Python's rules a time of a repeated hour equals none of another zone.
    times = (time.replace(tzinfo=zone, fold=0).astimezone(UTC) for time in CronSim(cron, wall))
    return next((due for due in times if due > moment), None)


def _each_hour(cron: str) -> bool:
    """Whether the crontab line means a distance in time, which holds through a repeated hour as well."""
    return cron.split()[1].startswith("*")
