"""Scheduled audits: when they come, what is caught up with, and how they end."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.model.errors import Refusal, RefusedError
from tests.support.fake_clock import NOON
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SCHEDULED = media(audit={"every": "2h"})


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path)
    yield running
    await running.close()


async def test_a_store_that_never_was_audited_is_audited_at_once_and_then_by_its_schedule(
    daemon: RunningDaemon,
) -> None:
    store = daemon.stores["media"]
    await daemon.start(media=SCHEDULED)
    await daemon.until(lambda: len(store.audits) == 1)
    await daemon.clock.advance(7140)
    assert len(store.audits) == 1
    await daemon.clock.advance(60)
    assert len(store.audits) == 2
    assert {(order.command, order.repair) for order in store.audits} == {("run", False)}
    assert await daemon.stop() == 0


async def test_the_ledger_says_when_the_last_audit_was_and_one_that_was_missed_is_made_good_by_one(
    daemon: RunningDaemon,
) -> None:
    daemon.stores["recent"].last_audit = {"started_at": NOON - timedelta(hours=1)}
    daemon.stores["missed"].last_audit = {"started_at": NOON - timedelta(days=30)}
    await daemon.start(recent=SCHEDULED, missed=SCHEDULED)
    await daemon.until(lambda: daemon.stores["missed"].audits)
    await daemon.clock.advance(3540)
    assert not daemon.stores["recent"].audits
    await daemon.clock.advance(60)
    assert len(daemon.stores["recent"].audits) == 1
    assert len(daemon.stores["missed"].audits) == 1


async def test_without_a_schedule_there_is_no_audit(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    await daemon.clock.advance(7260)
    assert not daemon.stores["media"].audits


async def test_an_audit_that_was_refused_is_told_once_and_tried_again_in_an_hour(
    daemon: RunningDaemon,
) -> None:
    store = daemon.stores["media"]
    store.audit_error = RefusedError(Refusal("empty_media_directory", "no media", "media", "mount it"))
    await daemon.start(media=SCHEDULED)
    await daemon.until(lambda: len(store.audits) == 1)
    await daemon.clock.advance(7200)
    assert len(store.audits) == 3
    assert len(daemon.entries("audit_refused")) == 1


async def test_an_audit_under_way_ends_early_when_the_daemon_stops(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    store.let_audit.clear()
    await daemon.start(media=SCHEDULED)
    await daemon.until(lambda: store.audits)
    assert await daemon.stop() == 0
    assert store.audits[0].stop.asked
    assert not daemon.entries("shutdown_cut_short")


async def test_passes_and_sweeps_go_on_beside_an_audit(daemon: RunningDaemon) -> None:
    store = daemon.stores["media"]
    store.let_audit.clear()
    store.last_pass = {"started_at": NOON - timedelta(days=2), "state": "finished"}
    await daemon.start(media=SCHEDULED)
    await daemon.until(lambda: store.audits and store.orders)
    sweeps = len(store.sweeps)
    await daemon.clock.advance(120)
    assert len(store.sweeps) > sweeps
