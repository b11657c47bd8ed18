"""SIGHUP: what a new file changes, when, and what it must not disturb."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.fake_clock import NOON, settle
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DAY = timedelta(days=1)
OVERDUE = {"started_at": NOON - 5 * DAY, "state": "finished"}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path)
    yield running
    await running.close()


def keeping(keep: str) -> dict[str, Any]:
    return media(policies=[{"name": "remote", "match": {"origin": "remote"}, "keep": keep}])


async def start_a_pass(daemon: RunningDaemon, target: dict[str, Any]) -> None:
    store = daemon.stores["media"]
    store.last_pass = OVERDUE
    store.let_pass.clear()
    await daemon.start(media=target)
    await daemon.until(lambda: store.running)


async def test_a_reload_is_announced_with_the_monotonic_clock_before_it_is_over(
    daemon: RunningDaemon,
) -> None:
    await daemon.start(media=media())
    await daemon.reload()
    told = [message for message in daemon.messages if message.startswith(("RELOADING=1", "READY=1"))]
    assert [message.split("=")[0] for message in told] == ["READY", "RELOADING", "READY"]
    assert told[1].split("\n")[1].startswith("MONOTONIC_USEC=")


async def test_a_wrong_file_changes_nothing_and_the_daemon_is_ready_again(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    daemon.configure(text="targets: {media: {kind: dendrite_media, grace: soon}}")
    await daemon.reload()
    assert len(daemon.entries("config_loaded")) == 1
    (rejected,) = daemon.entries("config_rejected")
    assert any("grace" in problem for problem in rejected["problems"])
    await daemon.clock.advance(60)
    assert daemon.stores["media"].sweeps == [True, False]
    assert len(daemon.stores["media"].configs) == 1


async def test_a_changed_target_is_opened_anew_by_the_new_rules(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    daemon.configure(media=media(grace="48h"))
    await daemon.reload()
    store = daemon.stores["media"]
    await daemon.until(lambda: len(store.configs) == 2)
    await settle()
    assert [config.grace for config in store.configs] == [DAY, 2 * DAY]
    assert store.open == 1


async def test_an_unchanged_target_is_left_alone(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    await daemon.reload()
    await settle()
    assert len(daemon.stores["media"].configs) == 1


async def test_targets_come_and_go(daemon: RunningDaemon) -> None:
    await daemon.start(old=media(), media=media())
    await daemon.until(lambda: daemon.stores["old"].open)
    daemon.configure(new=media(), media=media())
    await daemon.reload()
    await daemon.until(lambda: daemon.stores["new"].open)
    await daemon.until(lambda: daemon.stores["old"].open == 0)
    assert list(daemon.entries("config_loaded")[-1]["targets"]) == ["new", "media"]


async def test_a_reload_does_not_wait_for_a_pass_which_ends_by_the_rules_it_began_with(
    daemon: RunningDaemon,
) -> None:
    store = daemon.stores["media"]
    await start_a_pass(daemon, media())
    daemon.configure(media=media(grace="48h"))
    await daemon.reload()
    assert store.running == 1
    assert len(store.configs) == 1
    assert not store.orders[0].stop.asked
    store.let_pass.set()
    await daemon.until(lambda: len(store.configs) == 2)
    assert store.configs[-1].grace == 2 * DAY
    assert len(store.orders) == 1


async def test_a_target_that_is_removed_in_mid_pass_ends_its_pass_first(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    await start_a_pass(daemon, media())
    daemon.configure(other=media())
    await daemon.reload()
    assert (store.running, store.open) == (1, 1)
    store.let_pass.set()
    await daemon.until(lambda: store.open == 0)


async def test_a_target_that_comes_back_while_its_pass_ends_is_kept_once(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    await start_a_pass(daemon, media())
    daemon.configure(other=media())
    await daemon.reload()
    daemon.configure(other=media(), media=media(grace="48h"))
    await daemon.reload()
    await daemon.clock.advance(60)
    assert (store.open, len(store.configs)) == (1, 1)
    store.let_pass.set()
    await daemon.until(lambda: len(store.configs) == 2)
    await settle()
    assert (store.open, store.most_running, store.most_sweeping) == (1, 1, 1)


async def test_a_reload_does_not_run_again_what_ran(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    store.last_pass = OVERDUE
    await daemon.start(media=media())
    await daemon.until(lambda: len(store.orders) == 1)
    for grace in ("1h", "2h"):
        daemon.configure(media=media(grace=grace))
        await daemon.reload()
        await settle()
    assert len(store.orders) == 1


async def test_a_new_schedule_holds_at_once_and_its_past_times_were_not_missed(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    store.last_pass = {"started_at": NOON.replace(hour=3, minute=30), "state": "finished"}
    await daemon.start(media=media())
    daemon.configure(media=media(schedule={"cron": "0 11 * * *", "timezone": "UTC"}))
    await daemon.reload()
    due = (NOON + DAY).replace(hour=11).astimezone()
    await daemon.until(lambda: f"next pass of media at {due:%Y-%m-%d %H:%M}" in daemon.status_line)
    assert store.orders == []


async def test_a_shorter_interval_that_is_over_is_due_at_once(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    store.last_pass = {"started_at": NOON - timedelta(hours=8), "state": "finished"}
    await daemon.start(media=media(schedule={"every": "24h"}))
    daemon.configure(media=media(schedule={"every": "6h"}))
    await daemon.reload()
    await daemon.until(lambda: len(store.orders) == 1)


async def test_a_schedule_that_is_taken_away_asks_for_no_more_passes(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    await daemon.until(lambda: "next pass" in daemon.status_line)
    daemon.configure(media=media(schedule=None))
    await daemon.reload()
    assert "next pass" not in daemon.status_line


async def test_two_reloads_in_a_row_end_with_the_newest_file(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    daemon.configure(media=media(grace="48h"))
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGHUP)
    daemon.configure(media=media(grace="72h"))
    await daemon.reload()
    await daemon.until(lambda: daemon.stores["media"].configs[-1].grace == 3 * DAY)
    assert daemon.told("RELOADING=1") == daemon.told("READY=1") - 1


async def test_the_level_of_the_log_follows_the_file(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    daemon.configure(media=media(), logging={"level": "warning"})
    await daemon.reload()
    assert len(daemon.entries("config_loaded")) == 1
    daemon.configure(media=media(), logging={"level": "info", "format": "logfmt"})
    await daemon.reload()
    assert "event=config_loaded" in daemon.text.splitlines()[-1]


async def test_a_policy_that_a_reload_shortened_is_told_with_what_it_would_free(
    daemon: RunningDaemon,
) -> None:
    await daemon.start(media=keeping("30d"))
    daemon.configure(media=keeping("7d"))
    await daemon.reload()
    await daemon.until(lambda: daemon.entries("policy_shortened"))
    (entry,) = daemon.entries("policy_shortened")
    assert (entry["target"], entry["policy"], entry["keep_before"], entry["keep"]) == (
        "media",
        "remote",
        "30d",
        "7d",
    )
    assert entry["would_remove"] == {"items": 3, "bytes": 30}
    assert entry["not_before"] == (NOON + DAY).isoformat()
    assert daemon.stores["media"].planned[0].policies[0].keep == 7 * DAY
    await daemon.reload()
    await settle()
    assert len(daemon.entries("policy_shortened")) == 1
