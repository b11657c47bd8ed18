"""The findings of an audit: the differences between database and disk, item by item and in total."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from retentiond.model.report import Tally
from retentiond.model.text import instant

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.model.errors import Refusal
    from retentiond.model.media import Hash, MediaKey

FindingKind = Literal[
    "missing_file",
    "orphan_blob",
    "orphan_thumbnail_row",
    "orphan_thumbnail_file",
    "missing_thumbnail_file",
    "thumbnail_size_mismatch",
    "size_mismatch",
    "hash_mismatch",
    "invalid_hash",
    "stale_upload",
    "unknown_path",
    "room_only_in_sync",
    "room_missing_in_sync",
    "rows_without_room",
]
"""The kinds of findings, in the order of reports."""

KINDS: Final[tuple[FindingKind, ...]] = get_args(FindingKind)


@dataclass(frozen=True, slots=True)
class Finding:
    """One inconsistency. `path` is below the media directory (empty where no path can be made), or a room's ID; untrusted.

    `bytes` are the size on the disk, or, if a file is missing, the size in its row. Of several rows of one blob only
    the first counts them.
    """

    kind: FindingKind
    path: str = ""
    bytes: int = 0
    detail: str = ""
    key: MediaKey | None = None
    blob: Hash | None = None
    thumbnail: tuple[int, int, str] | None = None

    @property
    def media(self) -> str | None:
        """The URI of its row; None without a row."""
        return self.key.uri if self.key else None

    def as_json(self, target: str) -> dict[str, Any]:
        """Return the finding as the line that `audit --list --json` prints."""
        return {
            "target": target,
            "kind": self.kind,
            "media": self.media,
            "path": self.path,
            "bytes": self.bytes,
            "detail": self.detail,
        }


@dataclass(slots=True)
class AuditReport:
    """The report of one audit; it grows while the audit runs.

    `contents` are the blobs that rows reference, `missing_contents` those of them without a file. `left` has the
    reasons for which repairable findings were not repaired. `failed` counts failed looks and repairs, by reason.
    `compared` says what was compared, of an audit that is not of files.
    """

    target: str
    started_at: datetime
    finished_at: datetime | None = None
    pass_id: int | None = None
    rows: int = 0
    blobs: int = 0
    contents: int = 0
    missing_contents: int = 0
    findings: dict[FindingKind, Tally] = field(default_factory=dict)
    repaired: Counter[FindingKind] = field(default_factory=Counter)
    left: dict[FindingKind, Counter[str]] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    refused: Refusal | None = None
    error: str | None = None
    compared: str | None = None

    def add(self, finding: Finding) -> None:
        """Count one more."""
        tally = self.findings.setdefault(finding.kind, Tally())
        tally.items += 1
        tally.bytes += finding.bytes

    def repair(self, kind: FindingKind, items: int) -> None:
        """Count a finding as repaired."""
        if items:
            self.repaired[kind] += items

    def fail(self, reason: str, items: int) -> None:
        """Count an item whose look or repair failed."""
        if items:
            self.failed[reason] += items

    def leave(self, kind: FindingKind, reason: str, items: int = 1) -> None:
        """Count a finding that a repair leaves as it is, by reason."""
        if items:
            self.left.setdefault(kind, Counter())[reason] += items

    @property
    def found_items(self) -> int:
        """How many findings there are, of all kinds."""
        return sum(tally.items for tally in self.findings.values())

    @property
    def standing_items(self) -> int:
        """How many findings there are that were not repaired."""
        return self.found_items - self.repaired.total()

    @property
    def not_reached(self) -> int:
        """How many findings a repair had not come to when it was stopped."""
        return sum(reasons["stopped"] for reasons in self.left.values())

    @property
    def exit_status(self) -> int:
        """The exit status of this audit, regardless of its findings."""
        if self.error is not None:
            return 4
        if self.refused is not None:
            return 3
        return 1 if self.failed.total() else 0

    def as_json(self) -> dict[str, Any]:
        """Return the report in the interface's words, without kinds that have no finding."""
        return {
            "target": self.target,
            "started_at": instant(self.started_at),
            "finished_at": instant(self.finished_at) if self.finished_at else None,
            "pass_id": self.pass_id,
            "rows": self.rows,
            "blobs": self.blobs,
            "findings": {kind: asdict(self.findings[kind]) for kind in KINDS if kind in self.findings},
            "repaired": {kind: self.repaired[kind] for kind in KINDS if self.repaired[kind]},
            "left": {kind: dict(sorted(self.left[kind].items())) for kind in KINDS if kind in self.left},
            "not_reached": {"items": self.not_reached},
            "failed": {"items": self.failed.total(), "by_reason": dict(sorted(self.failed.items()))},
            "refused": asdict(self.refused) if self.refused else None,
            "error": self.error,
        }
