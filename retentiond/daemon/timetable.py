"""APScheduler, as a clock only: it requests passes at their times, and does not run them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from retentiond.config.next_run import following

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from retentiond.config.schedule import Schedule


class ScheduleTrigger(BaseTrigger):  # type: ignore[misc] # APScheduler ships no types
    """A schedule as APScheduler asks it; its own triggers run twice in the night when clocks are put back."""

    __slots__ = ("_schedule",)

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the next time after both, with jitter."""
        moment = now if previous_fire_time is None else max(previous_fire_time, now)
        due = following(self._schedule, moment)
        return None if due is None else due + jitter(self._schedule)


def jitter(schedule: Schedule) -> timedelta:
    """Return a random delay, up to the jitter of the schedule."""
    return schedule.jitter * random.random()  # noqa: S311 - it hides nothing


class Timetable:
    """The next passes of all targets. Must be started, and shut, on the event loop."""

    def __init__(self) -> None:
        # By default a job that is a second late is dropped; ours is only late, and one of them will do.
        job_defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._scheduler = AsyncIOScheduler(timezone=UTC, job_defaults=job_defaults)

    def start(self) -> None:
        """Begin to ask for passes."""
        self._scheduler.start()

    def shut(self) -> None:
        """Ask for no more passes."""
        self._scheduler.shutdown(wait=False)

    def wake(self) -> None:
        """Look at the clock again: it may have been set, or the machine have slept."""
        self._scheduler.wakeup()

    def enter(self, name: str, schedule: Schedule, first: datetime, request: Callable[[], None]) -> None:
        """Request passes of a target, first at this time; an earlier schedule is replaced."""

        async def ask() -> None:
            request()

        self._scheduler.add_job(
            ask, ScheduleTrigger(schedule), id=name, name=name, next_run_time=first, replace_existing=True
        )

    def strike(self, name: str) -> None:
        """Have no more passes of a target requested."""
        if name in self:
            self._scheduler.remove_job(name)

    def __contains__(self, name: str) -> bool:
        return self._scheduler.get_job(name) is not None

    @property
    def next_times(self) -> Mapping[str, datetime]:
        """When the next pass of each target is due."""
        return {job.id: job.next_run_time for job in self._scheduler.get_jobs() if job.next_run_time}
