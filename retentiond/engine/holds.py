"""The interface to a target's holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.model.holds import Coverage, Hold, HoldRequest, HoldSubject


class Holds(Protocol):
    """The holds of one target."""

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Add a hold that starts now; return its coverage. Raise UsageError for a kind that the target lacks."""

    def on_record(self, *, closed: bool) -> AsyncIterator[Hold]:
        """Stream the holds in force, and with `closed` those that ended or were released, too."""

    async def release(self, hold_ids: list[int], subject: HoldSubject | None, reason: str) -> list[Hold]:
        """Release holds in force, by number or all of a subject; they stay on record."""
