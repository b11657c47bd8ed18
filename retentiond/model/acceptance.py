"""The way on where database and disk do not fit: what each of them knows, and what was done about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retentiond.model.errors import Refusal


@dataclass(frozen=True, slots=True)
class Known:
    """What one side knows of the store: its id and its last pass, and when; nothing where it knows no store."""

    store: str | None = None
    last_pass: int | None = None
    at: str | None = None


@dataclass(slots=True)
class Acceptance:
    """What the ledger and the disk know, what rows want, and, once `accepted`, what became of it.

    `unknown` are contents in quarantine on the disk that the ledger does not know, and `wanted` those of them that
    rows bear; `gone` are those that the ledger knows and whose files are not there. `without_file` of the `sampled`
    contents that rows bear have no file in this directory, which tells whether it is the right one. `refused` says
    what stands in the way now.
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
        """Return the account as `quarantine accept --json` prints it."""
        return asdict(self)
