"""The holds of a chat target: on an account, one chat or visitor of it, or a range of dates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.model.holds import Coverage, Hold, HoldRequest, HoldSubject
    from retentiond.targets.chat_database.place import Place


class ChatHolds:
    """The holds of one chat database, as the engine's Protocol wants them."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Refuse: what media are held by means nothing here."""
        raise UsageError(
            f"{self._place.name} holds chats, and {request.subject.kind} means nothing there; name the TARGET of the media"
        )

    async def on_record(self, *, closed: bool) -> AsyncIterator[Hold]:
        """Stream the holds."""
        del closed
        nothing: tuple[Hold, ...] = ()
        for hold in nothing:
            yield hold

    async def release(self, hold_ids: list[int], subject: HoldSubject | None, reason: str) -> list[Hold]:
        """Release holds."""
        del hold_ids, subject, reason
        return []
