"""The daemon's passes over a real store that looks wrong: refused, told, and tried again at the next time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from retentiond.adapters.clock import SystemClock
from retentiond.adapters.metrics import Metrics
from retentiond.adapters.systemd import Notifier
from retentiond.config.media import MediaTarget
from retentiond.config.resolve import resolve
from retentiond.daemon.notices import Notices
from retentiond.daemon.policies import EffectivePolicies
from retentiond.daemon.quiet import QuietTimes
from retentiond.daemon.settings import TargetSettings
from retentiond.daemon.states import TargetStates
from retentiond.daemon.status import StatusReporter
from retentiond.daemon.worker import TargetWorker
from retentiond.targets.dendrite_media.surveys.assess import assess
from retentiond.targets.registry import open_target
from tests.support.media_target import configure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg
    import pytest

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]


def move(path: Path, to: Path) -> None:
    path.rename(to)


class Kept:
    """A worker at work on the real store, and its log."""

    def __init__(self, worker: TargetWorker, log: list[Any]) -> None:
        self._worker = worker
        self._log = log

    async def ask_for_a_pass(self) -> dict[str, Any]:
        """Ask as the timetable does, and return what the log then says became of it."""
        before = len(self._log)
        self._worker.request_pass()
        while True:
            for entry in self._log[before:]:
                if entry["event"] in {"pass_finished", "pass_refused"}:
                    return dict(entry)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def kept(retention: Retention, **keys: Any) -> AsyncIterator[Kept]:
    config = configure(retention.database, retention.media_path, **keys).targets["media"]
    assert isinstance(config, MediaTarget)
    reached = asyncio.Event()
    clock = SystemClock()
    worker = TargetWorker(
        "media",
        EffectivePolicies(TargetSettings(config, resolve(config))),
        open_target,
        clock,
        StatusReporter(
            Notifier({}), Metrics(), clock, dict, Notices(clock), TargetStates(clock), QuietTimes()
        ),
        lambda _worker: reached.set(),
    )
    with capture_logs() as log:
        task = asyncio.create_task(worker.run())
        await reached.wait()
        try:
            yield Kept(worker, log)
            worker.stop()
            await task
        finally:
            task.cancel()


async def test_a_refused_pass_is_logged_and_shown_and_tried_again_at_the_next_time(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    async with kept(retention) as daemon:
        await connection.execute("ALTER TABLE userapi_profiles RENAME TO gone")
        assert (await daemon.ask_for_a_pass())["limit"] == "protection_unreadable"
        async with retention.opened() as target:
            told = (await target.status()).last_pass
        assert told is not None
        assert (told["state"], told["refused"]["limit"]) == ("refused", "protection_unreadable")
        await connection.execute("ALTER TABLE gone RENAME TO userapi_profiles")
        assert (await daemon.ask_for_a_pass())["event"] == "pass_finished"
    assert await store.rows() == {}


async def test_a_media_directory_that_is_away_for_a_while_ends_no_daemon(
    retention: Retention, media_path: Path, store: DendriteStore
) -> None:
    await store.add()
    away = media_path.with_name("away")
    async with kept(retention) as daemon:
        assert (await daemon.ask_for_a_pass())["event"] == "pass_finished"
        await store.add()
        move(media_path, away)
        refused = await daemon.ask_for_a_pass()
        assert refused["reason"] == "unreachable"
        assert "check that it is mounted" in refused["error"]
        move(away, media_path)
        assert (await daemon.ask_for_a_pass())["event"] == "pass_finished"
    assert await store.rows() == {}


async def test_a_protection_that_becomes_unreadable_in_the_midst_of_a_pass_ends_it_as_refused(
    retention: Retention,
    store: DendriteStore,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(3):
        await store.add()
    batches = 0

    async def lose_the_protection(*arguments: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches == 2:
            # Nobody may rely on the copy any more, and no new one can be made.
            await connection.execute("DELETE FROM retentiond.reference_copy")
            await connection.execute("ALTER TABLE userapi_profiles RENAME TO gone")
        return await assess(*arguments)

    monkeypatch.setattr("retentiond.targets.dendrite_media.quarantine.removal.assess", lose_the_protection)
    report = await retention.one_pass(pace={"batch": 1})
    assert (report.state, report.removed_items) == ("refused", 1)
    assert report.refused is not None
    assert report.refused.limit == "protection_unreadable"
    assert len(await store.rows()) == 2
    assert await store.broken_references() == []
    async with retention.opened() as target:
        told = (await target.status()).last_pass
    assert told is not None
    assert (told["state"], told["pass_id"]) == ("refused", 1)
