"""Keeps one target: opens it, however long that takes, goes its rounds, and runs one pass at a time when asked."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import tenacity

from retentiond.adapters.logging import get_logger
from retentiond.config.media import MediaTarget
from retentiond.daemon.audits import Audits
from retentiond.daemon.contact import Contact
from retentiond.daemon.foresight import Foresight, OpenTarget
from retentiond.daemon.rounds import Rounds
from retentiond.engine.target import Order, Stop
from retentiond.model.errors import BusyError, RefusedError, RetentiondError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from retentiond.adapters.metrics import Hindrance
    from retentiond.daemon.board import Board
    from retentiond.daemon.clock import Clock
    from retentiond.daemon.settings import TargetSettings
    from retentiond.daemon.terms import Terms
    from retentiond.engine.target import Target
    from retentiond.model.errors import PassLimit, StoreLimit
    from retentiond.model.report import PassReport


_LONGEST_PAUSE: Final = 60.0  # seconds between two tries to open a target

_log = get_logger()


class Keeper:
    """One target from the daemon's start, or a reload, to its end; `adopt(None)` ends it.

    `reached` is called each time that the target was opened; `last_started` is known by then.
    """

    def __init__(
        self,
        name: str,
        terms: Terms,
        open_target: OpenTarget,
        clock: Clock,
        board: Board,
        reached: Callable[[Keeper], None],
    ) -> None:
        self.name = name
        self.terms: Terms | None = terms
        self.last_started: datetime | None = None
        self._open_target = open_target
        self._clock = clock
        self._board = board
        self._reached = reached
        self._contact = Contact(name, clock, board)
        self._foresight = Foresight(name, open_target)
        self._requested = False
        self._quotas_due = False
        self._attention = asyncio.Event()
        self._opening: asyncio.Timeout | None = None
        self._stop: Stop | None = None

    def request_pass(self) -> None:
        """Ask for a pass, as soon as none is under way; asking again before it began changes nothing."""
        self._requested = True
        self._attention.set()

    def adopt(self, terms: Terms | None) -> None:
        """Go by new terms, after the pass that may be under way; None ends the keeper."""
        self.terms = terms
        self._attention.set()
        # A second signal may come while the opening is still being cancelled: a deadline is set once.
        if self._opening is not None and self._opening.when() is None:
            # There is nothing yet that would have to be ended with care.
            self._opening.reschedule(0)

    def stop(self) -> None:
        """End at the end of the batch under way."""
        if self._stop is not None:
            self._stop.ask()
        self.adopt(None)

    async def run(self) -> None:
        """Keep the target until told otherwise. What is no RetentiondError is raised."""
        while (terms := self.terms) is not None:
            settings = terms.in_force(self._clock.now())
            async with AsyncExitStack() as opened:
                target = await self._reach(settings, opened)
                if target is not None:
                    await self._serve(target, terms, settings)

    def _still_in_force(self, terms: Terms, settings: TargetSettings) -> bool:
        return self.terms == terms and terms.in_force(self._clock.now()) == settings

    async def _reach(self, settings: TargetSettings, opened: AsyncExitStack) -> Target | None:
        """Open the target, trying until it works; None if other terms came meanwhile."""
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
            last_pass = (await target.status()).last_pass
            opened.push_async_exit(attempt.pop_all())
        if last_pass is not None:
            started: datetime = last_pass["started_at"]
            self.last_started = max(started, self.last_started or started)
        self._contact.made()
        self._reached(self)
        return target

    def _note_failure(self, attempt: tenacity.RetryCallState) -> None:
        error = attempt.outcome and attempt.outcome.exception()
        if isinstance(error, RetentiondError):
            self._contact.lost(error)

    async def _serve(self, target: Target, terms: Terms, settings: TargetSettings) -> None:
        """Go the rounds and run passes, as long as the terms and settings hold."""
        rounds = Rounds(target, self._clock, self._contact, self._board)
        schedule = settings.config.audit if isinstance(settings.config, MediaTarget) else None
        audits = Audits(target, schedule, self._clock, self._contact, self._board)
        async with asyncio.TaskGroup() as group:
            auditing = group.create_task(audits.run())
            sweeps = group.create_task(rounds.sweep())
            beats = group.create_task(rounds.beat())
            foresight = group.create_task(self._foresight.tell(terms))
            quotas = group.create_task(self._ask_for_quotas(settings))
            while self._still_in_force(terms, settings):
                self._attention.clear()
                if self._requested:
                    self._requested = False
                    await self._pass(target, settings)
                elif self._quotas_due:
                    self._quotas_due = False
                    await self._check_quotas(target, settings)
                else:
                    await self._attention.wait()
            foresight.cancel()
            quotas.cancel()
            audits.end(auditing)
            await rounds.end(sweeps, beats)

    async def _ask_for_quotas(self, settings: TargetSettings) -> None:
        """Ask for a look at the quotas every so often; it takes its turn with the passes."""
        config = settings.config
        if not isinstance(config, MediaTarget) or not config.quota:
            return
        every = min(quota.every for quota in config.quota)
        while True:
            await self._clock.sleep(every.total_seconds())
            self._quotas_due = True
            self._attention.set()

    async def _pass(self, target: Target, settings: TargetSettings) -> None:
        self.last_started = self._clock.now()
        self._board.begun(self.name)
        await self._work(target.run_pass, settings)

    async def _check_quotas(self, target: Target, settings: TargetSettings) -> None:
        await self._work(target.check_quotas, settings)

    async def _work(
        self, work: Callable[[Order], Awaitable[PassReport | None]], settings: TargetSettings
    ) -> None:
        self._stop = Stop()
        order = Order(
            command="run",
            patience=0.0,
            keep_records=settings.keep_records,
            progress=_Watch(self.name, self._board),
            stop=self._stop,
        )
        report = None
        try:
            report = await work(order)
        except BusyError as error:
            self._refuse("busy", error)
        except UnreachableError as error:
            self._contact.lost(error)
            self._refuse("unreachable", error)
        except RefusedError as error:
            self._refuse(error.refusal.limit, error)
        except RetentiondError as error:
            self._refuse("error", error)
        finally:
            self._stop = None
            self._board.ended(self.name, report)

    def _refuse(self, reason: PassLimit | StoreLimit | Hindrance, error: RetentiondError) -> None:
        self._board.refused(self.name, reason)
        _log.warning("pass_refused", target=self.name, reason=reason, error=str(error))


class _Watch:
    """Shows on the board how far a pass is."""

    def __init__(self, name: str, board: Board) -> None:
        self._name = name
        self._board = board
        self._stage = ""
        self._total: int | None = None
        self._done = 0

    def stage(self, name: str, total: int | None) -> None:
        self._stage, self._total, self._done = name, total, 0
        self.advance(0)

    def advance(self, items: int, size: int = 0) -> None:
        del size
        self._done += items
        self._board.working(self._name, self._stage, self._done, self._total)

    def note(self, text: str) -> None:
        """Show nothing: the ledger has it, and `status` shows it from there."""
