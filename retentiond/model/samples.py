"""Samples: a target's store, as it was once on each day."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.model.report import Tally

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from retentiond.model.usage import UsageBy, UsageRow

LARGEST: Final = 100
"""The keys of each division that a sample names, those with the most bytes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A target's store on one day, in UTC. Sizes are the bytes that leave the media tree, as the database records them.

    `classes` are the stored items by origin class, `local` and `remote`, for targets that have origins. `largest` are
    the largest keys of each division that the target samples (media: server, user, room; chats: account); a division that
    could not be read is missing. `free_bytes` is None for a target without a disk of its own. `taken`, `purged` and
    `restored` (items) are those since the sample before, zero in the first.
    """

    day: date
    at: datetime
    stored: Tally
    classes: Mapping[str, Tally] = field(default_factory=dict)
    largest: Mapping[UsageBy, tuple[UsageRow, ...]] = field(default_factory=dict)
    free_bytes: int | None = None
    database_bytes: int = 0
    taken: Tally = field(default_factory=Tally)
    purged: Tally = field(default_factory=Tally)
    restored: int = 0
