"""The contract of a target, and the options of its work."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import date, datetime, timedelta

    from retentiond.model.audit import Finding
    from retentiond.model.check import Check
    from retentiond.model.report import Item, PassReport, SweepReport, TargetStatus
    from retentiond.model.request import Request

T = TypeVar("T")


class Progress(Protocol):
    """The progress of a pass: receives the work to do and the work done."""

    def stage(self, name: str, total: int | None) -> None:
        """Begin a stage, of so many items where that is known."""

    def advance(self, items: int, size: int = 0) -> None:
        """Count items of the stage as done, and the bytes that they held, where they are known."""

    def note(self, text: str) -> None:
        """Show the state of the stage in a few words, in place of the words before."""


class NullProgress:
    """A progress that is shown nowhere."""

    def stage(self, name: str, total: int | None) -> None:
        """Hear nothing."""

    def advance(self, items: int, size: int = 0) -> None:
        """Hear nothing."""

    def note(self, text: str) -> None:
        """Hear nothing."""


PATIENCE: Final = 10.0
"""The seconds that a command waits for another one on the same store, without `--wait`."""
STOPPED: Final = "stopped by Ctrl-C or SIGTERM"
"""The error in the report of work that was stopped early."""


class StoppedError(Exception):
    """A stop was requested, and the wait was abandoned."""


class Stop:
    """Asked between two batches: shall the work end here? It never is un-asked."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Ask the work to end at its next batch's end."""
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether a stop was requested."""
        return self._asked.is_set()

    async def wait(self, seconds: float) -> None:
        """Wait for so many seconds, or until a stop is requested."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)

    async def unless_asked(self, question: Coroutine[Any, Any, T], grace: float = 0.0) -> T:
        """Wait for an answer that changes nothing; on a stop cancel it and raise StoppedError.

        Work that may change something gets some seconds of grace, and the next run must be able to find it.
        """
        answer = asyncio.ensure_future(question)
        asked = asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait({answer, asked}, return_when=asyncio.FIRST_COMPLETED)
            if grace and not answer.done():
                await asyncio.wait({answer}, timeout=grace)
            if not answer.done():
                raise StoppedError
            return await answer
        finally:
            answer.cancel()
            asked.cancel()
            await asyncio.gather(answer, asked, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class PassOptions:
    """Options of a pass: its caller, the limits that it may exceed, the wait for another pass.

    With a `request` the requested items are deleted instead of those that the policies select. At its end records
    older than `keep_records` are removed; None keeps them all.
    """

    command: str
    over_limits: bool = False
    patience: float = PATIENCE
    request: Request | None = None
    keep_records: timedelta | None = None
    progress: Progress = field(default_factory=NullProgress)
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True, slots=True)
class Selection:
    """The items to restore: those of one pass, one media item (by URI), or all; and for how long they are kept then."""

    pass_id: int | None = None
    media: str | None = None
    keep_for: timedelta | None = None
    reason: str = ""


READ_RATE: Final = 50 << 20
"""The default limit, in bytes a second, for reads of an audit of contents."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """Options of an audit; without `repair` it changes nothing but its entry in the ledger.

    `listen` receives each finding, in place of the log. `verify_content` reads every file, at `read_rate` bytes a
    second. `drop_damaged_remote` is for repairs. Ages count back from `now`, the present unless given.
    """

    command: str
    listen: Callable[[Finding], None] | None = None
    verify_content: bool = False
    read_rate: int = READ_RATE
    repair: bool = False
    drop_damaged_remote: bool = False
    patience: float = PATIENCE
    now: datetime | None = None
    progress: Progress = field(default_factory=NullProgress)
    stop: Stop = field(default_factory=Stop)


class Target(Protocol):
    """A store that is cleaned by passes; `capabilities.py` has the abilities of only some targets."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def kind(self) -> str:
        """Its kind in the configuration."""

    async def plan(self, listen: Callable[[Item], None] | None, progress: Progress) -> PassReport:
        """Return the deletions of a pass now, without changes. `listen` gets each item."""

    async def run_pass(self, options: PassOptions) -> PassReport:
        """Run one pass; refusals and interruptions are in the report, BusyError and UnreachableError are raised."""

    async def status(self) -> TargetStatus:
        """Read the status from the ledger."""

    async def check(self) -> Check:
        """Check everything that a pass needs, without changes; return the problems, and the entries of each policy."""

    async def sweep(self, *, everything: bool) -> SweepReport:
        """Do the work between passes; `everything` includes old entries and the disk."""

    async def beat(self) -> None:
        """Write a heartbeat of the daemon to the ledger."""

    async def end_beat(self) -> None:
        """Remove the heartbeat."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """A request to erase the chats of one visitor of an account, in the database and in every secondary store.

    With `even_under_floor` their age does not matter; then `reason` is given. `name` is that of a request in a file,
    which is carried out once.
    """

    account: str
    visitor: str = field(repr=False)
    even_under_floor: bool = False
    reason: str = ""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """Purge an account's chats up to a date, not including it; `stores` are the secondary stores.

    `orphans`: rows whose chat is missing, too.
    With an `erasure` only the chats of its visitor are deleted.
    """

    account: str
    to_date: date
    file_messages: bool = False
    stats: bool = False
    stores: tuple[str, ...] = ()
    orphans: bool = False
    erasure: Erasure | None = None
