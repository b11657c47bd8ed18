"""Each signal brings the end a step further, and none of them undoes what the one before began."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from retentiond.adapters import postgres_watch
from retentiond.cli import signals
from retentiond.cli.signals import run_interruptibly
from retentiond.engine.target import Stop
from tests.support.fake_clock import settle


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def hung_up(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once all connections to databases were cut."""
    event = asyncio.Event()
    monkeypatch.setattr(postgres_watch, "hang_up", event.set)
    return event


async def until(event: asyncio.Event) -> None:
    """Wait for it as a cleanup waits for a server, whatever is cancelled meanwhile."""
    while not event.is_set():
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pytest.fail("a cleanup was interrupted")


def test_a_third_signal_cuts_the_connections_and_interrupts_no_cleanup(hung_up: asyncio.Event) -> None:
    stop = Stop()

    async def work() -> int:
        interrupt()
        await settle()
        assert stop.asked
        interrupt()
        try:
            await asyncio.Event().wait()
        finally:
            interrupt()
            await until(hung_up)
        return 0

    with pytest.raises(asyncio.CancelledError):
        run_interruptibly(work(), stop)


def test_what_does_not_end_after_one_signal_is_cancelled_and_then_cut_off(
    hung_up: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "PATIENCE", 0.01)
    monkeypatch.setattr(signals, "LEAVE", 0.01)

    async def work() -> int:
        interrupt()
        try:
            await asyncio.Event().wait()
        finally:
            await until(hung_up)
        return 0

    with pytest.raises(asyncio.CancelledError):
        run_interruptibly(work(), Stop())
