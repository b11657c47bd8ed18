"""Keeps one target: opens it, however long that takes, goes its sweep_loop, and runs one pass at a time when asked."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import tenacity

from retentiond.adapters.logging import get_logger
from retentiond.daemon.policies import OpenTarget, ShorteningPreview
from retentiond.daemon.rounds import Audits, SweepLoop, take_samples
from retentiond.daemon.status import Reachability
from retentiond.engine.capabilities import HasQuotas
from retentiond.engine.target import PassOptions, Stop
from retentiond.model.errors import BusyError, RefusedError, RetentiondError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from retentiond.adapters.clock import Clock
    from retentiond.adapters.metrics import Hindrance
    from retentiond.daemon.policies import EffectivePolicies
    from retentiond.daemon.settings import TargetSettings
    from retentiond.daemon.status import StatusReporter
    from retentiond.engine.target import Target
    from retentiond.model.errors import PassLimit, StoreLimit
    from retentiond.model.report import PassReport


_LONGEST_PAUSE: Final = 60.0  # seconds between two tries to open a target

_log = get_logger()


class TargetWorker:
    """One target from the daemon's start, or a reload, to its end; `adopt(None)` ends it.

    `reached` is called each time that the target was opened; `last_started` is known by then.
    """

    def __init__(
        self,
        name: str,
        policies: EffectivePolicies,
        open_target: OpenTarget,
        clock: Clock,
        status: StatusReporter,
        reached: Callable[[TargetWorker], None],
    ) -> None:
        self.name = name
        self.policies: EffectivePolicies | None = policies
        self.last_started: datetime | None = None
        self._open_target = open_target
        self._clock = clock
        self._status = status
        self._reached = reached
        self._reachability = Reachability(name, clock, status)
        self._preview = ShorteningPreview(name, open_target)
        self._requested = False
        self._quotas_due = False
        self._attention = asyncio.Event()
        self._opening: asyncio.Timeout | None = None
        self._stop: Stop | None = None

    def request_pass(self) -> None:
        """Request a pass, after the running one; a second request before it began has no effect."""
        self._requested = True
        self._attention.set()

    def adopt(self, policies: EffectivePolicies | None) -> None:
        """Apply new policies after the running pass; None ends the worker."""
        self.policies = policies
        self._attention.set()
        # A second signal may come while the opening is still being cancelled: a deadline is set once.
        if self._opening is not None and self._opening.when() is None:
            # Nothing is running yet that needs an orderly end.
            self._opening.reschedule(0)

    def stop(self) -> None:
        """End with the running batch."""
        if self._stop is not None:
            self._stop.ask()
        self.adopt(None)

    async def run(self) -> None:
        """Work until `adopt(None)`. Raise every error but RetentiondError."""
        while (policies := self.policies) is not None:
            settings = policies.in_force(self._clock.now())
            async with AsyncExitStack() as opened:
                target = await self._reach(settings, opened)
                if target is not None:
                    await self._serve(target, policies, settings)

    def _still_in_force(self, policies: EffectivePolicies, settings: TargetSettings) -> bool:
        return self.policies == policies and policies.in_force(self._clock.now()) == settings

    async def _reach(self, settings: TargetSettings, opened: AsyncExitStack) -> Target | None:
        """Open the target, with retries; None if other policies were adopted meanwhile."""
        retrying = tenacity.AsyncRetrying(
            sleep=self._clock.sleep,
            wait=tenacity.wait_random_exponential(multiplier=2, min=1, max=_LONGEST_PAUSE),
            retry=tenacity.retry_if_exception_type(RetentiondError),
            before_sleep=self._note_failure,
        )
        opening = asyncio.timeout(None)
        try:
            async with opening:
                self._opening = opening
                target: Target = await retrying(self._open_once, settings, opened)
                return target
        except TimeoutError:
            if not opening.expired():
                raise
            return None
        finally:
            self._opening = None

    async def _open_once(self, settings: TargetSettings, opened: AsyncExitStack) -> Target:
        async with AsyncExitStack() as attempt:
            target = await attempt.enter_async_context(self._open_target(self.name, settings.config))
            status = await target.status()
            last_pass = status.last_pass
            opened.push_async_exit(attempt.pop_all())
        self._status.opened(self.name, status)
        if last_pass is not None:
            started: datetime = last_pass["started_at"]
            self.last_started = max(started, self.last_started or started)
        self._reachability.made()
        self._reached(self)
        return target

    def _note_failure(self, attempt: tenacity.RetryCallState) -> None:
        error = attempt.outcome and attempt.outcome.exception()
        if isinstance(error, RetentiondError):
            self._reachability.lost(error)

    async def _serve(self, target: Target, policies: EffectivePolicies, settings: TargetSettings) -> None:
        """Sweep and run passes while the policies and settings are in force."""
        sweep_loop = SweepLoop(target, self._clock, self._reachability, self._status)
        audits = Audits(target, settings.config.audit_schedule, self._clock, self._reachability, self._status)
        async with asyncio.TaskGroup() as group:
            auditing = group.create_task(audits.run())
            sweeps = group.create_task(sweep_loop.sweep())
            beats = group.create_task(sweep_loop.beat())
            preview = group.create_task(self._preview.tell(policies))
            quotas = group.create_task(self._ask_for_quotas(settings))
            samples = group.create_task(take_samples(target, self._clock, self._status))
            while self._still_in_force(policies, settings):
                self._attention.clear()
                if self._requested:
                    self._requested = False
                    await self._pass(target, settings)
                elif self._quotas_due:
                    self._quotas_due = False
                    await self._check_quotas(target, settings)
                else:
                    await self._attention.wait()
            preview.cancel()
            quotas.cancel()
            samples.cancel()
            audits.end(auditing)
            await sweep_loop.end(sweeps, beats)

    async def _ask_for_quotas(self, settings: TargetSettings) -> None:
        """Request a check of the quotas at their interval; it never runs beside a pass."""
        every = settings.config.quota_interval
        if every is None:
            return
        while True:
            await self._clock.sleep(every.total_seconds())
            self._quotas_due = True
            self._attention.set()

    async def _pass(self, target: Target, settings: TargetSettings) -> None:
        self.last_started = self._clock.now()
        self._status.begun(self.name)
        await self._work(target.run_pass, settings, scheduled=True)

    async def _check_quotas(self, target: Target, settings: TargetSettings) -> None:
        if isinstance(target, HasQuotas):
            await self._work(target.check_quotas, settings, scheduled=False)

    async def _work(
        self,
        work: Callable[[PassOptions], Awaitable[PassReport | None]],
        settings: TargetSettings,
        *,
        scheduled: bool,
    ) -> None:
        stop = self._stop = Stop()
        options = PassOptions(
            command="run",
            patience=0.0,
            keep_records=settings.keep_records,
            progress=_Watch(self.name, self._status),
            stop=stop,
        )
        report = None
        try:
            report = await work(options)
        except BusyError as error:
            self._refuse("busy", error)
        except UnreachableError as error:
            self._reachability.lost(error)
            self._refuse("unreachable", error)
        except RefusedError as error:
            self._refuse(error.refusal.limit, error)
        except RetentiondError as error:
            self._refuse("error", error)
        finally:
            self._stop = None
            self._status.ended(self.name, report, stopped=stop.asked, scheduled=scheduled)

    def _refuse(self, reason: PassLimit | StoreLimit | Hindrance, error: RetentiondError) -> None:
        self._status.refused(self.name, reason, str(error))
        _log.warning("pass_refused", target=self.name, reason=reason, error=str(error))


class _Watch:
    """Reports the progress of a pass to the status."""

    def __init__(self, name: str, status: StatusReporter) -> None:
        self._name = name
        self._status = status
        self._stage = ""
        self._total: int | None = None
        self._done = 0

    def stage(self, name: str, total: int | None) -> None:
        self._stage, self._total, self._done = name, total, 0
        self.advance(0)

    def advance(self, items: int, size: int = 0) -> None:
        del size
        self._done += items
        self._status.working(self._name, self._stage, self._done, self._total)

    def note(self, text: str) -> None:
        """Report nothing: `status` reads it from the ledger."""
