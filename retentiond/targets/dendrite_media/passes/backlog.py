"""The backlog: due items that were not removed. A growing backlog shows a purge that stalls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.ledger import past
from retentiond.targets.dendrite_media.surveys.sizes import due_by_age

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.model.policy import Policy

_LARGEST: Final = 2**63 - 1
"""The largest value of the column; the sum of recorded sizes may be any number, and must not end the pass."""


async def note_backlog(connection: Conn, target: str, policies: Sequence[Policy], now: datetime) -> None:
    """Record how much of this connection's survey is due and not removed, and since when the oldest is due."""
    due = await due_by_age(connection, policies, now)
    since = [part.oldest + keep for part in due if (keep := policies[part.policy].keep) is not None]
    await past.note_backlog(
        connection,
        target,
        sum(part.items for part in due),
        min(sum(part.bytes for part in due), _LARGEST),
        min(since, default=None),
    )
