"""The server of a store: its errors, the words for an outage, and how long a purge waits for it."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.engine.target import StoppedError
from retentiond.model.text import sentence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from retentiond.engine.target import Stop

_MOST: Final = 50
_KINDS: Final[tuple[tuple[tuple[type[BaseException], ...], str, str], ...]] = (
    (
        (ssl.SSLError, ssl.CertificateError),
        "cannot be reached over TLS",
        "check the scheme of `url`, and the certificates (`ca_file`)",
    ),
    (
        (socket.gaierror,),
        "has a host name that cannot be resolved",
        "correct `url`, or the name service of this machine",
    ),
    (
        (ConnectionRefusedError,),
        "cannot be reached",
        "nothing listens there: start it, or correct host and port of `url`",
    ),
    (
        (TimeoutError,),
        "did not answer in time",
        "check its load, and whether a firewall or proxy drops its packets; then try again",
    ),
)
_OTHER: Final = ("was lost", "check its log and the network to it, then try again")
_FIRST: Final = 0.1
GRACE: Final = 5.0
"""Seconds to wait for an answer after a stop is requested; a silent server never answers."""


class StoreError(Exception):
    """A refusal by the server."""

    @property
    def in_words(self) -> str:
        """The refusal as reports show it."""
        return str(self)


class DeletionError(Exception):
    """A step that failed on the server, with the reason. `alive`: it could not be ended, and may continue."""

    def __init__(self, message: str, *, alive: bool = False) -> None:
        super().__init__(message)
        self.alive = alive


def describe_outage(error: BaseException) -> str:
    """Return the outage and the next step, from the errors inside the client's error."""
    causes = list(_causes(error))
    found = next(
        (
            (happened, next_step)
            for errors, happened, next_step in _KINDS
            if any(isinstance(cause, errors) for cause in causes)
        ),
        # A client with timeouts of its own has its own error for them.
        _KINDS[-1][1:] if any("Timeout" in type(cause).__name__ for cause in causes) else _OTHER,
    )
    reason = sentence(str(error), 300) or type(error).__name__
    return f"{found[0]}: {reason}; {found[1]}"


def never_sent(error: BaseException) -> bool:
    """Return whether no connection was made, so that no request can have been sent."""
    return any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all errors that it holds or was caused by."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        one = waiting.pop(0)
        if isinstance(one, list | tuple):
            waiting.extend(one)
        elif isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, one.args]
            waiting += [
                getattr(one, name, None) for name in ("os_error", "certificate_error", "errors", "reason")
            ]


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """Seconds between two polls, until a step counts as stalled, and for a lost server to return.

    `recovery` is for a cluster that lost a server: it makes replicas its primaries, or elects a leader.
    """

    between: float = 2.0
    stalled: float = 1800.0
    back: float = 60.0
    recovery: float = 180.0
    clock: Callable[[], float] = time.monotonic

    def pauses(self) -> Iterator[float]:
        """Yield the seconds before each next poll: short at first, since most steps end soon."""
        pause = _FIRST
        while True:
            yield min(pause, self.between)
            pause = min(2 * pause, self.between)

    async def looks(self, stop: Stop) -> AsyncIterator[None]:
        """Yield for each poll; raise StoppedError once a stop is requested."""
        for pause in self.pauses():
            yield
            await stop.wait(pause)
            if stop.asked:
                raise StoppedError

    def stall(self) -> Stall:
        """Return the watch over a step that begins now."""
        return Stall(self)


class Stall:
    """Detects that a step on a server makes no progress."""

    def __init__(self, policy: PollPolicy) -> None:
        self._policy = policy
        self.begin("")

    def begin(self, progress: str) -> None:
        """Count the time from now on."""
        self._progress, self._since = progress, self._policy.clock()

    def lasts(self, progress: str) -> bool:
        """Return whether the progress, a text that changes while work is done, was the same for too long."""
        if progress != self._progress:
            self.begin(progress)
            return False
        return self._policy.clock() - self._since >= self._policy.stalled
