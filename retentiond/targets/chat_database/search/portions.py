"""What a purge takes out of an index step by step: documents of chats that the database does not have, named by ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.search.query import Meant, Query, both
from retentiond.targets.chat_database.store import months, names_no_chat
from retentiond.targets.chat_database.store_portions import Portions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from retentiond.targets.chat_database.search.index import Index
    from retentiond.targets.chat_database.search.indices import Inventory
    from retentiond.targets.chat_database.store import ChatId, StorePurge

_MOST_CHATS: Final = 10_000
"""Chats that one query names; the servers take 65,536 terms at the most."""


class IndexPortions(Portions[Query]):
    """The documents of one account that a purge takes; `meant` are those before the date."""

    def __init__(self, index: Index, inventory: Inventory, purge: StorePurge) -> None:
        config, types = index.config, inventory.types
        self._index = index
        self._indices = inventory.searched
        self.meant = Meant(
            config,
            purge.account,
            purge.cutoff,
            inventory.searched,
            days=types.days,
            texts=types.texts,
            kinds_are_texts=types.kinds_are_texts,
        )
        erased, theirs = purge.erased, None
        if erased is not None and config.visitor_field is not None:
            theirs = self.meant.of_visitor(erased.visitor, erased.cutoff)
        super().__init__(
            purge,
            "documents",
            by_date=config.without_chat == "purge" and bool(inventory.searched),
            names_chats=config.thread_field is not None and bool(inventory.searched),
            of_visitor=theirs,
            by_message=config.kind_field is not None,
        )

    def no_chat(self) -> Sequence[ChatId]:
        """Return the ids that name no chat."""
        return self.meant.no_chat

    def without_chat(self, others: Sequence[ChatId]) -> Query:
        """Return the documents that do not name a chat."""
        nameless = self.meant.without_chat
        return self._theirs(self.meant.without_chats(nameless, others) if others else nameless)

    def undated(self) -> Query | None:
        """Return the documents without a believable date; of a visitor only where the index names visitors."""
        return self._theirs(self.meant.undated) if self._names_nameless else None

    def _theirs(self, query: Query) -> Query:
        return query if self._of_visitor is None else both(query, self._of_visitor)

    async def of_absent_chats(self, *, of_visitor: bool) -> AsyncIterator[Query]:
        """Yield the documents of chats that the database does not have, and texts of those that keep only files."""
        visitor = self._of_visitor if of_visitor else None
        oldest = await self._index.oldest(_both(self.meant.all, visitor))
        if oldest is None:
            return
        for start, end in months(oldest, self.meant.end):
            month = _both(self.meant.in_month(start, end), visitor)
            async for query in self._in_month(month, of_visitor=of_visitor):
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


def _both(query: Query, other: Query | None) -> Query:
    return query if other is None else both(query, other)
