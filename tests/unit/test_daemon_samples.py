"""When the daemon and `once` take a target's sample of the day, and that an error of one ends nothing."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from retentiond.daemon.rounds import SAMPLE_LOOK_EVERY
from retentiond.model.errors import BusyError, RetentiondError, UnreachableError
from tests.support.command_line import CommandLine
from tests.support.fake_daemon_target import DaemonTarget, FakeStore
from tests.support.fake_target import FakeTarget
from tests.support.media_target import as_media
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import Progress
    from retentiond.model.usage import Sample

HOURS_OF_A_DAY = 24


@dataclass
class SampleTable:
    """The samples of a ledger, a day each, and an error or a wait of the next ones."""

    day: int = 1
    taken: list[int] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    error: RetentiondError | None = None
    waiting: asyncio.Event | None = None

    async def take(self, command: str) -> bool:
        self.asked.append(command)
        if self.waiting is not None:
            await self.waiting.wait()
        if self.error is not None:
            raise self.error
        if self.day in self.taken:
            return False
        self.taken.append(self.day)
        return True


class SamplingTarget(DaemonTarget):
    """A target of the daemon with samples."""

    table: SampleTable

    async def take_sample(self, command: str, progress: Progress) -> bool:
        del progress
        return await self.table.take(command)

    async def samples(self, most: int | None = None) -> list[Sample]:
        return []


@pytest.fixture
def table() -> SampleTable:
    return SampleTable()


@pytest.fixture
async def daemon(tmp_path: Path, table: SampleTable) -> AsyncIterator[RunningDaemon]:
    @asynccontextmanager
    async def open_sampling(name: str, config: TargetConfig) -> AsyncIterator[SamplingTarget]:
        target = SamplingTarget(name, as_media(config), FakeStore())
        target.table = table
        yield target

    running = RunningDaemon(tmp_path, open_sampling)
    yield running
    await running.close()


async def test_a_daemon_takes_the_sample_that_it_missed_at_its_start_and_then_one_each_day(
    daemon: RunningDaemon, table: SampleTable
) -> None:
    await daemon.start(media=media())
    await daemon.until(lambda: table.taken == [1])
    for day in (2, 3):
        for _ in range(HOURS_OF_A_DAY):
            await daemon.clock.advance(SAMPLE_LOOK_EVERY)
        assert table.taken == list(range(1, day))
        table.day = day
        await daemon.clock.advance(SAMPLE_LOOK_EVERY)
    assert table.taken == [1, 2, 3]
    assert set(table.asked) == {"run"}
    assert len(daemon.entries("sample_taken")) == 3
    assert await daemon.stop() == 0


async def test_a_sample_that_fails_is_one_warning_and_is_tried_again_and_passes_go_on(
    daemon: RunningDaemon, table: SampleTable
) -> None:
    table.error = UnreachableError("the database is full; make room")
    await daemon.start(media=media(schedule={"every": "1h"}))
    await daemon.until(lambda: daemon.entries("sample_not_taken"))
    await daemon.clock.advance(3 * SAMPLE_LOOK_EVERY)
    (warning,) = daemon.entries("sample_not_taken")
    assert (warning["level"], warning["target"], warning["error"]) == ("warning", "media", str(table.error))
    table.error = None
    await daemon.clock.advance(SAMPLE_LOOK_EVERY)
    assert table.taken == [1]
    assert await daemon.stop() == 0


async def test_a_full_disk_is_one_warning_though_each_try_names_another_file(
    daemon: RunningDaemon, table: SampleTable
) -> None:
    table.error = UnreachableError('no space left: could not extend file "base/16384/t12_17131"; make room')
    await daemon.start(media=media())
    await daemon.until(lambda: daemon.entries("sample_not_taken"))
    for number in range(3):
        table.error = UnreachableError(
            f'no space left: could not extend file "base/16384/t{number}_19{number}"; make room'
        )
        await daemon.clock.advance(SAMPLE_LOOK_EVERY)
    assert len(table.asked) == 4
    assert len(daemon.entries("sample_not_taken")) == 1
    # The next episode is told.
    table.error = None
    await daemon.clock.advance(SAMPLE_LOOK_EVERY)
    table.error = UnreachableError('no space left: could not extend file "base/16384/t1_1"; make room')
    await daemon.clock.advance(SAMPLE_LOOK_EVERY)
    assert len(daemon.entries("sample_not_taken")) == 2
    assert await daemon.stop() == 0


async def test_a_daemon_beside_another_leaves_the_samples_to_it(
    daemon: RunningDaemon, table: SampleTable
) -> None:
    table.error = BusyError("another daemon works on it; stop one of them")
    await daemon.start(media=media())
    await daemon.until(lambda: table.asked)
    await daemon.clock.advance(SAMPLE_LOOK_EVERY)
    assert len(table.asked) == 2
    assert not daemon.entries("sample_not_taken")


async def test_a_sample_under_way_does_not_delay_the_end_of_the_daemon(
    daemon: RunningDaemon, table: SampleTable
) -> None:
    table.waiting = asyncio.Event()
    await daemon.start(media=media())
    await daemon.until(lambda: table.asked)
    assert await daemon.stop() == 0
    assert table.taken == []


@dataclass
class OnceTarget(FakeTarget):
    """A target of a command with samples."""

    table: SampleTable = field(default_factory=SampleTable)
    interrupted: bool = False

    async def take_sample(self, command: str, progress: Progress) -> bool:
        del progress
        if self.interrupted:
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        return await self.table.take(command)

    async def samples(self, most: int | None = None) -> list[Sample]:
        return []


def test_once_takes_the_sample_of_the_day_after_its_pass(tmp_path: Path) -> None:
    target = OnceTarget()
    for _ in range(2):
        assert CommandLine(tmp_path, (target,)).type("once", "--json").status == 0
    assert target.table.taken == [1]
    assert target.table.asked == ["once", "once"]


def test_a_sample_that_fails_after_the_pass_of_once_is_a_warning_and_the_pass_is_done(tmp_path: Path) -> None:
    target = OnceTarget(table=SampleTable(error=UnreachableError("the database is full; make room")))
    outcome = CommandLine(tmp_path, (target,)).type("once")
    assert outcome.status == 0
    assert "make room" in outcome.stderr
    assert "sample_not_taken" in outcome.stderr


def test_ctrl_c_during_the_sample_of_once_leaves_it_to_the_next_run(tmp_path: Path) -> None:
    target = OnceTarget(interrupted=True)
    outcome = CommandLine(tmp_path, (target,)).type("once", "--json")
    assert outcome.status == 0
    assert outcome.document["passes"][0]["state"] == "finished"
    assert target.table.taken == []
