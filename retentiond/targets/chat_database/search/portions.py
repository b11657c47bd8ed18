"""The portions of a purge in an index: documents of chats that the database does not have, as queries."""

from __future__ import annotations

from datetime import UTC, datetime, time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.store import EARLIEST_DATE, NO_CHAT_TEXTS, months, names_no_chat
from retentiond.targets.chat_database.store_portions import Portions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.search.index import Index
    from retentiond.targets.chat_database.search.indices import Inventory
    from retentiond.targets.chat_database.store import ChatId, StorePurge


_FORMAT: Final = {"format": "strict_date_optional_time"}

Query = dict[str, Any]

_MOST_CHATS: Final = 10_000
"""The most chats in one query; the servers accept 65,536 terms."""


class Documents:
    """Queries for documents of one account before the cutoff (aware), in the checked indices.

    All dates of a document must be before the cutoff, and all of its accounts must be this one; documents without a date do
    not match. `days`: the field of dates has days. `texts` and `kinds_are_texts`: in each index the field of chats, and that
    of kinds, has texts and no numbers.
    """

    def __init__(
        self,
        config: ElasticsearchStore,
        account: str,
        cutoff: datetime,
        indices: Sequence[str],
        *,
        days: bool = False,
        texts: bool = False,
        kinds_are_texts: bool = False,
    ) -> None:
        self._config = config
        self._indices = indices
        # The order of kinds on the server.
        self._kind_order: Callable[[str], bytes | int] = str.encode if kinds_are_texts else int
        # A number has one spelling in a query.
        self.no_chat: tuple[ChatId, ...] = NO_CHAT_TEXTS if texts else ("0",)
        self._account = account
        # A day begins in UTC: west of Greenwich earlier than the cutoff.
        self.end = min(cutoff, datetime.combine(cutoff.date(), time(), UTC)) if days else cutoff

    @property
    def all(self) -> Query:
        """All these documents, deleted or kept."""
        return {"bool": {"filter": self._aged(), "must_not": self._staying()}}

    @property
    def undated(self) -> Query:
        """The documents of the account without a believable date."""
        believable = self._dated({"gte": _instant(EARLIEST_DATE)})
        others = [*_of_others(self._config, self._account), believable]
        return {"bool": {"filter": self._of_account(), "must_not": others}}

    @property
    def without_chat(self) -> Query:
        """Documents that do not name a chat: all of them without a field of chats."""
        if self._config.thread_field is None:
            return self.all
        return {"bool": {"filter": self._aged(), "must_not": [*self._staying(), self._names_chat]}}

    def without_chats(self, query: Query, chats: Sequence[ChatId]) -> Query:
        """Return the documents of a query that do not name one of these chats."""
        named = {"terms": {self._config.thread_field or "": list(chats)}}
        return {"bool": {"filter": [query], "must_not": [named]}}

    def of_visitor(self, visitor: str, cutoff: datetime) -> Query:
        """Return the documents that name only this visitor, and are older than `cutoff` (aware)."""
        field = self._config.visitor_field or ""
        others: list[Query] = [{"range": {field: {"lt": visitor}}}, {"range": {field: {"gt": visitor}}}]
        later = self._dated({"gte": _instant(min(cutoff, self.end))})
        return {"bool": {"filter": [{"term": {field: visitor}}], "must_not": [*others, later]}}

    def in_month(self, start: datetime, end: datetime) -> Query:
        """Return the documents that name a chat, and have their oldest date from `start` up to, not including, `end`."""
        inside = self._dated({"gte": _instant(start), "lt": _instant(end)})
        before = self._dated({"lt": _instant(start)})
        return {
            "bool": {
                "filter": [*self._aged(), self._names_chat, inside],
                "must_not": [*self._staying(), before],
            }
        }

    def of_chats(
        self, month: Query, chats: Sequence[ChatId], *, kept: Sequence[ChatId], page: Sequence[ChatId]
    ) -> Query:
        """Return the documents of a month that name some of these chats, but no kept chat and no chat of another page.

        A document may name several chats. The page has these and the kept chats, in the order of the server.
        """
        field = self._config.thread_field or ""
        others: list[Query] = [{"range": {field: {"lt": page[0]}}}, {"range": {field: {"gt": page[-1]}}}]
        if kept:
            others.append({"terms": {field: list(kept)}})
        return {"bool": {"filter": [month, {"terms": {field: list(chats)}}], "must_not": others}}

    def naming(self, month: Query, chats: Sequence[ChatId]) -> Query:
        """Return the documents of a month that name one of these chats, and maybe others."""
        return {"bool": {"filter": [month, {"terms": {self._config.thread_field or "": list(chats)}}]}}

    def beside(self, month: Query, chats: Sequence[ChatId], purged: Query) -> Query:
        """Return the documents that name one of these chats and are not purged with them."""
        return {"bool": {"filter": [self.naming(month, chats)], "must_not": [purged]}}

    def by_page(self, several: Query, page: Sequence[ChatId]) -> tuple[Query, Query]:
        """Return the documents whose first chat is on a page, and those that also name a chat of an earlier page."""
        earlier: Query = {"range": {self._config.thread_field or "": {"lt": page[0]}}}
        return (
            {"bool": {"filter": [several], "must_not": [earlier]}},
            {"bool": {"filter": [several, earlier]}},
        )

    def texts_of(self, documents: Query) -> Query:
        """Return the documents that have only kinds of texts."""
        field, kinds = self._config.kind_field or "", sorted(self._config.text_kinds, key=self._kind_order)
        between = [{"gt": low, "lt": high} for low, high in pairwise(kinds)]
        bounds = [{"lt": kinds[0]}, *between, {"gt": kinds[-1]}]
        others = [{"range": {field: bound}} for bound in bounds]
        return {"bool": {"filter": [documents, {"terms": {field: kinds}}], "must_not": others}}

    @property
    def _names_chat(self) -> Query:
        """A value other than those that mean no chat: before, between or after them in the order of the server."""
        field = self._config.thread_field or ""
        between = [{"gt": low, "lt": high} for low, high in pairwise(self.no_chat)]
        bounds = [{"lt": self.no_chat[0]}, *between, {"gt": self.no_chat[-1]}]
        named = [{"range": {field: bound}} for bound in bounds]
        return {"bool": {"should": named, "minimum_should_match": 1}}

    def _aged(self) -> list[Query]:
        return [*self._of_account(), self._dated({"lt": _instant(self.end)})]

    def _of_account(self) -> list[Query]:
        # An index that was added since is not checked: its fields may differ.
        return [within(self._indices), {"term": {self._config.account_field: self._account}}]

    def _staying(self) -> list[Query]:
        return [
            self._dated({"gte": _instant(self.end)}),
            self._dated({"lt": _instant(EARLIEST_DATE)}),
            *_of_others(self._config, self._account),
        ]

    def _dated(self, bounds: dict[str, str]) -> Query:
        return {"range": {self._config.date_field: {**bounds, **_FORMAT}}}


def within(indices: Sequence[str]) -> Query:
    """Return the query of all documents of some indices."""
    return {"terms": {"_index": sorted(indices)}}


def both(query: Query, other: Query) -> Query:
    """Return the query of the documents that two queries have in common."""
    return {"bool": {"filter": [query, other]}}


def _of_others(config: ElasticsearchStore, account: str) -> list[Query]:
    return [
        {"range": {config.account_field: {"lt": account}}},
        {"range": {config.account_field: {"gt": account}}},
    ]


def _instant(moment: datetime) -> str:
    """Write a moment in full: a day would be rounded, and seconds would be read as milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


class IndexPortions(Portions[Query]):
    """The documents of one account that a purge deletes; `documents` are the queries for them."""

    def __init__(self, index: Index, inventory: Inventory, purge: StorePurge) -> None:
        config, types = index.config, inventory.types
        self._index = index
        self._indices = inventory.searched
        self.documents = Documents(
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
            theirs = self.documents.of_visitor(erased.visitor, erased.cutoff)
        super().__init__(
            purge,
            "documents",
            by_date=config.without_chat == "purge" and bool(inventory.searched),
            names_chats=config.thread_field is not None and bool(inventory.searched),
            of_visitor=theirs,
            by_message=config.kind_field is not None,
        )

    def no_chat(self) -> Sequence[ChatId]:
        """Return the IDs that mean no chat."""
        return self.documents.no_chat

    def without_chat(self, others: Sequence[ChatId]) -> Query:
        """Return the documents that do not name a chat."""
        nameless = self.documents.without_chat
        return self._theirs(self.documents.without_chats(nameless, others) if others else nameless)

    def undated(self) -> Query | None:
        """Return the documents without a believable date; of a visitor only if the index names visitors."""
        return self._theirs(self.documents.undated) if self._names_nameless else None

    def _theirs(self, query: Query) -> Query:
        return query if self._of_visitor is None else both(query, self._of_visitor)

    async def of_absent_chats(self, *, of_visitor: bool) -> AsyncIterator[Query]:
        """Yield the documents of chats that the database does not have, and texts of chats of which it has only files."""
        visitor = self._of_visitor if of_visitor else None
        oldest = await self._index.oldest(_both(self.documents.all, visitor))
        if oldest is None:
            return
        for start, end in months(oldest, self.documents.end):
            month = _both(self.documents.in_month(start, end), visitor)
            async for query in self._in_month(month, of_visitor=of_visitor):
                yield query

    async def _in_month(self, month: Query, *, of_visitor: bool) -> AsyncIterator[Query]:
        after: Mapping[str, Any] | None = None
        while True:
            page, after = await self._index.chats(month, after, _MOST_CHATS)
            chats = [chat for chat in page if not names_no_chat(chat)]
            compared = await self._purge.chats.compare(chats, of_visitor=of_visitor)
            self.staying.note_unknown(compared.unknown)
            kept = [*compared.kept, *compared.unknown]
            if compared.absent:
                absent = self.documents.of_chats(month, compared.absent, kept=kept, page=page)
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
        """Count the documents that name one of these chats, and also a kept one."""
        several = self.documents.beside(month, absent, purged)
        if await self._index.count(several):
            first, later = self.documents.by_page(several, page)
            self.staying.several += await self._index.count(first)
            self.staying.apart = max(self.staying.apart, await self._index.count(later))

    async def _of_stripped(
        self, month: Query, stripped: Sequence[ChatId], kept: Sequence[ChatId], page: Sequence[ChatId]
    ) -> AsyncIterator[Query]:
        """Yield the texts of chats that keep messages with files, if a document is a message; count the kept documents."""
        purged = 0
        if self._index.config.kind_field is not None:
            others = [chat for chat in kept if chat not in set(stripped)]
            texts = self.documents.texts_of(self.documents.of_chats(month, stripped, kept=others, page=page))
            purged = await self._index.count(texts) if self._purge.dry_run else 0
            yield texts
        documents = await self._index.count(self.documents.naming(month, stripped))
        self.staying.with_files += documents - purged


def _both(query: Query, other: Query | None) -> Query:
    return query if other is None else both(query, other)
