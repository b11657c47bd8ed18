"""The portions of a purge in a store: rows of chats that the database does not have, a bounded number of chats at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from retentiond.targets.chat_database.store import ChatId, StorePurge

Q = TypeVar("Q")


@dataclass(slots=True)
class StayingRows:
    """Counts of kept rows. `with_files` are rows of chats of which the database has only messages with files.

    `several` are rows that name a missing chat and a kept one; `apart` is the largest number of them on one page that also
    name chats of an earlier page, and so may be counted already. `unknown` are chats whose ID cannot be compared with the
    database, and `example` is one of these IDs.
    """

    noun: str
    with_files: int = 0
    several: int = 0
    apart: int = 0
    unknown: int = 0
    example: str = ""

    def note_unknown(self, ids: Sequence[ChatId]) -> None:
        """Count chats whose ID cannot be compared with the database."""
        if ids and not self.unknown:
            self.example = printable(str(ids[0]), 60)
        self.unknown += len(ids)

    def kept(self) -> dict[str, int]:
        """Return the counts by reason, for JSON."""
        counts = {"has_file_messages": self.with_files, "several_chats": max(self.several, self.apart)}
        return {reason: count for reason, count in counts.items() if count}

    def remarks(self, *, by_message: bool) -> tuple[str, ...]:
        """Return a sentence for each reason; `by_message`: the texts of these chats were purged."""
        sentences: list[str] = []
        if self.unknown:
            sentences.append(
                f"{self.unknown} chats have an ID that cannot be compared with the database (for example {self.example}), "
                "and are kept"
            )
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


class Portions(ABC, Generic[Q]):
    """The rows of one account that a purge deletes, as queries of a store.

    `by_date`: rows that do not name a chat are deleted by account and date alone. `names_chats`: the store names the chats
    of its rows. `of_visitor` are the rows that name the visitor who is erased; None without one, or where the store does
    not name visitors. `by_message`: a row is a message.
    """

    def __init__(
        self,
        purge: StorePurge,
        noun: str,
        *,
        by_date: bool,
        names_chats: bool,
        of_visitor: Q | None,
        by_message: bool = False,
    ) -> None:
        self._purge = purge
        self._noun = noun
        self._by_date = by_date
        self._names_chats = names_chats
        self._of_visitor = of_visitor
        self._by_message = by_message
        self.staying = StayingRows(noun)

    async def each(self) -> AsyncIterator[Q]:
        """Yield one portion after the other; the rows of one may be deleted before the next is requested."""
        self.staying = StayingRows(self._noun)
        if self._by_date and self._names_nameless:
            yield self.without_chat(await self._ids_that_are_chats())
        if not self._names_chats:
            return
        async for portion in self.of_absent_chats(of_visitor=False):
            yield portion
        if self._of_visitor is not None:
            async for portion in self.of_absent_chats(of_visitor=True):
                yield portion

    @property
    def _names_nameless(self) -> bool:
        """Whether rows without a chat can be selected: in an erasure only if the store names visitors."""
        return self._purge.erased is None or self._of_visitor is not None

    async def _ids_that_are_chats(self) -> Sequence[ChatId]:
        """Return the IDs that usually mean no chat but are a chat of the database, whose rows are kept."""
        if not self._names_chats:
            return ()
        return (await self._purge.chats.compare(self.no_chat(), of_visitor=True)).kept

    async def leftovers(self, count: Callable[[Q], Awaitable[int]]) -> list[str]:
        """Report how many rows are kept because their date or chat is unknown."""
        found = {"have no believable date, and are kept": self.undated()}
        if self._names_chats and not self._by_date and self._names_nameless:
            found["do not name a chat that could be looked up in the database, and are kept"] = (
                self.without_chat(())
            )
        counted = {words: await count(rows) for words, rows in found.items() if rows is not None}
        return [f"{number} {self._noun} {words}" for words, number in counted.items() if number]

    def remarks(self) -> tuple[str, ...]:
        """Describe the kept chats with an incomparable ID, and the rows kept for a kept chat."""
        return self.staying.remarks(by_message=self._by_message)

    @abstractmethod
    def no_chat(self) -> Sequence[ChatId]:
        """Return the ids that name no chat."""

    @abstractmethod
    def without_chat(self, others: Sequence[ChatId]) -> Q:
        """Return the rows that do not name a chat, except those with these IDs; in an erasure only those of the visitor."""

    @abstractmethod
    def undated(self) -> Q | None:
        """Return the rows without a believable date; None if their visitor is not known."""

    @abstractmethod
    def of_absent_chats(self, *, of_visitor: bool) -> AsyncIterator[Q]:
        """Yield the rows of chats that the database does not have; with `of_visitor` those that name the visitor."""
