"""The report of a chat purge: rows by entity, kept chats by reason, and each secondary store."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from retentiond.model.errors import EXIT_STATUSES, FailureKind, PassState, worst
from retentiond.model.orphans import OrphanReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from retentiond.model.errors import Refusal

ShardState = Literal["pending", "running", "finished", "failed", "unreachable"]
"""`pending`: not begun. `unreachable`: it does not answer, or takes no writes now."""
MOST_SHARDS: Final = 200
"""The most shards that a document lists; those that are not finished come first, and the rest is counted."""
_ORDER: Final[tuple[ShardState, ...]] = ("failed", "unreachable", "running", "pending", "finished")


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """One copy of a shard: `left` are the rows to be deleted that it still has, None where that is unknown."""

    name: str
    state: ShardState
    left: int | None = None
    error: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the replica as JSON; unknown values are left out."""
        document = {"name": self.name, "state": self.state, "left": self.left, "error": self.error}
        return {name: value for name, value in document.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ShardReport:
    """One shard: `rows` are deleted (not more than once for several replicas), `left` are still there; None is unknown."""

    name: str
    state: ShardState
    rows: int | None = None
    left: int | None = None
    error: str | None = None
    replicas: tuple[ReplicaReport, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the shard as JSON; unknown values are left out."""
        document = {
            "name": self.name,
            "state": self.state,
            "rows": self.rows,
            "left": self.left,
            "error": self.error,
            "replicas": [replica.as_json() for replica in self.replicas] or None,
        }
        return {name: value for name, value in document.items() if value is not None}


def worst_state(states: Sequence[ShardState]) -> ShardState:
    """Return the state of a whole: that of its part which needs most attention; `finished` where there is no part."""
    return min(states, key=_ORDER.index, default="finished")


def shards_as_json(shards: Sequence[ShardReport]) -> dict[str, Any]:
    """Return the keys `shards` and `more_shards` of a document; empty for a store that reports no shards."""
    if not shards:
        return {}
    listed = sorted(shards, key=lambda shard: _ORDER.index(shard.state))[:MOST_SHARDS]
    in_order = shards if len(shards) <= MOST_SHARDS else listed
    document: dict[str, Any] = {"shards": [shard.as_json() for shard in in_order]}
    if len(shards) > MOST_SHARDS:
        document["more_shards"] = len(shards) - MOST_SHARDS
    return document


def shards_in_words(shards: Sequence[ShardReport]) -> str:
    """Summarize the shards in a line, such as `2 of 3 shards finished, 1 unreachable; 40 rows left`."""
    counts = {state: sum(shard.state == state for shard in shards) for state in reversed(_ORDER)}
    others = [f"{number} {state}" for state, number in counts.items() if number and state != "finished"]
    summary = ", ".join([f"{counts['finished']} of {len(shards)} shards finished", *others])
    left = [shard.left for shard in shards if shard.left]
    return f"{summary}; {sum(left):,} rows left" if left else summary


@dataclass(slots=True)
class StoreReport:
    """The result of a purge in one store. `rows` are the deleted ones, or those to be deleted.

    If the store was lost before the count they are the rows known to be deleted: `at_least` so many. `waiting` has a
    sentence for each part that is erased only later (old parts of a table, segments of an index). `shards` are those of
    a store that has some, each with its replicas. `kept` counts, by reason, the rows that are kept with a chat.
    """

    state: PassState = "planned"
    rows: int = 0
    waiting: tuple[str, ...] = ()
    refused: Refusal | None = None
    error: str | None = None
    at_least: bool = False
    shards: tuple[ShardReport, ...] = ()
    kept: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the report in the interface's words, without empty entries."""
        document: dict[str, Any] = {"state": self.state, "rows": self.rows}
        if self.at_least:
            document["at_least"] = True
        document |= shards_as_json(self.shards)
        if self.kept:
            document["kept"] = dict(self.kept)
        if self.waiting:
            document["waiting"] = list(self.waiting)
        if self.refused is not None:
            document["refused"] = asdict(self.refused)
        if self.error is not None:
            document["error"] = self.error
        return document


MOST_FAILED_ROWS: Final = 50
"""How many of those that failed one by one are named; all of them are counted."""


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A chat that the database refused to delete, and the reason; with `entity`, a row of an entity without chats."""

    row: int | str
    entity: str | None
    reason: FailureKind
    error: str
    table: str | None = None
    constraint: str | None = None
    trigger: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it in the interface's words, without the unknown fields."""
        document = {"chat": self.row} if self.entity is None else {"entity": self.entity, "row": self.row}
        by = {"table": self.table, "constraint": self.constraint, "trigger": self.trigger}
        known = {name: value for name, value in by.items() if value is not None}
        return {**document, "reason": self.reason, **known, "error": self.error}


ATTACHMENTS_STAY: Final = (
    "only the rows of messages with files are deleted from the database; the files in the file store of the product are not, "
    "and must be deleted there"
)
"""The remark of a purge that deletes messages with files."""


@dataclass(slots=True)
class ErasureReport:
    """The state of a request to erase one visitor, over all the runs that it took.

    `visitor` is a keyed hash of the ID, None if there is no ledger yet. `chats`, `entities` and `stores` count deletions
    so far. `remaining` are chats of the visitor that the request covers and that are still there, `later` those that began
    after it. `left` counts rows outside of chats that name the visitor and are kept; None if they cannot be read.
    """

    erasure_id: int | None
    name: str | None
    visitor: str | None
    even_under_floor: bool
    reason: str
    requested_at: str | None = None
    requested_by: str | None = None
    done: bool = False
    chats: int = 0
    entities: dict[str, int] = field(default_factory=dict)
    stores: dict[str, dict[str, Any]] = field(default_factory=dict)
    remaining: int = 0
    later: int = 0
    left: dict[str, int | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the state in the interface's words."""
        document = asdict(self)
        document["request"] = document.pop("name")
        document["visitor"] = None if self.visitor is None else {"hmac_sha256": self.visitor}
        document["total"] = {name: document.pop(name) for name in ("chats", "entities", "stores")}
        return document


ALWAYS_TOLD: Final = ("open", "newer", "has_file_messages", "hold")
"""Keep reasons that are reported even with a count of zero; others only if they count any chat."""


@dataclass(slots=True)
class PurgeReport:
    """The report of one account's purge; it grows while the purge runs.

    `chats` are those deleted as a whole, `all_chats` those that the account had; `entities` are rows. `not_reached`
    are due chats that are neither deleted, kept nor failed so far. `failures` names single failures, up to a limit.
    `error` is the reason of an interruption, or the last failure. `remarks` are further notes for the user, in words.
    """

    account: str
    to_date: date | None
    dry_run: bool
    state: PassState = "planned"
    chats: int = 0
    all_chats: int = 0
    entities: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    failed: Counter[FailureKind] = field(default_factory=Counter)
    failures: list[FailedRow] = field(default_factory=list)
    not_reached: int = 0
    partitions_dropped: list[str] = field(default_factory=list)
    stores: dict[str, StoreReport] = field(default_factory=dict)
    orphans: OrphanReport = field(default_factory=OrphanReport)
    remarks: list[str] = field(default_factory=list)
    refused: Refusal | None = None
    error: str | None = None
    erasure: ErasureReport | None = None

    def reach(self, chats: int) -> None:
        """Count due chats no more as not reached."""
        self.not_reached = max(0, self.not_reached - chats)

    @property
    def exit_status(self) -> int:
        """The exit status that this purge asks for: the worst of the database's and of each store's."""
        states = [self.state, *(store.state for store in self.stores.values())]
        if self.orphans.refused is not None:
            states.append("refused")
        return worst(EXIT_STATUSES[state] for state in states)

    def conclude(self) -> None:
        """Give the report its last state."""
        if self.state == "interrupted":
            return
        if self.refused is not None:
            self.state = "refused"
        elif self.dry_run:
            self.state = "planned"
        else:
            good = (
                not self.failed.total()
                and self.orphans.refused is None
                and all(store.state == "finished" for store in self.stores.values())
            )
            self.state = "finished" if good else "finished_with_failures"

    def as_json(self) -> dict[str, Any]:
        """Return the report in the interface's words, without empty entries but with zeros that matter."""
        kept = {reason: self.kept[reason] for reason in ALWAYS_TOLD}
        document: dict[str, Any] = {
            "account": self.account,
            "to_date": self.to_date.isoformat() if self.to_date else None,
            "dry_run": self.dry_run,
            "state": self.state,
            "chats": self.chats,
            "entities": dict(self.entities),
            "kept": kept | {reason: items for reason, items in sorted(self.kept.items()) if items},
            "stores": {name: store.as_json() for name, store in self.stores.items()},
        }
        orphans = self.orphans.as_json()
        if orphans is not None:
            document["orphans"] = orphans
        if self.remarks:
            document["remarks"] = self.remarks
        if self.erasure is not None:
            document["erasure"] = self.erasure.as_json()
        if self.failed:
            document["failed"] = dict(sorted(self.failed.items()))
        if self.failures:
            document["failures"] = [failure.as_json() for failure in self.failures]
        if self.not_reached:
            document["not_reached"] = {"items": self.not_reached}
        if self.partitions_dropped:
            document["partitions_dropped"] = self.partitions_dropped
        if self.refused is not None:
            document["refused"] = asdict(self.refused)
        if self.error is not None:
            document["error"] = self.error
        return document
