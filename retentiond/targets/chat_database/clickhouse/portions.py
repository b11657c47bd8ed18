"""What a purge takes out of a table step by step: rows of chats that the database does not have, named by their ids."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.clickhouse.condition import (
    NO_CHAT,
    dated,
    not_of,
    of_chats,
    with_chat,
    within,
    without_chat,
)
from retentiond.targets.chat_database.clickhouse.connection import ServerError
from retentiond.targets.chat_database.staying import StayingRows
from retentiond.targets.chat_database.store import UnknownIds, months

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.targets.chat_database.clickhouse.condition import Columns, Condition
    from retentiond.targets.chat_database.clickhouse.rows import MeantRows
    from retentiond.targets.chat_database.store import ChatId, StorePurge

_MOST_NUMBERS: Final = 40_000
_MOST_TEXTS: Final = 10_000
"""Chats that are looked up at once; a statement names fewer than twice as many. A replicated table keeps it in its
Keeper, which takes a megabyte."""


class Portions:
    """The rows of one account that a purge takes; `all` are those before the date, whatever becomes of them.

    `by_date`: rows that do not name a chat are taken by account and date alone.
    """

    def __init__(self, rows: MeantRows, columns: Columns, purge: StorePurge, *, by_date: bool) -> None:
        self._rows = rows
        self._columns = columns
        self._purge = purge
        self._by_date = by_date
        self._most = _MOST_NUMBERS if columns.thread_type in {"Int64", "UInt64"} else _MOST_TEXTS
        self._unknown = UnknownIds()
        self.staying = StayingRows("rows")
        self.all = dated(columns, purge.account, purge.cutoff)

    async def each(self) -> AsyncIterator[Condition]:
        """Yield one condition after the other; the rows of one may be deleted before the next is asked for."""
        if self._by_date:
            yield await self._without_chat()
        if self._columns.thread is not None:
            async for portion in self._of_absent_chats():
                yield portion

    async def _without_chat(self) -> Condition:
        """Return the condition of rows that do not name a chat; a chat with such an id in the database keeps its rows."""
        rows = without_chat(self.all, self._columns)
        if self._columns.thread is None:
            return rows
        chats = NO_CHAT[self._columns.thread_type]
        there = (await self._purge.chats.compare(chats)).kept
        return not_of(rows, self._columns, there) if there else rows

    def leftovers(self) -> dict[str, str]:
        """Return the conditions of rows that stay because nothing is known of their date or chat, with why they do."""
        unknown = dict(self.all.unknown)
        if self._columns.thread is not None and not self._by_date:
            unknown[without_chat(self.all, self._columns).text] = (
                "rows do not name a chat that could be looked up in the database, and stay; with `without_chat: purge` "
                "they are purged by account and date alone"
            )
        return unknown

    def parameters(self) -> Condition:
        """Return a condition with the parameters that `leftovers` name."""
        return self.all if self._columns.thread is None else with_chat(self.all, self._columns)

    def remarks(self) -> tuple[str, ...]:
        """Say how many chats stay because their id cannot be compared, and how many rows for messages with files."""
        return (*self._unknown.remarks(), *self.staying.remarks(by_message=False))

    async def _of_absent_chats(self) -> AsyncIterator[Condition]:
        # Few statements with many chats each: the server may rewrite large parts for every one of them.
        absent: dict[ChatId, None] = {}
        begun = self._purge.cutoff
        async for start, end, chats in self._pages():
            compared = await self._purge.chats.compare(chats)
            self._unknown.note(compared.unknown)
            if compared.stripped:
                window = within(self.all, self._columns, start, end)
                rows = of_chats(window, self._columns, compared.stripped)
                self.staying.with_files += await self._rows.count(rows)
            begun = start if not absent else begun
            absent |= dict.fromkeys(compared.absent)
            if len(absent) >= self._most:
                yield self._portion(begun, end, absent)
                absent = {}
        if absent:
            yield self._portion(begun, self._purge.cutoff, absent)

    def _portion(self, start: datetime, end: datetime, absent: dict[ChatId, None]) -> Condition:
        return of_chats(within(self.all, self._columns, start, end), self._columns, list(absent))

    async def _pages(self) -> AsyncIterator[tuple[datetime, datetime, list[ChatId]]]:
        """Yield the chats of each month, so many at a time, with the month."""
        oldest = await self._oldest()
        if oldest is None:
            return
        for start, end in months(oldest, self._purge.cutoff):
            month = with_chat(within(self.all, self._columns, start, end), self._columns)
            page = await self._chats(month)
            while page:
                yield start, end, page
                if len(page) < self._most:
                    break
                page = await self._chats(self._after(month, page[-1]))

    def _after(self, month: Condition, chat: ChatId) -> Condition:
        return month.narrowed(
            f"{{thread_column:Identifier}} > {{after:{self._columns.thread_type}}}", after=chat
        )

    async def _oldest(self) -> datetime | None:
        rows = await self._ask("oldest", self.all)
        if not rows:
            return None
        return datetime.combine(datetime.fromisoformat(rows[0]["day"]).date(), time(), UTC)

    async def _chats(self, condition: Condition) -> list[ChatId]:
        found = [row["_chat"] for row in await self._ask("chats", condition, most=self._most)]
        chats: list[ChatId] = [chat if isinstance(chat, int) else str(chat) for chat in found]
        if "after" in condition.parameters and condition.parameters["after"] in chats:
            raise ServerError("it lists a chat again that it was asked to go on after", None)
        return chats

    async def _ask(self, name: str, condition: Condition, **others: Any) -> list[dict[str, Any]]:
        relations = self._rows.relations
        statement = relations.statement(name, condition=condition)
        return await self._rows.server.rows(statement, relations.parameters(condition, **others))
