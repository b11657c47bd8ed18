"""A power cut at any point of the real program: what was not synced is lost, what the database committed is not.

The next start finds a ledger that may know more than the disk, and a disk that may know more than the ledger. The judge
knows neither the ledger nor the layout of the quarantine: it compares rows with files, and restores everything.
"""

from __future__ import annotations

import random
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.closing_lines import not_run
from tests.support.crashes import points_of
from tests.support.sabotage import sync_file_system

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.worn_store import WornStore


_MIB: Final = 2**20
# Each with the smallest size that it takes, and the options that keep it from a commit by the clock.
_KINDS: Final = {
    "ext4": (24 * _MIB, "loop,commit=3600"),
    "xfs": (300 * _MIB, "loop"),
    "btrfs": (128 * _MIB, "loop,commit=3600"),
}


class LossyDisk:
    """A mounted file system; its power can be cut while no process works on it."""

    def __init__(self, directory: Path, kind: str) -> None:
        self._kind = kind
        self.path = directory / "disk"
        self._image = directory / "image"

    def sync(self) -> None:
        """Write everything to the device."""
        sync_file_system(self.path)

    def cut_power(self) -> None:
        """Lose what was not synced: go on with the image as it is now."""
        left = self._image.with_name("left")
        subprocess.run(["cp", "--sparse=always", self._image, left], check=True)
        self.unmount()
        left.replace(self._image)
        self.mount()

    def make(self) -> None:
        """Make the file system, without a mount."""
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_KINDS[self._kind][0])
        subprocess.run([f"mkfs.{self._kind}", "-q", self._image], stdin=subprocess.DEVNULL, check=True)

    def mount(self) -> None:
        """Mount the image; raise CalledProcessError."""
        options = _KINDS[self._kind][1]
        subprocess.run(["mount", "-t", self._kind, "-o", options, self._image, self.path], check=True)

    def unmount(self) -> None:
        """Unmount the image."""
        subprocess.run(["umount", self.path], check=True)


@contextmanager
def lossy_disk(directory: Path, kind: str, config: pytest.Config) -> Iterator[LossyDisk]:
    """Lend one; the test is left out where no image can be mounted."""
    disk = LossyDisk(directory, kind)
    try:
        disk.make()
        disk.mount()
    except (OSError, subprocess.CalledProcessError):
        not_run(config, f"power cuts on {kind}", f"they need root, mkfs.{kind} and a loop device")
        pytest.skip(f"no image of {kind} can be mounted here")
    try:
        yield disk
    finally:
        disk.unmount()


_FEW = 3
_RESTORE = ("quarantine", "restore", "--all")

pytestmark = pytest.mark.timeout(7200 if NIGHTLY else 1200)


@pytest.fixture(params=["ext4", "xfs", "btrfs"] if NIGHTLY else ["ext4"])
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LossyDisk]:
    with lossy_disk(tmp_path, request.param, request.config) as lent:
        yield lent


def _cuts(points: list[str], rng: random.Random) -> list[tuple[int, int]]:
    """Return when the power fails, each with the last point that something else synced everything at (0: nothing did).

    By night after every effect, once with nothing synced but what the program syncs; by day after a few commits, each
    of which relies on everything before it.
    """
    after = "after " if NIGHTLY else "after commit "
    effects = [nth for nth, point in enumerate(points, 1) if point.startswith(after)]
    if NIGHTLY:
        return [(nth, early) for nth in effects for early in sorted({0, rng.randrange(nth)})]
    return [(nth, rng.choice([0, rng.randrange(nth)])) for nth in rng.sample(effects, _FEW)]


async def _cut(copy: WornStore, disk: LossyDisk, words: tuple[str, ...], nth: int, early: int) -> list[str]:
    """Cut the power while a command stands at its `nth` point. Nothing breaks by that which was whole."""
    broken = await copy.broken()
    disk.sync()
    orders = [copy.program.order("*", "kill", nth)]
    orders += [copy.program.order("*", "sync", early)] if early else []
    await copy.program.run(*words, orders=orders)
    await copy.until_gone()
    disk.cut_power()
    return sorted(await copy.broken() - broken)


@pytest.mark.parametrize("grace", ["24h", "0s"])
async def test_a_pass_whose_power_is_cut_at_any_point_is_finished_by_the_next_start(
    worn: WornStore, tmp_path: Path, disk: LossyDisk, grace: str
) -> None:
    worn.program.configure(grace="0s")
    async with worn.copy(tmp_path / "undisturbed") as copy:
        await copy.judge_purged((0, 0))
        expected = await copy.purged()
    worn.program.configure(grace=grace)
    points = await points_of(worn, tmp_path, ("once",))
    failures = []
    for nth, early in _cuts(points, random.Random(SEED)):
        async with worn.copy(disk.path / "copy") as copy:
            problems = await _cut(copy, disk, ("once",), nth, early)
            problems += await (copy.judge_kept() if grace == "24h" else copy.judge_purged(expected))
            failures += [f"{points[nth - 1]} ({nth}, {early}): {problem}" for problem in problems]
    assert failures == [], AGAIN


async def test_a_restore_whose_power_is_cut_at_any_point_is_finished_by_the_next_start(
    worn: WornStore, tmp_path: Path, disk: LossyDisk
) -> None:
    points = await points_of(worn, tmp_path, ("once",), _RESTORE)
    failures = []
    async with worn.copy(tmp_path / "passed") as passed:
        await passed.program.run("once")
        await passed.connection.close()
        for nth, early in _cuts(points, random.Random(SEED)):
            async with passed.copy(disk.path / "copy") as copy:
                problems = await _cut(copy, disk, _RESTORE, nth, early) + await copy.judge_kept()
                failures += [f"{points[nth - 1]} ({nth}, {early}): {problem}" for problem in problems]
    assert failures == [], AGAIN


@pytest.mark.parametrize("words", [("once",), _RESTORE], ids=["pass", "restore"])
async def test_a_power_cut_is_noticed_where_the_program_does_not_sync(
    worn: WornStore, disk: LossyDisk, words: tuple[str, ...]
) -> None:
    async with worn.copy(disk.path / "copy") as copy:
        disk.sync()
        ended = await copy.program.run(*words, orders=[copy.program.order("before *sync *", "skip", 0)])
        assert ended.status == 0, ended
        disk.cut_power()
        assert await copy.broken() != set()
