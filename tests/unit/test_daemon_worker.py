"""One worker with a target that is not there, on a clock that only the test moves."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

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
from retentiond.model.errors import BusyError, Refusal, RefusedError, UnreachableError
from tests.support.fake_clock import NOON, FakeClock, settle
from tests.support.fake_daemon_target import FakeStore, FakeStores
from tests.support.running_daemon import media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from structlog.typing import EventDict


def policies(**changes: Any) -> EffectivePolicies:
    target = MediaTarget.model_validate(media(**changes))
    return EffectivePolicies(TargetSettings(target, resolve(target)))


class Kept:
    """A worker at work, and what it works on."""

    def __init__(self) -> None:
        self.stores = FakeStores()
        self.clock = FakeClock()
        self.metrics = Metrics()
        self.status = StatusReporter(
            Notifier({}),
            self.metrics,
            self.clock,
            dict,
            Notices(self.clock),
            TargetStates(self.clock),
            QuietTimes(),
        )
        self.reached: list[str] = []
        self.worker = TargetWorker(
            "media",
            policies(),
            self.stores.open,
            self.clock,
            self.status,
            lambda worker: self.reached.append(worker.name),
        )
        self.task: asyncio.Task[None] | None = None

    @property
    def store(self) -> FakeStore:
        return self.stores["media"]

    async def begin(self) -> None:
        self.task = asyncio.create_task(self.worker.run())
        await settle()

    async def ended(self) -> None:
        assert self.task is not None
        await self.task


@pytest.fixture
async def kept() -> AsyncIterator[Kept]:
    one = Kept()
    yield one
    if one.task is not None:
        one.task.cancel()
        await asyncio.wait({one.task})


@pytest.fixture
def log() -> Iterator[list[EventDict]]:
    with capture_logs() as entries:
        yield entries


def events(log: list[EventDict]) -> list[str]:
    return [str(entry["event"]) for entry in log]


async def test_the_first_try_is_at_once(kept: Kept) -> None:
    await kept.begin()
    assert kept.store.open == 1
    assert kept.reached == ["media"]


async def test_the_pauses_between_tries_differ_and_are_never_above_a_minute(kept: Kept) -> None:
    kept.store.down = True
    await kept.begin()
    for _ in range(40):
        await kept.clock.advance(60)
    assert len(kept.store.configs) > 40
    assert all(0 < pause <= 60 for pause in kept.clock.pauses)
    assert kept.clock.pauses[0] <= 2
    assert max(kept.clock.pauses) > 2
    assert len(set(kept.clock.pauses)) > 1


async def test_a_target_that_cannot_be_reached_is_told_once_and_so_is_that_it_can_again(
    kept: Kept, log: list[EventDict]
) -> None:
    kept.store.down = True
    await kept.begin()
    await kept.clock.advance(300)
    assert kept.status.text() == f"media cannot be reached since {NOON.astimezone():%Y-%m-%d %H:%M %Z}"
    kept.store.down = False
    await kept.clock.advance(60)
    assert kept.status.text() == "idle"
    assert events(log) == ["target_unreachable", "target_reached"]


async def test_other_terms_do_not_wait_for_a_database_that_does_not_answer(kept: Kept) -> None:
    kept.store.opening_held = asyncio.Event()
    await kept.begin()
    kept.worker.adopt(policies(database="postgresql://elsewhere/media"))
    await settle()
    asked = [config.database.get_secret_value() for config in kept.store.configs if config.database]
    assert asked == ["postgresql://nowhere/media", "postgresql://elsewhere/media"]


async def test_a_second_signal_during_the_cancellation_of_an_opening_changes_nothing(kept: Kept) -> None:
    kept.store.opening_held = asyncio.Event()
    kept.store.let_opening_end.clear()
    await kept.begin()
    for database in ("postgresql://first/media", "postgresql://second/media"):
        kept.worker.adopt(policies(database=database))
        await settle()
    kept.worker.stop()
    await settle()
    kept.worker.stop()
    kept.store.let_opening_end.set()
    await kept.ended()
    assert len(kept.store.configs) == 1


async def test_a_keeper_that_cannot_reach_its_target_ends_at_once(kept: Kept) -> None:
    kept.store.down = True
    await kept.begin()
    kept.worker.stop()
    await kept.ended()


async def test_passes_are_one_at_a_time_and_those_asked_for_meanwhile_are_one(kept: Kept) -> None:
    kept.store.let_pass.clear()
    await kept.begin()
    for _ in range(5):
        kept.worker.request_pass()
        await settle()
    assert len(kept.store.orders) == 1
    kept.store.let_pass.set()
    await settle()
    assert len(kept.store.orders) == 2
    assert kept.store.most_running == 1


async def test_a_pass_that_waits_for_another_is_not_begun_once_the_end_was_asked_for(kept: Kept) -> None:
    kept.store.let_pass.clear()
    await kept.begin()
    kept.worker.request_pass()
    await settle()
    kept.worker.request_pass()
    kept.worker.stop()
    await kept.ended()
    assert len(kept.store.orders) == 1


async def test_a_pass_of_the_daemon_goes_over_no_limit_and_waits_for_nobody(kept: Kept) -> None:
    await kept.begin()
    kept.worker.request_pass()
    await settle()
    (order,) = kept.store.orders
    assert (order.command, order.over_limits, order.patience) == ("run", False, 0.0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BusyError("media is at work on host a, pid 7, since noon; try again"), "busy"),
        (UnreachableError("the database cannot be reached; check that it runs"), "unreachable"),
        (RefusedError(Refusal("clock_leapt", 1, 0, "set the clock")), "clock_leapt"),
    ],
)
async def test_a_pass_that_cannot_begin_is_logged_and_tried_again_when_next_asked(
    kept: Kept, log: list[EventDict], error: Exception, reason: str
) -> None:
    kept.store.pass_error = error
    await kept.begin()
    kept.worker.request_pass()
    await settle()
    (refused,) = (entry for entry in log if entry["event"] == "pass_refused")
    assert (refused["target"], refused["reason"], refused["error"]) == ("media", reason, str(error))
    kept.store.pass_error = None
    kept.worker.request_pass()
    await settle()
    assert len(kept.store.orders) == 2


async def test_what_is_no_error_of_ours_ends_the_worker(kept: Kept) -> None:
    kept.store.pass_error = ZeroDivisionError("a mistake")
    await kept.begin()
    kept.worker.request_pass()
    with pytest.raises(ExceptionGroup) as ended:
        await kept.ended()
    assert [type(error) for error in ended.value.exceptions] == [ZeroDivisionError]
    assert kept.store.open == 0


async def test_all_is_swept_at_the_start_and_each_hour_and_what_is_new_each_minute(kept: Kept) -> None:
    await kept.begin()
    assert kept.store.sweeps == [True]
    await kept.clock.advance(59 * 60)
    assert kept.store.sweeps == [True] + 59 * [False]
    await kept.clock.advance(60)
    assert kept.store.sweeps[60:] == [True]


async def test_sweeps_go_on_beside_a_pass(kept: Kept) -> None:
    kept.store.let_pass.clear()
    await kept.begin()
    kept.worker.request_pass()
    await kept.clock.advance(180)
    assert kept.store.running == 1
    assert len(kept.store.sweeps) == 4


async def test_no_two_sweeps_are_at_work_at_once(kept: Kept) -> None:
    kept.store.let_sweep.clear()
    await kept.begin()
    await kept.clock.advance(300)
    kept.worker.adopt(policies(grace="48h"))
    await kept.clock.advance(300)
    assert (kept.store.sweeping, kept.store.sweeps) == (1, [])
    kept.store.let_sweep.set()
    await settle()
    assert kept.store.sweeps == [True, True]
    assert kept.store.most_sweeping == 1


async def test_a_sweep_of_all_that_failed_is_tried_again_as_one_of_all(
    kept: Kept, log: list[EventDict]
) -> None:
    kept.store.sweep_error = UnreachableError("the database cannot be reached; check that it runs")
    await kept.begin()
    await kept.clock.advance(60)
    kept.store.sweep_error = None
    await kept.clock.advance(120)
    assert kept.store.sweeps == [True, True, True, False]
    assert events(log) == ["target_unreachable", "target_reached"]


async def test_a_sweep_that_is_refused_each_minute_is_told_once(kept: Kept, log: list[EventDict]) -> None:
    kept.store.sweep_error = RefusedError(Refusal("another_store", "another", "ours", "accept it"))
    await kept.begin()
    await kept.clock.advance(300)
    assert events(log) == ["sweep_refused"]


async def test_a_sign_of_life_is_given_each_minute_and_taken_back_at_the_end(kept: Kept) -> None:
    await kept.begin()
    await kept.clock.advance(120)
    assert (kept.store.beats, kept.store.ended_beats) == (3, 0)
    kept.worker.stop()
    await kept.ended()
    assert (kept.store.beats, kept.store.ended_beats) == (3, 1)


async def test_the_board_shows_how_far_a_pass_is_and_what_it_did(kept: Kept) -> None:
    kept.store.let_pass.clear()
    await kept.begin()
    kept.worker.request_pass()
    await settle()
    assert kept.status.text() == "media: remove, 20 of 50 items"
    kept.store.let_pass.set()
    await settle()
    assert kept.status.text() == "idle; last media: pass 1, 3 items removed"


async def test_a_shortened_policy_holds_for_passes_a_day_later_and_for_none_before(kept: Kept) -> None:
    shortened = policies(policies=[{"name": "remote", "match": {"origin": "remote"}, "keep": "7d"}])
    await kept.begin()
    kept.worker.adopt(policies().reloaded(shortened.settings, kept.clock.now()))
    for _ in range(3):
        kept.worker.request_pass()
        await kept.clock.advance(12 * 3600)
    assert [rules.policies[0].keep for rules in kept.store.rules] == [
        timedelta(days=30),
        timedelta(days=30),
        timedelta(days=7),
    ]
    assert kept.store.open == 1


async def test_quotas_are_looked_at_every_so_often_and_wait_for_the_pass_under_way(kept: Kept) -> None:
    quotas = [{"match": {"origin": "remote"}, "max_size": "1GiB", "every": every} for every in ("30m", "10m")]
    kept.worker.adopt(policies(quota=quotas))
    await kept.begin()
    await kept.clock.advance(1300)
    assert kept.store.quota_checks == [0, 0]
    kept.store.let_pass.clear()
    kept.worker.request_pass()
    await kept.clock.advance(1200)
    assert kept.store.quota_checks == [0, 0]
    kept.store.let_pass.set()
    await settle()
    assert kept.store.quota_checks == [0, 0, 0]


async def test_without_quotas_nobody_looks(kept: Kept) -> None:
    await kept.begin()
    await kept.clock.advance(7200)
    assert kept.store.quota_checks == []
