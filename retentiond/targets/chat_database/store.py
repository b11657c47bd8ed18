"""What a purge asks of a store that holds chats beside the database: statistics in ClickHouse, search in Elasticsearch.

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
"""A store beside the database, as the configuration and the report call it."""

ChatId = int | str
"""The id of a chat; a number, or text (a UUID, too)."""

NIL_UUID: Final = "00000000-0000-0000-0000-000000000000"
NO_CHAT_TEXTS: Final = ("", "0", NIL_UUID, NIL_UUID.replace("-", ""))
"""Texts that a column of chat ids holds where there is no chat, as zero among numbers; in the order of their bytes."""


def names_no_chat(chat: ChatId) -> bool:
    """Tell whether an id is the filling of a column without NULL, or its default, and not the id of a chat."""
    return chat in NO_CHAT_TEXTS if isinstance(chat, str) else chat == 0


EARLIEST_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""What is dated before it has no believable date, and stays: a column that was not filled says 1970."""


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
    """How many chats of a store have an id that cannot be compared with the database, and one such id."""

    count: int = 0
    example: str = ""

    def note(self, ids: Sequence[ChatId]) -> None:
        """Count more of them."""
        if ids and not self.count:
            self.example = printable(str(ids[0]), 60)
        self.count += len(ids)

    def remarks(self) -> tuple[str, ...]:
        """Return a sentence about them; none where there is none."""
        if not self.count:
            return ()
        text = f"{self.count} chats have an id that cannot be compared with those of the database (such as {self.example}), and stay"
        return (text,)


class Chats(Protocol):
    """The chats of the database."""

    async def compare(self, ids: Sequence[ChatId], *, of_visitor: bool = False) -> Comparison:
        """Compare chats of a store with those of the database, as they are now.

        Where one visitor is erased, only their chats can be absent, or any whose rows are `of_visitor` by the store's
        own word.
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
    """Whose rows a store loses where one visitor is erased: `chats` are those of the visitor in the database, as text.

    Rows of other chats go only where the store itself names the visitor, and where they are older than `cutoff`: the age
    of the listed chats was looked at in the database.
    """

    visitor: str = field(repr=False)
    chats: frozenset[str]
    cutoff: datetime


class StoreNotes(Protocol):
    """A store's place in the ledger: one JSON object for each account and store, kept from purge to purge."""

    async def read(self) -> dict[str, Any]:
        """Return what was written last; empty where nothing was."""

    async def write(self, notes: Mapping[str, Any]) -> None:
        """Write in place of what was there; it is committed when this returns."""


class StorePurge(Protocol):
    """What is to be purged, how, and where to write down how far it is.

    `purge_id` is the number of the purge in the ledger, and None in a dry run, where nothing is written down.
    What is older than `cutoff` (aware) goes where the database does not have its chat.
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
        """The visitor whose rows alone go; None where all of the account go."""

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

    async def report_shards(self, shards: Sequence[ShardReport]) -> None:
        """Publish the state by shard and replica while the purge runs: in `status`, the log and the progress bar.

        A store with shards calls this at each look. The last state belongs into the store's report, too.
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
        """Test the requirements of a purge without changes, and return the problems; raises MissingRightError."""

    async def look(self, accounts: Sequence[str]) -> StoreOverview:
        """Say which server it is, and what it has of these accounts."""

    async def purge(self, purge: StorePurge, progress: Progress) -> StoreReport:
        """Purge and see it through, or, asked to stop, leave it so that the next purge goes on from the notes.

        In a dry run it only counts. What an earlier purge left running, by its notes, is followed to its end first.
        """

    async def halt(self, notes: Mapping[str, Any]) -> None:
        """End what the notes say was sent, since a hold came after it; what it has done stays done.

        Whoever follows it sees that it is over. Raises UnreachableError where it cannot be ended.
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
        told: list[str] = []
        if self.with_files and by_message:
            told.append(
                f"{self.with_files} {self.noun} of chats that keep messages with files stay: their kinds are not "
                "all in `text_kinds`, or they name another chat that stays"
            )
        elif self.with_files:
            told.append(
                f"{self.with_files} {self.noun} of chats that keep messages with files stay whole, with data that the "
                "database no longer has"
            )
        several = max(self.several, self.apart)
        if several:
            at_least = "at least " if self.apart else ""
            told.append(
                f"{at_least}{several} {self.noun} name several chats, and stay: not all of these chats are missing from the "
                "database, or they were too many to be compared at once"
            )
        return tuple(told)
