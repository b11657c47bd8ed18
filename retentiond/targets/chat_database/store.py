"""The interface of a secondary store of chats: statistics in ClickHouse, search in Elasticsearch.

A store loses the rows of a chat only when the database does not have that chat. The store lists the chats of an account
whose rows are older than the date, a month and a bounded number of chats at a time; the database is asked which of them
it has; the others are purged by their ids. Dates in the store alone decide nothing: clocks and time zones differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from retentiond.model.text import printable

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
"""Texts that a column of chat ids holds where there is no chat, as zero among numbers; in the order of their bytes."""


def names_no_chat(chat: ChatId) -> bool:
    """Return whether an ID is the default of a column without NULL, and not the ID of a chat."""
    return chat in NO_CHAT_TEXTS if isinstance(chat, str) else chat == 0


EARLIEST_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Rows dated before it have no believable date and are kept: an unfilled column holds 1970."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Chats of a store compared with the database: each id is in one of the three lists, as the store has it.

    `absent`: the database does not have the chat, and no hold names it. `kept`: it has it, or a hold does. `unknown`:
    the id is not one that the database could have, so that it cannot be looked up; such chats stay. `stripped` are those
    of `kept` that keep messages with files, and of which the database has no other message any more.
    """

    absent: Sequence[ChatId]
    kept: Sequence[ChatId]
    unknown: Sequence[ChatId]
    stripped: Sequence[ChatId] = ()


@dataclass(slots=True)
class UnknownIds:
    """The number of chats of a store whose ID cannot be compared with the database, and one such ID."""

    count: int = 0
    example: str = ""

    def note(self, ids: Sequence[ChatId]) -> None:
        """Count more of them."""
        if ids and not self.count:
            self.example = printable(str(ids[0]), 60)
        self.count += len(ids)

    def remarks(self) -> tuple[str, ...]:
        """Return a sentence about them; empty without such chats."""
        if not self.count:
            return ()
        text = (
            f"{self.count} chats have an ID that cannot be compared with the database (for example {self.example}), "
            "and are kept"
        )
        return (text,)


class Chats(Protocol):
    """The chats of the database."""

    async def compare(self, ids: Sequence[ChatId], *, of_visitor: bool = False) -> Comparison:
        """Compare chats of a store with those of the database, as they are now.

        Where one visitor is erased, only their chats can be absent, or, with `of_visitor`, chats whose rows name the
        visitor in the store.
        """


def months(first: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Split the time up to `end` into months of UTC, the earliest first; each is its first moment and the next one's.

    They begin a day before `first`, whose zone may be another than it seems, and never before EARLIEST_DATE.
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
        """The first moment that stays, in the zone of the target: its day is the first that stays."""

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

    Refusals are in the report. UnreachableError is raised; where something may be gone already, it is in the report,
    too, with how much surely is (`at_least`).
    """

    @property
    def name(self) -> StoreName:
        """The name of the store."""

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


@dataclass(slots=True)
class StayingRows:
    """`with_files` are rows of chats that keep their messages with files and have lost all others in the database.

    `several` are rows that name a chat to be purged, and another beside it; `apart` are the most of them that were seen on
    one page although they name chats of an earlier one, too: they may be counted already, or not.
    """

    noun: str
    with_files: int = 0
    several: int = 0
    apart: int = 0

    def kept(self) -> dict[str, int]:
        """Return the counts by reason, for JSON."""
        counts = {"has_file_messages": self.with_files, "several_chats": max(self.several, self.apart)}
        return {reason: count for reason, count in counts.items() if count}

    def remarks(self, *, by_message: bool) -> tuple[str, ...]:
        """Return a sentence for each reason; `by_message`: the texts of these chats were purged."""
        sentences: list[str] = []
        if self.with_files and by_message:
            sentences.append(
                f"{self.with_files} {self.noun} of chats that keep messages with files are kept: not all of their "
                "kinds are in `text_kinds`, or they name another kept chat"
            )
        elif self.with_files:
            sentences.append(
                f"{self.with_files} {self.noun} of chats that keep messages with files are kept completely, with "
                "data that the database no longer has"
            )
        several = max(self.several, self.apart)
        if several:
            at_least = "at least " if self.apart else ""
            sentences.append(
                f"{at_least}{several} {self.noun} name several chats, and are kept: not all of these chats are "
                "missing from the database, or they were too many to be compared at once"
            )
        return tuple(sentences)
