"""The daily sample of a target: at the daemon's start where today has none yet, and then in the first hour of each day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.engine.capabilities import HasSamples
from retentiond.engine.target import NullProgress
from retentiond.model.errors import BusyError, RetentiondError

if TYPE_CHECKING:
    from retentiond.adapters.clock import Clock
    from retentiond.daemon.status import StatusReporter
    from retentiond.engine.target import Target

LOOK_EVERY: Final = 3600.0
"""Seconds between two looks; a look where today has a sample reads one row of the ledger."""

_log = get_logger()


async def take_samples(target: Target, clock: Clock, status: StatusReporter) -> None:
    """Take the samples of one opened target until cancelled; an error is a warning, and the next look tries again.

    The newest one goes to the metrics, whoever took it.
    """
    if not isinstance(target, HasSamples):
        return
    complaint = ""
    while True:
        try:
            if await target.take_sample("run", NullProgress()):
                _log.info("sample_taken", target=target.name)
            for sample in await target.samples(1):
                status.measured(target.name, sample.at, sample.stored, sample.free_bytes)
            complaint = ""
        except BusyError:
            # Another daemon works on the target, and takes its samples.
            complaint = ""
        except RetentiondError as error:
            # Once, and not every hour of a week.
            if str(error) != complaint:
                complaint = str(error)
                _log.warning("sample_not_taken", target=target.name, error=complaint)
        await clock.sleep(LOOK_EVERY)
