"""The report of a pass or plan, the same one for the terminal, JSON, the log and the ledger."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from retentiond.model.errors import EXIT_STATUSES, FailureKind, PassState
from retentiond.model.text import instant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from retentiond.model.errors import Refusal
    from retentiond.model.limits import Headroom
    from retentiond.model.ownership import Ownership
    from retentiond.model.purge import PurgeReport


@dataclass(slots=True)
class Tally:
    """Items (rows) and the bytes that leave the media tree with them."""

    items: int = 0
    bytes: int = 0


@dataclass(slots=True)
class PassReport:
    """The report of one pass; it grows while the pass runs.

    `purges` are the reports of a pass over chats. `remarks` are further notes for the user, in words. `error` is the
    reason of an interruption. `not_reached` are items that the survey found due and that are not removed, kept or
    failed so far, with their recorded sizes: the four together are the survey's count.
    In a plan `matched` are the rows that each policy or quota matches, None before they were counted, and `due_by`
    those of them that are due: nothing keeps them. `growth` are the due items that no limit counts, and `limits` are how
    near the limits the survey was (model/limits.py).
    `ownership` is set if mentions decide on deletions.
    """

    target: str
    kind: str
    dry_run: bool
    started_at: datetime
    pass_id: int | None = None
    state: PassState = "planned"
    finished_at: datetime | None = None
    removed: dict[str, Tally] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    failed: Counter[FailureKind] = field(default_factory=Counter)
    not_reached: Tally = field(default_factory=Tally)
    shared_blobs: int = 0
    missing_file: int = 0
    orphan_thumbnail_row: int = 0
    matched: Counter[str] | None = None
    due_by: Counter[str] = field(default_factory=Counter)
    refused: Refusal | None = None
    remarks: list[str] = field(default_factory=list)
    error: str | None = None
    growth: int = 0
    limits: tuple[Headroom, ...] = ()
    purges: list[PurgeReport] = field(default_factory=list)
    ownership: Ownership | None = None

    def remove(self, policy: str, items: int, size: int = 0) -> None:
        """Count items, and the bytes that leave with them, for a policy."""
        tally = self.removed.get(policy)
        if tally is None:
            tally = self.removed[policy] = Tally()
        tally.items += items
        tally.bytes += size

    def take_back(self, policy: str, items: int, size: int = 0) -> None:
        """Count items and bytes as not removed: they are kept after all."""
        tally = self.removed.setdefault(policy, Tally())
        tally.items -= items
        tally.bytes -= size
        if tally == Tally():
            del self.removed[policy]

    def count_policies(self, matched: Mapping[str, int], due_by: Mapping[str, int]) -> None:
        """Add the rows that policies match, and those of them that are due."""
        self.matched = (self.matched or Counter()) + Counter(matched)
        self.due_by.update(due_by)

    def await_turn(self, items: int, size: int) -> None:
        """Count due items as not reached yet."""
        self.not_reached.items += items
        self.not_reached.bytes += size

    def reach(self, items: int, size: int) -> None:
        """Count due items no more as not reached."""
        self.await_turn(-items, -size)

    def keep(self, reason: str, *, counted: str | None, also: str | None) -> None:
        """Count a kept item, unless it is `counted` as kept already.

        Where it is counted for the hold, mark or protection that `also` keeps it, the reason comes before that one.
        """
        if counted is not None and counted == also:
            self.stays_no_more(counted)
            counted = None
        if counted is None:
            self.kept[reason] += 1

    @property
    def is_worth_telling(self) -> bool:
        """Whether anything came of it: a pass that began, a refusal, or a loss."""
        return self.pass_id is not None or self.refused is not None or self.error is not None

    def stays_no_more(self, reason: str | None) -> None:
        """Take an item out of the kept ones, if it was counted there for this reason."""
        if reason is not None and self.kept[reason] > 0:
            self.kept -= Counter({reason: 1})

    @property
    def removed_items(self) -> int:
        """Rows that went, by all policies."""
        return sum(tally.items for tally in self.removed.values())

    @property
    def removed_bytes(self) -> int:
        """Bytes that left the media tree, by all policies."""
        return sum(tally.bytes for tally in self.removed.values())

    @property
    def exit_status(self) -> int:
        """The exit status that this pass asks for."""
        # A plan never refuses: it reports the refusals of a pass.
        return 0 if self.dry_run and self.state == "refused" else EXIT_STATUSES[self.state]

    def as_json(self) -> dict[str, Any]:
        """Return the report in the interface's words."""
        return {
            "target": self.target,
            "kind": self.kind,
            "pass_id": self.pass_id,
            "state": self.state,
            "dry_run": self.dry_run,
            "started_at": instant(self.started_at),
            "finished_at": instant(self.finished_at) if self.finished_at else None,
            "removed": {
                "items": self.removed_items,
                "bytes": self.removed_bytes,
                "by_policy": {name: asdict(tally) for name, tally in sorted(self.removed.items())},
            },
            "kept": {"items": self.kept.total(), "by_reason": dict(sorted(self.kept.items()))},
            "not_reached": asdict(self.not_reached),
            "shared_blobs": self.shared_blobs,
            "failed": {"items": self.failed.total(), "by_reason": dict(sorted(self.failed.items()))},
            "inconsistencies": {
                "missing_file": self.missing_file,
                "orphan_thumbnail_row": self.orphan_thumbnail_row,
            },
            "refused": asdict(self.refused) if self.refused else None,
            "remarks": list(self.remarks),
            **({"purges": [purge.as_json() for purge in self.purges]} if self.purges else {}),
            **({"ownership": self.ownership.as_json()} if self.ownership else {}),
        }


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a plan: its verdict and the reason. `media` is untrusted text."""

    target: str
    media: str
    action: Literal["remove", "keep", "fail"]
    reason: str
    policy: str | None
    bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the item as the line that `plan --list --json` prints."""
        return asdict(self)

    def details(self) -> str:
        """Return what a line of `plan --list` says of the item besides."""
        return ""


@dataclass(frozen=True, slots=True)
class RoomItem(Item):
    """A room of a plan; `since` is when its time began, None where a local user is in it or nothing tells."""

    events: int
    since: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the item as the line that `plan --list --json` prints."""
        return asdict(self) | {"since": self.since.isoformat() if self.since else None}

    def details(self) -> str:
        """Return what a line of `plan --list` says of the item besides."""
        return f"{self.events:,} events" + (f", empty since {self.since:%Y-%m-%d}" if self.since else "")


@dataclass(frozen=True, slots=True)
class Released:
    """A released row that can still be brought back; the texts in it are untrusted.

    `released_for` names the references for which it went, and that are asked again until the purge.
    """

    pass_id: int
    media: str
    policy: str
    content_type: str
    upload_name: str
    bytes: int
    state: str
    released_at: datetime
    grace_until: datetime
    released_for: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the item as `quarantine list --json` prints it."""
        return asdict(self) | {
            "released_at": instant(self.released_at),
            "grace_until": instant(self.grace_until),
        }


@dataclass(slots=True)
class SweepReport:
    """The report of a sweep: blobs returned to rows that use them again, restored for a protection, purged, lost.

    `refused` is the reason if the purge was refused as a whole. `stopped` is the trouble that stops the target until it is
    accepted.
    """

    returned: int = 0
    restored: int = 0
    purged: int = 0
    purged_bytes: int = 0
    lost: int = 0
    failed: int = 0
    unknown: int = 0
    refused: Refusal | None = None
    stopped: Refusal | None = None


@dataclass(slots=True)
class RestoreReport:
    """The report of a restore: restored rows, rows that existed already, and rows that could not be restored.

    `busy` names blobs that another process has claimed; `failed` are rows whose files the disk did not give back.
    """

    restored: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    without_file: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class QuarantineSummary:
    """The content of the quarantine: rows that can be restored, blobs and bytes by state.

    `until` is when the last grace ends; `first_settled` and `last_settled` are when a manual purge can begin with it, and
    end.
    """

    items: int
    blobs: dict[str, Tally]
    until: datetime | None
    first_settled: datetime | None = None
    last_settled: datetime | None = None

    @property
    def bytes(self) -> int:
        """The bytes in quarantine, in every state: all of them are on the disk."""
        return sum(tally.bytes for tally in self.blobs.values())

    @property
    def purgeable(self) -> int:
        """The bytes that a purge takes: not the spares of files that rows have again."""
        return sum(tally.bytes for state, tally in self.blobs.items() if state != "returned")

    def as_json(self) -> dict[str, Any]:
        """Return the summary as JSON."""
        return {
            "items": self.items,
            "until": instant(self.until) if self.until else None,
            "blobs": {state: asdict(tally) for state, tally in sorted(self.blobs.items())},
        }

    def pending(self) -> dict[str, Any]:
        """Return as JSON the rest that a manual purge has left to a later one, once it has ended the grace of all."""
        left = bool(self.items or self.purgeable)
        return {
            "items": self.items,
            "bytes": self.purgeable,
            "from": instant(self.first_settled) if left and self.first_settled else None,
        }


@dataclass(frozen=True, slots=True)
class CancelledPurge:
    """The undo of a manually ended grace: rows, and when the last grace ends.

    `busy` are rows whose purge has begun.
    """

    items: int = 0
    until: datetime | None = None
    busy: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self) | {"until": instant(self.until) if self.until else None}


@dataclass(frozen=True, slots=True)
class Backlog:
    """Media that the last survey, `at` that time, found due and that no pass has taken; `oldest` is due the longest.

    `bytes` are those that would leave the media tree, as the database records them.
    """

    at: datetime
    items: int
    bytes: int
    since: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return the backlog as JSON."""
        return asdict(self) | {
            "at": instant(self.at),
            "since": instant(self.since) if self.since else None,
        }


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A secondary store of chats, for one account, as the last purge left it or the running one has it now.

    `shards` has the keys `shards` and `more_shards` of a purge's report; empty for a store without shards.
    """

    account: str
    store: str
    state: str
    cutoff: datetime
    since: datetime
    reason: str | None = None
    shards: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the store as JSON; `undone_since` is null for one that is finished."""
        return {
            "account": self.account,
            "store": self.store,
            "state": self.state,
            "cutoff": instant(self.cutoff),
            "undone_since": instant(self.since) if self.state != "finished" else None,
            "reason": self.reason,
            **self.shards,
        }


@dataclass(frozen=True, slots=True)
class TargetStatus:
    """A target as its ledger knows it: holds in force, the running process as `holder`, the `daemon` last seen."""

    target: str
    kind: str
    ledger: bool
    last_pass: dict[str, Any] | None = None
    last_audit: dict[str, Any] | None = None
    quarantine: QuarantineSummary | None = None
    holds: int = 0
    holder: str | None = None
    daemon: str | None = None
    problems: tuple[str, ...] = ()
    last_success: datetime | None = None
    backlog: Backlog | None = None
    stores: tuple[StoreStatus, ...] = ()
