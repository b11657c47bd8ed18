"""The parts of an audit that need no store: the second look, the rate of reading, a stop, and the table of findings."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from retentiond.adapters.disk import DiskWorkers
from retentiond.engine.target import AuditOptions, Stop
from retentiond.model.audit import KINDS, AuditReport, Finding
from retentiond.model.media import Hash, MediaRow
from retentiond.targets.dendrite_media.audit import auditor
from retentiond.targets.dendrite_media.audit.confirm import Confirmer
from retentiond.targets.dendrite_media.audit.contents import ContentOnDisk, FileSeen
from retentiond.targets.dendrite_media.audit.judge import ContentInDatabase
from retentiond.targets.dendrite_media.audit.scan import list_levels
from retentiond.targets.dendrite_media.audit.verify import ReadRate, verify_contents
from retentiond.targets.dendrite_media.disk.layout import blob_parts
from retentiond.targets.dendrite_media.disk.tree import MediaTree
from retentiond.targets.dendrite_media.repair.context import RepairContext
from retentiond.terminal.audit import MEANINGS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from retentiond.adapters.postgres import Conn
    from retentiond.ledger.lease import Lease
    from retentiond.model.audit import FindingKind
    from retentiond.targets.dendrite_media.store.context import TargetContext

BLOB = Hash("A" * 43)
ROW = MediaRow("a", "there.test", "image/png", 5, 0, "", BLOB, "")
THERE = ContentOnDisk(BLOB, file=FileSeen(5, 0.0, 0.0))
MISSING = ContentOnDisk(BLOB, file_missing=True)
OF_ANOTHER_SIZE = ContentOnDisk(BLOB, file=FileSeen(6, 0.0, 0.0))


class Looks(Confirmer):
    """Sees what the test says, one after another."""

    def __init__(self, *seen: tuple[ContentInDatabase, ContentOnDisk]) -> None:
        super().__init__(cast("TargetContext", None), cast("MediaTree", None), ledger=False, before=1.0)
        self.left = list(seen)

    async def once(self, blobs: Sequence[Hash]) -> dict[Hash, tuple[ContentInDatabase, ContentOnDisk]]:
        return {blob: self.left.pop(0) for blob in blobs}


@pytest.mark.parametrize(
    ("second", "found"),
    [
        ((ContentInDatabase([ROW]), MISSING), ["missing_file"]),
        ((ContentInDatabase([ROW]), THERE), []),  # the file came meanwhile
        ((ContentInDatabase(), MISSING), []),  # a pass took the row
        ((ContentInDatabase([ROW], whole_held=True), MISSING), []),  # it is on its way out or back
        ((ContentInDatabase([ROW]), OF_ANOTHER_SIZE), []),  # wrong in another way: the next audit tells
    ],
)
async def test_a_finding_must_be_seen_twice(
    second: tuple[ContentInDatabase, ContentOnDisk], found: list[str]
) -> None:
    looks = Looks((ContentInDatabase([ROW]), MISSING), second)
    assert [finding.kind for finding in (await looks.look([BLOB])).findings] == found
    assert looks.left == []


async def test_what_was_right_at_the_first_close_look_is_not_looked_at_again() -> None:
    looked = await Looks((ContentInDatabase([ROW]), THERE)).look([BLOB])
    assert (looked.findings, looked.whole) == ([], [BLOB])


def test_reading_waits_for_as_long_as_its_rate_says() -> None:
    now = 100.0
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    rate = ReadRate(100, lambda: now, sleep)
    rate.spend(50)
    rate.spend(200)
    now += 60
    rate.spend(100)  # an idle minute is not saved up
    assert waits == [0.5, 2.0, 1.0]


def test_a_large_file_that_is_read_slowly_keeps_no_stop_waiting(tmp_path: Path) -> None:
    directory = tmp_path.joinpath(*blob_parts(BLOB))
    directory.mkdir(parents=True)
    (directory / "file").write_bytes(bytes(5 << 20))
    stop, waits = Stop(), 0

    def ask(_seconds: float) -> None:
        nonlocal waits
        waits += 1
        stop.ask()

    with MediaTree(tmp_path) as tree:
        assert verify_contents(tree, ReadRate(1, lambda: 0.0, ask), stop)([BLOB, BLOB]) == []
    assert waits == 1


class Noted:
    """What was found, in two pages."""

    async def of_kind(self, kind: FindingKind) -> AsyncGenerator[list[Finding], None]:
        for _ in range(2):
            yield [Finding(kind)] * 3600


async def test_a_repair_at_a_slow_pace_keeps_no_stop_waiting() -> None:
    stop, report = Stop(), AuditReport("media", datetime(2026, 1, 1, tzinfo=UTC))
    pace = SimpleNamespace(max_items_per_second=1)
    work = SimpleNamespace(context=SimpleNamespace(config=SimpleNamespace(pace=pace)))
    parts: dict[str, Any] = {"session": work, "notes": Noted(), "telling": SimpleNamespace(report=report)}
    options = AuditOptions("audit --repair", repair=True, stop=stop)
    context = RepairContext(
        **parts,
        options=options,
        connection=cast("Conn", None),
        lease=cast("Lease", None),
        pass_id=1,
        before=0.0,
    )
    async for _ in context.findings("missing_file"):
        asyncio.get_running_loop().call_later(0.01, stop.ask)
    assert report.left == {"missing_file": {"stopped": 3600}}


def test_every_kind_of_finding_has_words_and_the_report_tells_kinds_in_one_order() -> None:
    assert list(MEANINGS) == sorted(MEANINGS, key=KINDS.index)
    assert set(MEANINGS) == set(KINDS)
    report = AuditReport("media", datetime(2026, 1, 1, tzinfo=UTC))
    for kind in ("unknown_path", "missing_file"):
        report.add(Finding(kind, bytes=3))
    report.leave("missing_file", "local", 0)
    assert list(report.as_json()["findings"]) == ["missing_file", "unknown_path"]
    assert report.as_json()["left"] == {}


class CountedWorkers(DiskWorkers):
    """Counts the pieces of work that threads are given."""

    calls = 0

    async def call(self, work: Callable[[], Any]) -> Any:
        self.calls += 1
        return await super().call(work)


@pytest.mark.parametrize(("most", "calls"), [(4000, 1), (50, 6)])
async def test_a_scan_hands_a_thread_long_runs_of_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, calls: int
) -> None:
    monkeypatch.setattr(auditor, "_BLOBS_A_RUN", most)
    names = sorted(
        f"{first}{second}{'x' * 41}" for first in "ABCDEFGHIJ" for second in "abcdefghijklmnopqrstuvwxyz-0"
    )
    for name in names:
        path = tmp_path.joinpath(*blob_parts(Hash(name)))
        path.mkdir(parents=True)
        (path / "file").write_bytes(b"xy")
    disk = CountedWorkers(4)
    found: list[str] = []
    lasts: list[str] = []
    try:
        with MediaTree(tmp_path) as tree:
            shelves = list_levels(tree).shelves
            async with auditor.ScansAhead(tree, disk, shelves) as scans:
                while (run := await scans.next()) is not None:
                    assert set(run.blobs.values()) == {"file:2"}
                    found += run.blobs
                    lasts.append(run.last)
    finally:
        disk.close()
    assert found == names
    assert lasts[-1] == names[-1][:2]
    assert disk.calls == calls


async def test_the_error_of_a_scan_is_raised_where_its_run_is_awaited(tmp_path: Path) -> None:
    disk = DiskWorkers(1)
    try:
        with MediaTree(tmp_path) as tree:
            async with auditor.ScansAhead(tree, disk, [cast("Any", None)]) as scans:
                with pytest.raises(AttributeError):
                    await scans.next()
    finally:
        disk.close()
