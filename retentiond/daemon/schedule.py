"""When a pass is next due: pure reckoning with a schedule, the last pass and the time, all in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING

from retentiond.config.schedule import cron_trigger

if TYPE_CHECKING:
    from apscheduler.triggers.cron import CronTrigger

    from retentiond.config.schedule import Schedule

# APScheduler's triggers count the moment itself.
_JUST_AFTER = timedelta(microseconds=1)
_LONGEST_CHANGE = timedelta(hours=3)


def next_run(schedule: Schedule, last_started: datetime | None, now: datetime) -> datetime | None:
    """Return when the next pass is due, without jitter; `now` if one was missed since the last began.

    However many were missed, they are made good by one. Without a last pass nothing was missed: cron waits for
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
    trigger = cron_trigger(schedule.cron, schedule.zone)
    if _each_hour(schedule.cron):
        due: datetime | None = trigger.get_next_fire_time(None, moment + _JUST_AFTER)
        return None if due is None else due.astimezone(UTC)
    return _by_the_wall(cron_trigger(schedule.cron, UTC), trigger.timezone, moment)


def _by_the_wall(trigger: CronTrigger, zone: tzinfo, moment: datetime) -> datetime | None:
    """Return the first time after the moment, reckoned by the clock on the wall as if clocks were never changed.

    APScheduler's own way over a change leaves out the next midnight. A time that is left out comes an hour later on
    the wall, and of one that comes twice the first counts.
    """
    # What was left out comes after the change: a little is looked back for it.
    wall = (moment.astimezone(zone).replace(tzinfo=UTC)) - _LONGEST_CHANGE
    while True:
        wall = trigger.get_next_fire_time(None, wall + _JUST_AFTER)
        if wall is None:
            return None
        # In UTC at once: by Python's rules a time of a repeated hour equals none of another zone.
        due: datetime = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
        if due > moment:
            return due


def _each_hour(cron: str) -> bool:
    """Whether the crontab line means a distance in time, which holds through a repeated hour as well."""
    return cron.split()[1].startswith("*")
