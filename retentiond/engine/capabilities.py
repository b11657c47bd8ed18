"""Capabilities of targets beyond a pass. A verb, the daemon or the report asks for a capability, never for a kind.

A target class names its capabilities as its bases; `targets/registry.py` answers which kind has which.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from retentiond.engine.target import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import timedelta

    from retentiond.engine.target import AuditOptions, Erasure, PassOptions, Progress, PurgeRequest, Selection
    from retentiond.model.acceptance import Acceptance
    from retentiond.model.audit import AuditReport
    from retentiond.model.explanation import Explanation
    from retentiond.model.holds import Coverage, Hold, HoldRequest, HoldSubject
    from retentiond.model.purge import PurgeReport
    from retentiond.model.records import Link, Verified
    from retentiond.model.report import CancelledPurge, Item, PassReport, Released, RestoreReport, SweepReport
    from retentiond.model.request import Request
    from retentiond.model.room_explanation import RoomExplanation
    from retentiond.model.statistics import StoreStatistics
    from retentiond.model.usage import Sample, UsageBy, UsageRow


class Holds(Protocol):
    """The holds of one target."""

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Add a hold that starts now; return its coverage. Raise UsageError for a kind that the target lacks."""

    def on_record(self, *, closed: bool) -> AsyncIterator[Hold]:
        """Stream the holds in force, and with `closed` those that ended or were released, too."""

    async def release(self, hold_ids: list[int], subject: HoldSubject | None, reason: str) -> list[Hold]:
        """Release holds in force, by number or all of a subject; they stay on record."""


@runtime_checkable
class ComparesAges(Target, Protocol):
    """A plan can be made with other ages."""

    async def plan(
        self, listen: Callable[[Item], None] | None, progress: Progress, *, keep: timedelta | None = None
    ) -> PassReport:
        """Return the plan of a pass; with `keep` each policy keeps items for that time; `keep: forever` is unchanged."""


@runtime_checkable
class TakesRequests(ComparesAges, Protocol):
    """Items can be deleted by name at any age, too."""

    async def plan(
        self,
        listen: Callable[[Item], None] | None,
        progress: Progress,
        request: Request | None = None,
        keep: timedelta | None = None,
    ) -> PassReport:
        """Return the plan of a pass, or of a request; `listen` gets each item.

        With `keep` each policy keeps items for that time; `keep: forever` is unchanged.
        """


@runtime_checkable
class Explains(Target, Protocol):
    """The verdict on one item can be explained."""

    async def explain(self, item: str, progress: Progress) -> Explanation | RoomExplanation:
        """Explain one item, without changes. Raise UsageError for an invalid name."""


@runtime_checkable
class PurgesRooms(Target, Protocol):
    """One room can be purged by hand, at any age; its local users leave it first."""

    async def plan_room(self, room_id: str) -> PassReport:
        """Return what a purge of the room would do; change nothing."""

    async def purge_room(self, room_id: str, options: PassOptions) -> PassReport:
        """Purge the room; refusals and interruptions are in the report."""


@runtime_checkable
class HasQuarantine(Target, Protocol):
    """Deleted items go to a quarantine first, and can be restored from there."""

    def released(self) -> AsyncIterator[Released]:
        """Stream the items that can be restored."""

    async def restore(self, selection: Selection) -> RestoreReport:
        """Restore rows, thumbnails and files."""

    async def end_grace(self) -> SweepReport:
        """Purge the quarantine without its grace, never before its settle."""

    async def cancel_purge(self) -> CancelledPurge:
        """Restore the grace that `end_grace` ended, for items that are not purged yet."""

    async def forget(self, media: Sequence[str] | None) -> list[str]:
        """End the protection of restored media (by URI; None: all); return those that had it."""


@runtime_checkable
class HasAudit(Target, Protocol):
    """The database can be compared with another store, such as a disk."""

    async def audit(self, options: AuditOptions) -> AuditReport:
        """Compare them; raise RefusedError where they do not belong together."""


@runtime_checkable
class HasQuotas(Target, Protocol):
    """Sizes are limited between passes, too."""

    async def check_quotas(self, options: PassOptions) -> PassReport | None:
        """Delete the excess over the quotas; None without an excess. Raises as `run_pass` does."""


@runtime_checkable
class HasHolds(Target, Protocol):
    """Holds can keep items from all policies."""

    @property
    def holds(self) -> Holds:
        """The holds."""


@runtime_checkable
class HasRecords(Target, Protocol):
    """The ledger has a proof of disposal."""

    def records(self) -> AsyncIterator[dict[str, Any]]:
        """Stream the records, oldest first, each with its hash."""

    async def verify_records(self) -> Verified:
        """Verify the chain of records."""

    async def newest_record(self) -> Link | None:
        """Return the end of the chain of records; None without a record."""


@runtime_checkable
class KeepsRooms(Target, Protocol):
    """What a purged room was is kept, and can be read."""

    def kept_rooms(self, room_id: str | None) -> AsyncIterator[dict[str, Any]]:
        """Stream what is kept of purged rooms, or of one, oldest first."""


@runtime_checkable
class HasStatistics(Target, Protocol):
    """The store can be described in a report."""

    async def statistics(self, progress: Progress) -> StoreStatistics:
        """Collect the statistics, without changes."""


@runtime_checkable
class HasUsage(Target, Protocol):
    """The space of the store can be divided by a property of its items."""

    @property
    def divisions(self) -> tuple[UsageBy, ...]:
        """The divisions that the target has; the first is the default."""

    async def usage(self, by: UsageBy, top: int, progress: Progress) -> list[UsageRow]:
        """Return the `top` largest keys, and the rest as one row, without changes: the sums are those of the store."""


@runtime_checkable
class NamesRooms(Target, Protocol):
    """Rooms have names that people know."""

    async def room_names(self, rooms: Sequence[str]) -> Mapping[str, str]:
        """Return the names of those of these rooms that have one, by room ID; the names are untrusted."""


@runtime_checkable
class HasSamples(Target, Protocol):
    """The ledger has a sample of the store for each day."""

    async def take_sample(self, command: str, progress: Progress) -> bool:
        """Take the sample of today; return False, without work, where there is one already or no ledger yet.

        Raise BusyError for the command `run`, that of a daemon, if another daemon works on the target.
        """

    async def samples(self, most: int | None = None) -> list[Sample]:
        """Return the newest samples, at most so many, oldest first."""


@runtime_checkable
class AcceptsStores(Target, Protocol):
    """Work can go on after a restored database, a replaced disk, or a clock change."""

    async def accept(self, *, yes: bool) -> Acceptance:
        """Compare ledger and store; with `yes` accept the state."""


@runtime_checkable
class PurgesChats(Target, Protocol):
    """The chats of an account can be purged up to a date."""

    async def purge_chats(self, request: PurgeRequest, options: PassOptions, *, dry_run: bool) -> PurgeReport:
        """Purge them, or return the plan; refusals and interruptions are in the report."""


@runtime_checkable
class ErasesVisitors(Target, Protocol):
    """The chats of one visitor of an account can be erased."""

    async def erase(self, erasure: Erasure, options: PassOptions, *, dry_run: bool) -> PurgeReport:
        """Erase them, or return the plan; refusals and interruptions are in the report."""
