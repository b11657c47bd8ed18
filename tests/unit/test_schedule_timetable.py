"""The timetable on APScheduler itself; times that are past are due at once, and others never within a test."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.config.schedule import Schedule
from retentiond.daemon.timetable import ScheduleTrigger, Timetable, jitter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DAILY = Schedule(cron="30 3 * * *", timezone="UTC")
PAST = datetime(2020, 1, 1, tzinfo=UTC)
FAR = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
async def timetable() -> AsyncIterator[Timetable]:
    table = Timetable()
    table.start()
    yield table
    table.shut()
    await asyncio.sleep(0)


async def test_a_time_long_past_is_asked_for_once_however_often_it_was_missed(timetable: Timetable) -> None:
    asked: list[str] = []
    again = asyncio.Event()

    def ask() -> None:
        asked.append("media")
        again.set()

    timetable.enter("media", DAILY, PAST, ask)
    await again.wait()
    timetable.wake()
    for _ in range(20):
        await asyncio.sleep(0)
    assert asked == ["media"]
    assert timetable.next_times["media"] > datetime.now(UTC)


async def test_a_time_to_come_is_not_asked_for(timetable: Timetable) -> None:
    asked: list[str] = []
    timetable.enter("media", DAILY, FAR, lambda: asked.append("media"))
    timetable.wake()
    for _ in range(20):
        await asyncio.sleep(0)
    assert asked == []
    assert timetable.next_times == {"media": FAR}


async def test_what_is_entered_again_takes_the_place_of_what_was_there(timetable: Timetable) -> None:
    timetable.enter("media", DAILY, FAR, lambda: None)
    timetable.enter("media", DAILY, FAR + timedelta(days=1), lambda: None)
    assert timetable.next_times == {"media": FAR + timedelta(days=1)}


async def test_what_is_struck_out_is_not_asked_for(timetable: Timetable) -> None:
    timetable.enter("media", DAILY, FAR, lambda: None)
    timetable.strike("media")
    timetable.strike("never there")
    assert "media" not in timetable
    assert timetable.next_times == {}


async def test_nothing_is_dropped_for_being_late(timetable: Timetable) -> None:
    timetable.enter("media", DAILY, FAR, lambda: None)
    job = timetable._scheduler.get_job("media")
    assert (job.misfire_grace_time, job.coalesce, job.max_instances) == (None, True, 1)


def test_the_trigger_leaves_out_what_is_over() -> None:
    trigger = ScheduleTrigger(DAILY)
    assert trigger.get_next_fire_time(PAST, FAR) == FAR.replace(hour=3, minute=30)


def test_a_pass_that_jitter_made_late_does_not_come_twice() -> None:
    late = FAR.replace(hour=3, minute=34)
    assert ScheduleTrigger(DAILY).get_next_fire_time(late, late) == FAR.replace(day=2, hour=3, minute=30)


def test_jitter_is_never_more_than_allowed_and_never_early() -> None:
    schedule = DAILY.model_copy(update={"jitter": timedelta(minutes=5)})
    delays = [jitter(schedule) for _ in range(200)]
    assert all(timedelta(0) <= delay < timedelta(minutes=5) for delay in delays)
    assert len(set(delays)) > 1
    assert jitter(DAILY) == timedelta(0)
