"""The contract of a target, and the options of its work."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from datetime import datetime, timedelta

    from retentiond.model.audit import Finding
    from retentiond.model.check import Check
    from retentiond.model.report import Item, PassReport, SweepReport, TargetStatus
    from retentiond.model.request import Request


T = TypeVar("T")


class Progress(Protocol):
    """Who watches a pass: told what is to be done, and what was."""

    def stage(self, name: str, total: int | None) -> None:
        """Begin a stage, of so many items where that is known."""

    def advance(self, items: int, size: int = 0) -> None:
        """Count items of the stage as done, and the bytes that they held, where they are known."""

    def note(self, text: str) -> None:
        """Show the state of the stage in a few words, in place of the words before."""


class NullProgress:
    """Nobody watches."""

    def stage(self, name: str, total: int | None) -> None:
        """Hear nothing."""

    def advance(self, items: int, size: int = 0) -> None:
        """Hear nothing."""

    def note(self, text: str) -> None:
        """Hear nothing."""


STOPPED: Final = "stopped by Ctrl-C or SIGTERM"
"""What reports say of work that ended before its time because of that."""


class StoppedError(Exception):
    """Somebody asked to stop, and what was being waited for was let go of."""


class Stop:
    """Asked between two batches: shall the work end here? It never is un-asked."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Ask the work to end at its next batch's end."""
        self._asked.set()

    @property
    def asked(self) -> bool:
        """Whether somebody has asked."""
        return self._asked.is_set()

    async def wait(self, seconds: float) -> None:
        """Wait for so long, or until somebody asks."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)

    async def unless_asked(self, question: Coroutine[Any, Any, T], grace: float = 0.0) -> T:
        """Wait for an answer; cancel it, and raise StoppedError, as soon as somebody asks: it must change nothing.

        What may change something is given some seconds' grace, and must be found again by whoever comes next.
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
    """How a pass is to be done: who asked, over which limits it may go, how long it waits for another.

    With a `request` what somebody asked for goes, in the place of what the policies say. At its end records that are
    older than `keep_records` are forgotten; None keeps them all.
    """

    command: str
    over_limits: bool = False
    patience: float = 10.0
    request: Request | None = None
    keep_records: timedelta | None = None
    progress: Progress = field(default_factory=NullProgress)
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True, slots=True)
class Selection:
    """What to restore: one pass, one medium (by URI), or everything; and for how long it is kept from then on."""

    pass_id: int | None = None
    media: str | None = None
    keep_for: timedelta | None = None
    reason: str = ""


READ_RATE: Final = 50 << 20
"""The most bytes that an audit of contents reads in a second, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How an audit is to be done; without `repair` it changes nothing but the ledger's note of it.

    `listen` hears of each finding, in place of the log. `verify_content` reads every file, at `read_rate` bytes a
    second. `drop_damaged_remote` is for repairs. Ages count back from `now`, the present unless given.
    """

    command: str
    listen: Callable[[Finding], None] | None = None
    verify_content: bool = False
    read_rate: int = READ_RATE
    repair: bool = False
    drop_damaged_remote: bool = False
    patience: float = 10.0
    now: datetime | None = None
    progress: Progress = field(default_factory=NullProgress)
    stop: Stop = field(default_factory=Stop)


class Target(Protocol):
    """A store that is cleaned by passes; `capabilities.py` has what only some targets can do."""

    @property
    def name(self) -> str:
        """Its name in the configuration."""

    @property
    def kind(self) -> str:
        """Its kind in the configuration."""

    async def plan(self, listen: Callable[[Item], None] | None, progress: Progress) -> PassReport:
        """Return what a pass would delete now; change nothing. `listen` gets each item."""

    async def run_pass(self, order: PassOptions) -> PassReport:
        """Run one pass; refusals and interruptions are in the report, BusyError and UnreachableError are raised."""

    async def status(self) -> TargetStatus:
        """Read the status from the ledger."""

    async def check(self) -> Check:
        """Check what a pass needs, changing nothing; return the problems, and the entries of each policy."""

    async def sweep(self, *, everything: bool) -> SweepReport:
        """Do the work between passes; `everything` includes old entries and the disk."""

    async def beat(self) -> None:
        """Write a heartbeat of the daemon to the ledger."""

    async def end_beat(self) -> None:
        """Remove the heartbeat."""
