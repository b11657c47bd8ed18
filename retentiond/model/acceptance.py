"""Acceptance of a database and a disk that do not match: the knowledge of each, and the outcome."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retentiond.model.errors import Refusal


@dataclass(frozen=True, slots=True)
class Known:
    """The store as one side knows it: its ID, its last pass and the time; all None if it knows no store."""

    store: str | None = None
    last_pass: int | None = None
    at: str | None = None


@dataclass(slots=True)
class Acceptance:
    """The state of ledger, disk and rows, and, once `accepted`, the outcome.

    `unknown` are blobs in quarantine on the disk that are not in the ledger, and `wanted` those of them that rows
    reference; `gone` are blobs in the ledger without files. `without_file` of the `sampled` referenced blobs have no
    file in this directory, which shows whether it is the right one. `refused` is the present obstacle.
    """

    target: str
    ledger: Known = field(default_factory=Known)
    disk: Known = field(default_factory=Known)
    refused: list[Refusal] = field(default_factory=list)
    unknown: int = 0
    wanted: int = 0
    gone: int = 0
    sampled: int = 0
    without_file: int = 0
    accepted: bool = False
    returned: int = 0
    taken: int = 0
    lost: int = 0
    failed: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the report as `quarantine accept --json` prints it."""
        return asdict(self)
