"""SIGTERM and SIGINT: a batch is ended, within bounds."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_clock import NOON, settle
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path)
    yield running
    await running.close()


async def start_a_pass(daemon: RunningDaemon, *, heeds_stop: bool) -> None:
    store = daemon.stores["media"]
    store.last_pass = {"started_at": NOON - timedelta(days=5), "state": "finished"}
    store.let_pass.clear()
    store.heeds_stop = heeds_stop
    await daemon.start(media=media())
    await daemon.until(lambda: store.running)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_daemon_ends_with_0_and_says_so(daemon: RunningDaemon, number: signal.Signals) -> None:
    await daemon.start(media=media())
    assert await daemon.stop(number) == 0
    assert daemon.told("STOPPING=1") == 1
    assert daemon.entries("daemon_stopping")[0]["reason"] == number.name
    assert daemon.stores["media"].open == 0


async def test_a_pass_is_asked_to_end_its_batch(daemon: RunningDaemon) -> None:
    await start_a_pass(daemon, heeds_stop=True)
    assert await daemon.stop() == 0
    store = daemon.stores["media"]
    assert store.orders[0].stop.asked
    assert (store.cancelled, store.open, store.ended_beats) == (0, 0, 1)


async def test_a_batch_that_does_not_end_is_cancelled_after_thirty_seconds(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    await start_a_pass(daemon, heeds_stop=False)
    os.kill(os.getpid(), signal.SIGTERM)
    await daemon.until(lambda: daemon.told("STOPPING=1"))
    await daemon.clock.advance(29)
    assert (store.running, store.cancelled) == (1, 0)
    await daemon.clock.advance(1)
    assert await daemon.ended() == 0
    assert (store.cancelled, store.open) == (1, 0)
    assert daemon.entries("shutdown_cut_short")[0]["targets"] == ["media"]
    assert daemon.entries("task_died") == []


async def test_a_second_signal_cancels_at_once(daemon: RunningDaemon) -> None:
    await start_a_pass(daemon, heeds_stop=False)
    os.kill(os.getpid(), signal.SIGTERM)
    await daemon.until(lambda: daemon.told("STOPPING=1"))
    assert await daemon.stop() == 0
    assert daemon.stores["media"].cancelled == 1


async def test_a_sweep_under_way_is_let_finish(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    store.let_sweep.clear()
    await daemon.start(media=media())
    await daemon.until(lambda: store.sweeping)
    os.kill(os.getpid(), signal.SIGTERM)
    await daemon.until(lambda: daemon.told("STOPPING=1"))
    await settle()
    assert store.open == 1
    store.let_sweep.set()
    assert await daemon.ended() == 0
    assert store.sweeps == [True]


async def test_a_database_that_is_down_does_not_hold_up_the_end(daemon: RunningDaemon) -> None:
    daemon.stores["media"].down = True
    await daemon.start(media=media())
    assert await daemon.stop() == 0


async def test_the_status_tells_what_is_waited_for(daemon: RunningDaemon) -> None:
    await start_a_pass(daemon, heeds_stop=False)
    os.kill(os.getpid(), signal.SIGTERM)
    await daemon.until(lambda: daemon.told("STOPPING=1"))
    assert daemon.status_line == "STATUS=stopping; media: remove, 20 of 50 items"


async def test_the_signals_are_given_back(daemon: RunningDaemon) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)]
    await daemon.start(media=media())
    await daemon.stop()
    assert before == [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)]
