"""The order and the pace of a pass, from the first look to the report.

The target brings the steps; their order, and the handling of a refusal or a lost connection, are here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from retentiond.engine.target import STOPPED, StoppedError
from retentiond.model.errors import RefusedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from retentiond.engine.target import PassOptions
    from retentiond.model.errors import Refusal
    from retentiond.model.report import PassReport


class Pace:
    """Holds a stream of batches to a rate; clock and sleep may be a test's own."""

    def __init__(
        self,
        items_per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = items_per_second
        self._clock = clock
        self._sleep = sleep
        self._free_at = clock()

    @property
    def is_free(self) -> bool:
        """Whether the next items may go at once."""
        return self._free_at <= self._clock()

    async def take(self, items: int) -> None:
        """Wait until these items may go; an idle time is not saved up for a burst."""
        now = self._clock()
        if self._free_at > now:
            await self._sleep(self._free_at - now)
        self._free_at = max(self._free_at, now) + items / self._rate


class Steps(Protocol):
    """The steps of a pass; the lease is held, and the store is open."""

    async def make_safe(self) -> None:
        """Make all checks that need no survey; raise RefusedError."""

    async def sweep(self) -> None:
        """Finish open work and purge expired items."""

    async def survey(self, report: PassReport) -> Refusal | None:
        """Judge every item; return the first limit that the pass would exceed, if any."""

    async def begin(self, report: PassReport) -> None:
        """Give the pass its number and record its policies, before its first effect."""

    async def remove(self, report: PassReport) -> None:
        """Delete the due items by the protocol."""

    async def account(self, report: PassReport) -> None:
        """Count the figures that are known only at the end."""

    async def end(self, report: PassReport) -> None:
        """Record the report."""


class EvictingSteps(Steps, Protocol):
    """The steps of a pass over a store that may have quotas."""

    async def prepare_eviction(self, report: PassReport) -> None:
        """Read the state that a check of the quotas needs."""

    async def evict(self, report: PassReport) -> None:
        """Enforce the quotas, and begin the pass before the first removal; raise RefusedError."""


@contextmanager
def _noting_the_end(report: PassReport) -> Iterator[None]:
    """Put the reason for an early end into the report: a refusal, a lost connection, or a stop."""
    try:
        yield
    except RefusedError as error:
        report.refused = error.refusal
    except UnreachableError as error:
        report.state, report.error = "interrupted", str(error)
    except StoppedError:
        report.state, report.error = "interrupted", STOPPED


async def run_steps(steps: Steps, options: PassOptions, report: PassReport) -> None:
    """Run one pass; refusals and losses end it, and are in the report."""
    with _noting_the_end(report):
        await steps.make_safe()
        await steps.sweep()
        # The survey reads everything and may take long; its changes are temporary and end with its connection.
        report.refused = await options.stop.unless_asked(steps.survey(report))
        if report.refused is None or options.over_limits:
            report.refused = None
            await steps.begin(report)
            await steps.remove(report)
            await steps.account(report)
    conclude(report)
    await steps.end(report)


async def run_eviction(steps: EvictingSteps, report: PassReport) -> None:
    """Enforce the quotas between passes: a check that deletes items becomes a pass, another is not logged."""
    with _noting_the_end(report):
        await steps.make_safe()
        await steps.prepare_eviction(report)
        await steps.evict(report)
        if report.pass_id is not None:
            await steps.account(report)
    conclude(report)
    if report.is_worth_telling:
        await steps.end(report)


def conclude(report: PassReport) -> None:
    """Set the final state of the report."""
    if report.state != "interrupted":
        if report.refused is not None:
            report.state = "refused"
        else:
            report.state = "finished_with_failures" if report.failed.total() else "finished"
    report.finished_at = datetime.now(UTC)
