"""The interface of a secondary store of chats: statistics in ClickHouse, search in Elasticsearch.

Rows of a chat are deleted from a store only if the database does not have that chat. The store lists the chats with rows
before the date, a month and a bounded number of chats at a time; they are looked up in the database, and the missing ones are
purged by their IDs. The dates in the store are not sufficient: clocks and time zones differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retentiond.engine.target import Progress, Stop
    from retentiond.model.check import StoreOverview
    from retentiond.model.purge import ShardReport, StoreReport


StoreName = Literal["clickhouse", "elasticsearch"]
"""A secondary store, by its name in the configuration and the report."""

ChatId = int | str
"""The id of a chat; a number, or text (a UUID, too)."""

NIL_UUID: Final = "00000000-0000-0000-0000-000000000000"
NO_CHAT_TEXTS: Final = ("", "0", NIL_UUID, NIL_UUID.replace("-", ""))
"""Texts that mean no chat in a column of chat IDs, as zero does among numbers; in the order of their bytes."""


def names_no_chat(chat: ChatId) -> bool:
    """Return whether an ID is the default of a column without NULL, and not the ID of a chat."""
    return chat in NO_CHAT_TEXTS if isinstance(chat, str) else chat == 0


EARLIEST_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Rows dated before it have no believable date and are kept: an unfilled column holds 1970."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Chats of a store compared with the database: each ID, as spelt in the store, is in one of the first three lists.

    `absent`: the database does not have the chat, and no hold names it. `kept`: the database has it, or a hold names it.
    `unknown`: the ID cannot be looked up in the database, and the chat is kept. `stripped` are those of `kept` of which the
    database has only messages with files.
    """

    absent: Sequence[ChatId]
    kept: Sequence[ChatId]
    unknown: Sequence[ChatId]
    stripped: Sequence[ChatId] = ()


class Chats(Protocol):
    """The chats of the database."""

    async def compare(self, ids: Sequence[ChatId], *, of_visitor: bool = False) -> Comparison:
        """Compare chats of a store with those of the database, as they are now.

        Where one visitor is erased, only their chats can be absent, or, with `of_visitor`, chats whose rows name the
        visitor in the store.
        """


def months(first: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Split the time up to `end` into months of UTC, the earliest first, each as its first moment and its end.

    They begin a day before `first`, whose zone may be unknown, and never before EARLIEST_DATE.
    """
    begin = max(first.astimezone(UTC) - timedelta(days=1), EARLIEST_DATE)
    start = begin.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while start < end:
        following = (start + timedelta(days=32)).replace(day=1)
        yield start, min(following, end)
        start = following


@dataclass(frozen=True, slots=True)
class ErasedVisitor:
    """The visitor of an erasure: `chats` are those of the visitor in the database, as text.

    Rows of other chats are deleted only if they name the visitor and are older than `cutoff`: the age of the listed
    chats was checked in the database.
    """

    visitor: str = field(repr=False)
    chats: frozenset[str]
    cutoff: datetime


class StoreNotes(Protocol):
    """The notes of a store in the ledger: one JSON object for each account and store, kept between purges."""

    async def read(self) -> dict[str, Any]:
        """Return the last notes; empty without any."""

    async def write(self, notes: Mapping[str, Any]) -> None:
        """Replace the notes; they are committed when this returns."""


class StorePurge(Protocol):
    """The request to purge a store, with the notes of its progress.

    `purge_id` is the number of the purge in the ledger, and None in a dry run, where nothing is recorded.
    Rows older than `cutoff` (aware) are deleted if the database does not have their chat.
    """

    @property
    def purge_id(self) -> int | None:
        """The purge's number in the ledger."""

    @property
    def account(self) -> str:
        """The account, as the configuration names it."""

    @property
    def cutoff(self) -> datetime:
        """The first kept moment, in the zone of the target; its day is the first kept day."""

    @property
    def chats(self) -> Chats:
        """The chats of the database."""

    @property
    def erased(self) -> ErasedVisitor | None:
        """The visitor to erase; None for a purge of the whole account."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be changed."""

    @property
    def notes(self) -> StoreNotes:
        """The notes of the store in the ledger."""

    @property
    def stop(self) -> Stop:
        """The request to stop, checked between two steps."""

    async def begin_step(self, notes: Mapping[str, Any]) -> None:
        """Check the holds a last time before a step is sent, and record the step so that it can be found again.

        Raises RefusedError for a hold that was added meanwhile, and LeaseLostError: then nothing more may be sent.
        """

    async def report_shards(self, shards: Sequence[ShardReport]) -> None:
        """Publish the state by shard and replica while the purge runs: in `status`, the log and the progress bar.

        A store with shards calls this at each poll. The last state is in the report of the store, too.
        """


class ChatStore(Protocol):
    """An opened secondary store.

    Refusals are in the report. UnreachableError is raised, except after a possible deletion: then the report has it, with the
    certain deletions (`at_least`).
    """

    async def check(self) -> list[str]:
        """Test the requirements of a purge without changes, and return the problems; raises MissingRightError."""

    async def look(self, accounts: Sequence[str]) -> StoreOverview:
        """Return the version of the server, and its rows of these accounts."""

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Purge to the end, or, asked to stop, leave notes from which the next purge continues.

        In a dry run it only counts. A step that an earlier purge left running is followed to its end first.
        """

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """End the running step of the notes, because a hold was added after it; deleted rows stay deleted.

        The purge that follows the step sees its end. Raises UnreachableError if it cannot be ended.
        """
