"""Notices on their way: a bounded queue for each channel, later attempts, and quiet hours; no pass waits for any of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

import tenacity

from retentiond.adapters.channels import NotSentError
from retentiond.adapters.logging import get_logger
from retentiond.model.notices import Sent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from retentiond.adapters.channels import Channel
    from retentiond.adapters.clock import Clock
    from retentiond.model.notices import Notice, QuietHours

MOST_WAITING: Final = 50
"""Notices that wait for one channel; beyond them the oldest is dropped."""
_ATTEMPTS: Final = 6
_LONGEST_PAUSE: Final = 300.0
_LOOK_EVERY: Final = 60.0  # the wall clock may be set, or the machine sleep

_log = get_logger()


class Announcer:
    """Sends notices by all channels that want them, one at a time by each; `quiet` holds back all but pings."""

    def __init__(
        self,
        channels: Sequence[Channel],
        clock: Clock,
        *,
        quiet: QuietHours | None = None,
        pause: float = 5.0,
    ) -> None:
        self.sent: dict[str, Sent] = {}
        """The last notice about each target that was sent."""
        self._lines = [_Line(channel, clock, quiet, pause, self.sent) for channel in channels]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(0.0)

    def queue(self, notices: Iterable[Notice]) -> None:
        """Queue notices; never waits."""
        for notice in notices:
            for line in self._lines:
                line.put(notice)

    async def close(self, within: float) -> None:
        """Wait so many seconds for the queued notices; drop and log the rest."""
        waiting = [line.task for line in self._lines if line.task is not None]
        if waiting:
            await asyncio.wait(waiting, timeout=within)
        for line in self._lines:
            line.drop()
        await asyncio.gather(*waiting, return_exceptions=True)


class _Line:
    """The queue of one channel; its task runs while there is something to send."""

    def __init__(
        self,
        channel: Channel,
        clock: Clock,
        quiet: QuietHours | None,
        pause: float,
        sent: dict[str, Sent],
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self._channel = channel
        self._clock = clock
        self._quiet = None if channel.is_ping else quiet
        self._pause = pause
        self._sent = sent
        self._waiting: list[Notice] = []

    def put(self, notice: Notice) -> None:
        if not self._channel.wants(notice):
            return
        self._waiting.append(notice)
        if len(self._waiting) > MOST_WAITING:
            self._log_drop(self._waiting.pop(0))
        if self.task is None or self.task.done():
            self.task = asyncio.get_running_loop().create_task(
                self._work(), name=f"notices by {self._channel.name}"
            )

    def drop(self) -> None:
        """Send nothing more."""
        if self.task is not None and not self.task.done():
            self.task.cancel()
            for notice in self._waiting:
                self._log_drop(notice)
        self._waiting.clear()

    async def _work(self) -> None:
        while self._waiting:
            await self._wait_for_the_end_of_quiet_hours()
            if self._waiting:
                await self._send(self._waiting[0])

    async def _wait_for_the_end_of_quiet_hours(self) -> None:
        while self._quiet is not None and (end := self._quiet.until(self._clock.now())) is not None:
            await self._clock.sleep(min((end - self._clock.now()).total_seconds(), _LOOK_EVERY))

    async def _send(self, notice: Notice) -> None:
        attempts = tenacity.AsyncRetrying(
            sleep=self._clock.sleep,
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=self._pause, max=_LONGEST_PAUSE),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, NotSentError) and error.again),
            before_sleep=lambda attempt: self._log_failure(notice, attempt),
            reraise=True,
        )
        try:
            await attempts(self._channel.send, notice)
        except NotSentError as error:
            self._log_drop(notice, str(error))
        except Exception as error:  # noqa: BLE001 - a fault in a service of Apprise must not end the daemon
            self._log_drop(notice, f"{type(error).__name__} in the channel")
        else:
            self._sent[notice.target] = Sent(notice, self._channel.name, self._clock.now())
            _log.info("notice_sent", channel=self._channel.name, notice=notice.occasion, target=notice.target)
        # The queue may have lost it meanwhile, as its oldest.
        if self._waiting and self._waiting[0] is notice:
            del self._waiting[0]

    def _log_failure(self, notice: Notice, attempt: tenacity.RetryCallState) -> None:
        _log.warning(
            "notice_delayed",
            channel=self._channel.name,
            notice=notice.occasion,
            target=notice.target,
            error=str(attempt.outcome and attempt.outcome.exception()),
        )

    def _log_drop(self, notice: Notice, error: str = "it was not sent in time") -> None:
        _log.error(
            "notice_dropped",
            channel=self._channel.name,
            notice=notice.occasion,
            target=notice.target,
            error=error,
            hint="`retentiond notify test` sends a test by each channel",
        )
