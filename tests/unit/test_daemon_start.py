"""The daemon from its start to a working state: what systemd and the log are told, and which passes are run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond import __version__
from tests.support.fake_clock import NOON, FakeClock, settle
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DAY = timedelta(days=1)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path)
    yield running
    await running.close()


async def test_a_wrong_configuration_is_exit_2_with_every_problem_and_nothing_is_started(
    daemon: RunningDaemon,
) -> None:
    daemon.configure(media=media(grace="soon", policies=[{"name": "remote", "keep": "30d"}]))
    daemon.begin()
    assert await daemon.ended() == 2
    (entry,) = daemon.entries()
    assert (entry["event"], entry["level"]) == ("config_rejected", "error")
    problems = "\n".join(entry["problems"])
    assert "grace" in problems
    assert "match" in problems
    assert daemon.messages == []
    assert daemon.stores["media"].configs == []


async def test_a_configuration_that_is_missing_is_exit_2(daemon: RunningDaemon) -> None:
    daemon.begin()
    assert await daemon.ended() == 2
    assert daemon.entries("config_rejected")


async def test_what_is_wrong_in_dendrites_own_file_is_a_wrong_configuration_too(
    daemon: RunningDaemon, tmp_path: Path
) -> None:
    dendrite = str(tmp_path / "dendrite.yaml")
    daemon.configure(
        one=media(dendrite_config=dendrite, media_path=None),
        two=media(dendrite_config=dendrite, database=None),
    )
    daemon.begin()
    assert await daemon.ended() == 2
    assert "dendrite.yaml" in "\n".join(daemon.entries("config_rejected")[0]["problems"])


async def test_the_start_says_what_was_loaded_and_no_password(daemon: RunningDaemon) -> None:
    policies = [
        {"name": "bots", "match": {"user": "@bot:*"}, "keep": "forever"},
        {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
    ]
    await daemon.start(media=media(policies=policies, database="postgresql://us:hunter2@nowhere/media"))
    started, loaded = daemon.entries()[:2]
    assert (started["event"], started["version"], started["targets"]) == (
        "daemon_started",
        __version__,
        ["media"],
    )
    assert loaded["event"] == "config_loaded"
    assert loaded["targets"] == {
        "media": [{"name": "bots", "keep": "forever"}, {"name": "remote", "keep": "30d"}]
    }
    assert "hunter2" not in daemon.text


async def test_warnings_about_the_configuration_are_logged_once_with_their_place(
    daemon: RunningDaemon,
) -> None:
    await daemon.start(media=media(settle="5m"))
    (entry,) = daemon.entries("config_warning")
    assert entry["level"] == "warning"
    assert ": warning: targets.media.settle: is below 10m" in entry["problem"]
    await daemon.clock.advance(120)
    assert len(daemon.entries("config_warning")) == 1


async def test_the_daemon_is_ready_while_a_database_is_down_and_says_since_when(
    daemon: RunningDaemon,
) -> None:
    daemon.stores["media"].down = True
    await daemon.start(media=media(), other=media())
    await daemon.until(
        lambda: f"media cannot be reached since {NOON.astimezone():%Y-%m-%d %H:%M}" in daemon.status_line
    )
    await daemon.until(lambda: daemon.stores["other"].open == 1)
    daemon.stores["media"].down = False
    await daemon.clock.advance(120)
    await daemon.until(lambda: "cannot be reached" not in daemon.status_line)
    assert daemon.stores["media"].sweeps[0] is True


async def test_the_status_tells_the_next_pass(daemon: RunningDaemon) -> None:
    await daemon.start(media=media(), later=media(schedule={"cron": "30 4 * * *", "timezone": "UTC"}))
    due = (NOON + DAY).replace(hour=3, minute=30).astimezone()
    await daemon.until(
        lambda: daemon.status_line == f"STATUS=idle; next pass of media at {due:%Y-%m-%d %H:%M %Z}"
    )


async def test_a_target_without_a_schedule_is_swept_and_never_passed(daemon: RunningDaemon) -> None:
    daemon.stores["media"].last_pass = {"started_at": NOON - 30 * DAY, "state": "finished"}
    await daemon.start(media=media(schedule=None))
    await daemon.clock.advance(60)
    assert daemon.stores["media"].sweeps == [True, False]
    assert daemon.stores["media"].orders == []


async def test_without_a_last_pass_none_is_run_at_the_start(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    await settle()
    assert daemon.stores["media"].orders == []


async def test_passes_that_were_missed_are_made_good_by_one(daemon: RunningDaemon) -> None:
    daemon.stores["media"].last_pass = {"started_at": NOON - 5 * DAY, "state": "finished"}
    await daemon.start(media=media())
    await daemon.until(lambda: daemon.stores["media"].orders)
    await daemon.clock.advance(300)
    assert len(daemon.stores["media"].orders) == 1
    await daemon.until(lambda: "last media: pass 1, 3 items removed" in daemon.status_line)


async def test_a_pass_missed_while_the_database_was_down_is_made_good_when_it_is_back(
    daemon: RunningDaemon,
) -> None:
    store = daemon.stores["media"]
    store.last_pass = {"started_at": NOON - 5 * DAY, "state": "finished"}
    store.down = True
    await daemon.start(media=media())
    await daemon.clock.advance(600)
    assert store.orders == []
    store.down = False
    await daemon.clock.advance(60)
    await daemon.until(lambda: len(store.orders) == 1)


async def test_a_time_that_has_come_begins_a_pass(daemon: RunningDaemon) -> None:
    # By the machine's clock, which is APScheduler's, the next half past three is over since long.
    daemon.clock = FakeClock(datetime(2020, 1, 1, 12, 0, tzinfo=UTC))
    await daemon.start(media=media())
    await daemon.until(lambda: daemon.stores["media"].orders)


async def test_targets_are_passed_side_by_side(daemon: RunningDaemon) -> None:
    stores = [daemon.stores[name] for name in ("one", "two")]
    for store in stores:
        store.last_pass = {"started_at": NOON - 5 * DAY, "state": "finished"}
        store.let_pass.clear()
    await daemon.start(one=media(), two=media())
    await daemon.until(lambda: all(store.running for store in stores))


async def test_a_task_that_dies_ends_the_daemon_with_exit_1(daemon: RunningDaemon) -> None:
    daemon.stores["media"].sweep_error = ZeroDivisionError("a mistake")
    daemon.configure(media=media(), other=media())
    daemon.begin()
    assert await daemon.ended() == 1
    (died,) = daemon.entries("task_died")
    assert (died["task"], died["level"]) == ("worker of media", "critical")
    assert died["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert daemon.entries("daemon_stopping")[0]["reason"] == "worker of media died"
    assert daemon.told("STOPPING=1") == 1
    assert daemon.stores["other"].open == 0


async def test_the_watchdog_is_told_that_the_loop_is_alive(daemon: RunningDaemon) -> None:
    daemon.configure(media=media())
    daemon.begin(WATCHDOG_USEC="10000")
    await daemon.until(lambda: daemon.told("WATCHDOG=1") > 2)
