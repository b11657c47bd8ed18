"""A pass that ends before its time counts the items that it did not reach, and says how to continue."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import STOPPED, AuditOptions, NullProgress, PassOptions
from retentiond.model.errors import UnreachableError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.model.report import Tally
from retentiond.model.request import Request
from retentiond.targets.dendrite_media.quarantine.release import Releaser
from tests.support.media_target import REMOTE

if TYPE_CHECKING:
    from retentiond.model.report import PassReport
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

SMALL = {"pace": {"batch": 2, "concurrency": 1, "max_items_per_second": 1_000_000}}
DUE = 9
SIZE = 192
"""Bytes of each file that a test store makes."""


class StopAfterOneBatch(NullProgress):
    """Asks a pass to stop once the first batch is done."""

    order: PassOptions

    def advance(self, items: int, size: int = 0) -> None:
        del items, size
        if self.removing:
            self.order.stop.ask()

    removing = False

    def stage(self, name: str, total: int | None) -> None:
        del total
        self.removing = name == "remove"


class StopAtRepair(NullProgress):
    """Asks an audit to stop when its repair begins."""

    order: AuditOptions

    def stage(self, name: str, total: int | None) -> None:
        del total
        if name == "repair":
            self.order.stop.ask()


@pytest.fixture
async def rows(store: DendriteStore, retention: Retention) -> int:
    """Due entries of which one is an avatar, one is held and one has no file, and entries that are not due."""
    for number in range(DUE):
        media = await store.add(file=number != 2)
        if number == 0:
            await store.add_profile("ann", media.uri)
        if number == 1:
            async with retention.opened() as target:
                await target.holds.add(HoldRequest(HoldSubject("media", media.uri)))
    await store.add(age=timedelta(days=1))
    await store.add(origin="here.test", user_id="@ann:here.test")
    return DUE + 2


def counted(report: PassReport) -> int:
    return report.removed_items + report.kept.total() + report.failed.total() + report.not_reached.items


def stopping(command: str, request: Request | None = None) -> PassOptions:
    progress = StopAfterOneBatch()
    progress.order = PassOptions(command, request=request, progress=progress)
    return progress.order


async def test_an_interrupted_pass_counts_what_it_did_not_reach_so_that_all_adds_up_to_the_survey(
    retention: Retention, rows: int
) -> None:
    async with retention.opened(**SMALL) as target:
        report = await target.run_pass(stopping("once"))
        assert (report.state, report.error) == ("interrupted", STOPPED)
        left = report.not_reached
        assert counted(report) == rows
        assert left.items >= DUE - 2 - 2
        assert left.bytes == left.items * SIZE
        assert (report.kept["profile_avatars"], report.kept["hold"]) == (1, 1)
        told = (await target.status()).last_pass
        assert told is not None
        assert told["not_reached"] == {"items": left.items, "bytes": left.bytes}
        # The next pass takes exactly these.
        again = await target.run_pass(PassOptions("once"))
    assert (again.removed_items, again.not_reached) == (left.items, Tally())
    assert counted(again) == rows - report.removed_items


async def test_a_finished_pass_has_reached_everything(retention: Retention, rows: int) -> None:
    report = await retention.one_pass(**SMALL)
    assert (report.state, report.not_reached, counted(report)) == ("finished", Tally(), rows)


async def test_a_plan_counts_as_the_pass_does(retention: Retention, rows: int) -> None:
    planned, _ = await retention.one_plan()
    report = await retention.one_pass()
    assert (planned.kept, counted(planned)) == (report.kept, rows)


async def test_a_refused_pass_counts_what_is_due_as_not_reached(retention: Retention, rows: int) -> None:
    report = await retention.one_pass(limits={"max_share": 0.1})
    assert (report.state, report.removed_items) == ("refused", 0)
    assert report.not_reached == Tally(DUE - 2, (DUE - 2) * SIZE)
    assert counted(report) == rows


async def test_a_pass_that_loses_its_database_counts_what_it_did_not_reach(
    retention: Retention, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_arguments: object) -> None:
        raise UnreachableError("the database was lost on the way; run it again")

    monkeypatch.setattr(Releaser, "release", lose)
    report = await retention.one_pass(**SMALL)
    assert (report.state, report.removed_items, counted(report)) == ("interrupted", 0, rows)
    assert report.not_reached.items == DUE - 2


async def test_an_interrupted_delete_counts_what_it_did_not_reach(retention: Retention, rows: int) -> None:
    request = Request("origin", "there.test")
    async with retention.opened(**SMALL) as target:
        report = await target.run_pass(stopping("delete", request))
    assert report.state == "interrupted"
    assert counted(report) == rows - 1
    assert report.not_reached.items > 0


async def test_a_stop_before_thumbnails_and_quotas_is_an_interruption_and_not_a_finished_pass(
    retention: Retention, store: DendriteStore
) -> None:
    thumbnails = {"name": "thumbs", "match": {"origin": "local"}, "keep": "30d", "remove": "thumbnails"}
    for policies, state in (([REMOTE], "finished"), ([REMOTE, thumbnails], "interrupted")):
        await store.add()
        async with retention.opened(policies=policies, limits={"max_share": 1.0}) as target:
            report = await target.run_pass(stopping("once"))
        assert (report.state, report.removed_items) == (state, 1)


async def test_a_stop_that_is_asked_for_during_the_survey_changes_nothing_and_counts_nothing(
    retention: Retention, rows: int
) -> None:
    order = PassOptions("once")
    order.stop.ask()
    async with retention.opened() as target:
        report = await target.run_pass(order)
    await asyncio.sleep(0)
    assert (report.state, report.pass_id, report.removed_items, report.not_reached) == (
        "interrupted",
        None,
        0,
        Tally(),
    )
    assert rows


async def test_a_repair_that_is_stopped_counts_the_findings_that_it_did_not_reach(
    retention: Retention, store: DendriteStore
) -> None:
    await store.add()
    for _ in range(3):
        await store.add(file=False)
    progress = StopAtRepair()
    limits = {"max_share": 1.0, "max_missing_files": 1.0}
    async with retention.opened(limits=limits, settle="5s") as target:
        order = AuditOptions("audit --repair", repair=True, listen=lambda _: None, progress=progress)
        progress.order = order
        report = await target.audit(order)
        assert (report.error, report.found_items, report.repaired.total()) == (STOPPED, 3, 0)
        assert report.as_json()["not_reached"] == {"items": 3}
        # The same command again finds and repairs them.
        again = await target.audit(AuditOptions("audit --repair", repair=True, listen=lambda _: None))
    assert (again.repaired, again.not_reached) == ({"missing_file": 3}, 0)
