"""What a purge asks of a store that holds chats beside the database: statistics in ClickHouse, search in Elasticsearch.

Such a store is told by account and date, not row by row, less the chats that stay although they began before the
date. The database goes first; what stays there is known only then.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from retentiond.engine.target import Progress, Stop
    from retentiond.model.purge import StoreReport

StoreName = Literal["clickhouse", "elasticsearch"]
"""A store beside the database, as the configuration and the report call it."""

ChatId = int | str
"""What the database calls a chat; a number, unless the layout's key is text (or a UUID, as text)."""


EARLIEST_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""What is dated before it has no believable date, and stays: a column that was not filled says 1970."""
MOST_EXCLUDED: Final = 100_000
"""Chats that one statement can leave out, in any of these stores."""
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def spellings(chat: str) -> tuple[str, ...]:
    """Return how a store that holds text may have an id: a UUID has several spellings, and the product chose one."""
    if not _UUID.fullmatch(chat):
        return (chat,)
    bare = chat.replace("-", "")
    return chat, chat.upper(), bare, bare.upper()


class Excluded(Protocol):
    """The chats that stay although they began before the date: held, open, with newer activity or file messages."""

    @property
    def count(self) -> int:
        """How many they are."""

    def batches(self, size: int = 1000) -> AsyncIterator[Sequence[ChatId]]:
        """Stream their ids; it may be asked for again, and answers as of its beginning."""


class StoreNotes(Protocol):
    """A store's place in the ledger: one JSON object for each account and store, kept from purge to purge."""

    async def read(self) -> dict[str, Any]:
        """Return what was written last; empty where nothing was."""

    async def write(self, notes: Mapping[str, Any]) -> None:
        """Write in place of what was there; it is committed when this returns."""


class StorePurge(Protocol):
    """What is to be purged, how, and where to write down how far it is.

    `purge_id` is the number of the purge in the ledger, and None in a dry run, where nothing is written down.
    What began before `cutoff` (aware) goes, but for `excluded`.
    """

    @property
    def purge_id(self) -> int | None:
        """The purge's number in the ledger."""

    @property
    def account(self) -> str:
        """The account, as the configuration names it."""

    @property
    def cutoff(self) -> datetime:
        """The first moment that stays, in the zone of the target: its day is the first that stays."""

    @property
    def excluded(self) -> Excluded:
        """What stays before it."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be changed."""

    @property
    def notes(self) -> StoreNotes:
        """The store's place in the ledger."""

    @property
    def stop(self) -> Stop:
        """Asked between two steps."""

    async def begin_step(self, notes: Mapping[str, Any]) -> None:
        """Look at the holds a last time before a step is sent, and write down what it is found by.

        Raises RefusedError where one was put on meanwhile, and LeaseLostError: then nothing more may be sent.
        """


class ChatStore(Protocol):
    """A store beside the database, opened.

    Refusals are in the report. UnreachableError is raised; where something may be gone already, it is in the report,
    too, with how much surely is (`at_least`).
    """

    @property
    def name(self) -> StoreName:
        """Which it is."""

    async def check(self) -> list[str]:
        """Try what a purge needs, changing nothing, and return the problems found."""

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Purge and see it through, or, asked to stop, leave it so that the next purge goes on from the notes.

        In a dry run it only counts. What an earlier purge left running, by its notes, is followed to its end first.
        """

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """End what the notes say was sent, since a hold came after it; what it has done stays done.

        Whoever follows it sees that it is over. Raises UnreachableError where it cannot be ended.
        """
