"""The backlog: what is due and was not taken. A backlog that grows is a purge that stalls."""

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
"""More than a column holds would end the pass; a recorded size may be any number."""


async def note_backlog(connection: Conn, target: str, policies: Sequence[Policy], now: datetime) -> None:
    """Write down what of the survey on this connection is due and still there, and since when the oldest of it is."""
    due = await due_by_age(connection, policies, now)
    since = [part.oldest + keep for part in due if (keep := policies[part.policy].keep) is not None]
    await past.note_backlog(
        connection,
        target,
        sum(part.items for part in due),
        min(sum(part.bytes for part in due), _LARGEST),
        min(since, default=None),
    )
