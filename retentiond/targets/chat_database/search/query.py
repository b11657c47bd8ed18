"""Which documents a purge means, as a query. Nothing in here does I/O."""

from __future__ import annotations

from datetime import UTC, datetime, time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.store import EARLIEST_DATE, NO_CHAT_TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.store import ChatId

_FORMAT: Final = {"format": "strict_date_optional_time"}

Query = dict[str, Any]


class Meant:
    """The documents of one account before the cutoff (aware), in the indices that were looked at.

    `days`: the field of dates holds days.

    Of several dates each must lie before it, and of several accounts none is another. A document without a date is not
    meant. `texts`: the field of chats holds text in each index, and no numbers;
    `kinds_are_texts`: so does the field of kinds.
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
        # The order in which the server compares kinds.
        self._kind_order: Callable[[str], bytes | int] = str.encode if kinds_are_texts else int
        # A number is asked for in its own spelling alone.
        self.no_chat: tuple[ChatId, ...] = NO_CHAT_TEXTS if texts else ("0",)
        self._account = account
        # A day begins in UTC, wherever it was: west of Greenwich before the cutoff does.
        self.end = min(cutoff, datetime.combine(cutoff.date(), time(), UTC)) if days else cutoff

    @property
    def all(self) -> Query:
        """All of them, whatever becomes of them."""
        return {"bool": {"filter": self._aged(), "must_not": self._staying()}}

    @property
    def undated(self) -> Query:
        """The documents of the account that have no date, or none that can be true."""
        believable = self._dated({"gte": _instant(EARLIEST_DATE)})
        others = [*_of_others(self._config, self._account), believable]
        return {"bool": {"filter": self._of_account(), "must_not": others}}

    @property
    def without_chat(self) -> Query:
        """Those that do not name a chat: all of them, where no field does."""
        if self._config.thread_field is None:
            return self.all
        return {"bool": {"filter": self._aged(), "must_not": [*self._staying(), self._names_chat]}}

    def without_chats(self, query: Query, chats: Sequence[ChatId]) -> Query:
        """Return those of a query that name none of these chats."""
        named = {"terms": {self._config.thread_field or "": list(chats)}}
        return {"bool": {"filter": [query], "must_not": [named]}}

    def of_visitor(self, visitor: str, cutoff: datetime) -> Query:
        """Return those that name this visitor and no other, and are older than `cutoff` (aware)."""
        field = self._config.visitor_field or ""
        others: list[Query] = [{"range": {field: {"lt": visitor}}}, {"range": {field: {"gt": visitor}}}]
        later = self._dated({"gte": _instant(min(cutoff, self.end))})
        return {"bool": {"filter": [{"term": {field: visitor}}], "must_not": [*others, later]}}

    def in_month(self, start: datetime, end: datetime) -> Query:
        """Return those that name a chat, and whose oldest date lies from `start` up to, not including, `end`."""
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
        """Return those of a month that name some of these chats, and neither one that is kept nor one beyond the page.

        A document may name several chats. The page has the kept ones and these, in the order of the server.
        """
        field = self._config.thread_field or ""
        others: list[Query] = [{"range": {field: {"lt": page[0]}}}, {"range": {field: {"gt": page[-1]}}}]
        if kept:
            others.append({"terms": {field: list(kept)}})
        return {"bool": {"filter": [month, {"terms": {field: list(chats)}}], "must_not": others}}

    def naming(self, month: Query, chats: Sequence[ChatId]) -> Query:
        """Return those of a month that name one of these chats, whichever they name beside it."""
        return {"bool": {"filter": [month, {"terms": {self._config.thread_field or "": list(chats)}}]}}

    def beside(self, month: Query, chats: Sequence[ChatId], purged: Query) -> Query:
        """Return those that name one of these chats and are not purged with them."""
        return {"bool": {"filter": [self.naming(month, chats)], "must_not": [purged]}}

    def by_page(self, several: Query, page: Sequence[ChatId]) -> tuple[Query, Query]:
        """Return those whose first chat is on a page, and those that name one of an earlier page, too."""
        earlier: Query = {"range": {self._config.thread_field or "": {"lt": page[0]}}}
        return (
            {"bool": {"filter": [several], "must_not": [earlier]}},
            {"bool": {"filter": [several, earlier]}},
        )

    def texts_of(self, documents: Query) -> Query:
        """Return those of some documents that are of the kinds of texts, and of no other."""
        field, kinds = self._config.kind_field or "", sorted(self._config.text_kinds, key=self._kind_order)
        between = [{"gt": low, "lt": high} for low, high in pairwise(kinds)]
        bounds = [{"lt": kinds[0]}, *between, {"gt": kinds[-1]}]
        others = [{"range": {field: bound}} for bound in bounds]
        return {"bool": {"filter": [documents, {"terms": {field: kinds}}], "must_not": others}}

    @property
    def _names_chat(self) -> Query:
        """A value beside those that name no chat: before, between or after them in the server's order."""
        field = self._config.thread_field or ""
        between = [{"gt": low, "lt": high} for low, high in pairwise(self.no_chat)]
        bounds = [{"lt": self.no_chat[0]}, *between, {"gt": self.no_chat[-1]}]
        named = [{"range": {field: bound}} for bound in bounds]
        return {"bool": {"should": named, "minimum_should_match": 1}}

    def _aged(self) -> list[Query]:
        return [*self._of_account(), self._dated({"lt": _instant(self.end)})]

    def _of_account(self) -> list[Query]:
        # An index that came in since has not been looked at: its fields may be others.
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
    """Write a moment in full: a day alone would be rounded, and seconds alone taken for milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
