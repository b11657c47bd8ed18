"""What a purge takes out of an index step by step: documents of chats that the database does not have, named by ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.search.query import Meant
from retentiond.targets.chat_database.store import StayingRows, UnknownIds, months, names_no_chat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from retentiond.targets.chat_database.search.index import Index
    from retentiond.targets.chat_database.search.indices import Inventory
    from retentiond.targets.chat_database.search.query import Query
    from retentiond.targets.chat_database.store import ChatId, StorePurge

_MOST_CHATS: Final = 10_000
"""Chats that one query names; the servers take 65,536 terms at the most."""


def portions_of(index: Index, inventory: Inventory, purge: StorePurge) -> Portions:
    """Return the portions of a purge in the indices in which documents can be counted."""
    types = inventory.types
    meant = Meant(
        index.config,
        purge.account,
        purge.cutoff,
        inventory.searched,
        days=types.days,
        texts=types.texts,
        kinds_are_texts=types.kinds_are_texts,
    )
    return Portions(index, meant, purge, by_date=index.config.without_chat == "purge")


class Portions:
    """The documents of one account that a purge takes; `meant` are those before the date.

    `by_date`: documents that do not name a chat are taken by account and date alone.
    """

    def __init__(self, index: Index, meant: Meant, purge: StorePurge, *, by_date: bool) -> None:
        self._index = index
        self.meant = meant
        self._purge = purge
        self._by_date = by_date
        self._names_chats = index.config.thread_field is not None
        self._unknown = UnknownIds()
        self.staying = StayingRows("documents")
        erased = purge.erased
        self._of_visitor: Query | None = None
        """The documents that name the visitor who is erased."""
        if erased is not None and index.config.visitor_field is not None:
            self._of_visitor = meant.of_visitor(erased.visitor, erased.cutoff)

    async def each(self) -> AsyncIterator[Query]:
        """Yield one query after the other; the documents of one may be deleted before the next is asked for."""
        # Of documents without a chat only the store's own field says whether they are the visitor's.
        if self._by_date and (self._purge.erased is None or self._of_visitor is not None):
            yield _both(await self._without_chat(), self._of_visitor)
        if not self._names_chats:
            return
        async for query in self._of_absent_chats(None):
            yield query
        if self._of_visitor is not None:
            async for query in self._of_absent_chats(self._of_visitor):
                yield query

    async def _of_absent_chats(self, visitor: Query | None) -> AsyncIterator[Query]:
        oldest = await self._index.oldest(_both(self.meant.all, visitor))
        if oldest is None:
            return
        for start, end in months(oldest, self.meant.end):
            month = _both(self.meant.in_month(start, end), visitor)
            async for query in self._in_month(month, of_visitor=visitor is not None):
                yield query

    async def _in_month(self, month: Query, *, of_visitor: bool) -> AsyncIterator[Query]:
        after: Mapping[str, Any] | None = None
        while True:
            page, after = await self._index.chats(month, after, _MOST_CHATS)
            chats = [chat for chat in page if not names_no_chat(chat)]
            compared = await self._purge.chats.compare(chats, of_visitor=of_visitor)
            self._unknown.note(compared.unknown)
            kept = [*compared.kept, *compared.unknown]
            if compared.absent:
                absent = self.meant.of_chats(month, compared.absent, kept=kept, page=page)
                yield absent
                await self._note_several(month, compared.absent, absent, page)
            if compared.stripped:
                async for texts in self._of_stripped(month, compared.stripped, kept, page):
                    yield texts
            if after is None:
                return

    async def _note_several(
        self, month: Query, absent: Sequence[ChatId], purged: Query, page: Sequence[ChatId]
    ) -> None:
        """Count the documents that name one of these chats, and another one for which they stay."""
        several = self.meant.beside(month, absent, purged)
        if await self._index.count(several):
            first, later = self.meant.by_page(several, page)
            self.staying.several += await self._index.count(first)
            self.staying.apart = max(self.staying.apart, await self._index.count(later))

    async def _of_stripped(
        self, month: Query, stripped: Sequence[ChatId], kept: Sequence[ChatId], page: Sequence[ChatId]
    ) -> AsyncIterator[Query]:
        """Yield the texts of chats that keep messages with files, where a document is a message; count what stays."""
        purged = 0
        if self._index.config.kind_field is not None:
            others = [chat for chat in kept if chat not in set(stripped)]
            texts = self.meant.texts_of(self.meant.of_chats(month, stripped, kept=others, page=page))
            purged = await self._index.count(texts) if self._purge.dry_run else 0
            yield texts
        documents = await self._index.count(self.meant.naming(month, stripped))
        self.staying.with_files += documents - purged

    async def _without_chat(self) -> Query:
        """Return the documents that do not name a chat; a chat with such an id in the database keeps its documents."""
        if not self._names_chats:
            return self.meant.without_chat
        there = (await self._purge.chats.compare(self.meant.no_chat, of_visitor=True)).kept
        return self.meant.without_chats(self.meant.without_chat, there) if there else self.meant.without_chat

    async def remarks(self) -> list[str]:
        """Say how many documents stay because nothing is known of their date or chat."""
        if self._purge.erased is not None and self._of_visitor is None:
            # Whose such documents are is not known.
            return [*self._unknown.remarks()]
        undated = _both(self.meant.undated, self._of_visitor)
        unknown = {"documents have no date, or none that can be true, and stay": undated}
        if self._names_chats and not self._by_date:
            unknown[
                "documents do not name a chat that could be looked up in the database, and stay; with `without_chat: purge` "
                "they are purged by account and date alone"
            ] = _both(self.meant.without_chat, self._of_visitor)
        counted = {words: await self._index.count(query) for words, query in unknown.items()}
        told = [f"{number} {words}" for words, number in counted.items() if number]
        by_message = self._index.config.kind_field is not None
        return [*told, *self._unknown.remarks(), *self.staying.remarks(by_message=by_message)]


def _both(query: Query, other: Query | None) -> Query:
    return query if other is None else {"bool": {"filter": [query, other]}}
