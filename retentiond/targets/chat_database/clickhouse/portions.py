"""The portions of a purge in a table: rows of chats that the database does not have, selected by ID."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Final

from retentiond.targets.chat_database.clickhouse.connection import ServerError
from retentiond.targets.chat_database.clickhouse.statements import (
    NO_CHAT,
    Condition,
    dated,
    not_of,
    of_chats,
    of_visitor,
    with_chat,
    within,
    without_chat,
)
from retentiond.targets.chat_database.store import months
from retentiond.targets.chat_database.store_portions import Portions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from retentiond.targets.chat_database.clickhouse.cluster import TableRows
    from retentiond.targets.chat_database.clickhouse.statements import Columns
    from retentiond.targets.chat_database.store import ChatId, ErasedVisitor, StorePurge

_MOST_NUMBERS: Final = 40_000
_MOST_TEXTS: Final = 10_000
"""Chats that are looked up at once; a statement has fewer than twice as many. The Keeper of a replicated table stores each
statement, and accepts a megabyte."""

_MOST_LISTED: Final = 5_000
"""The most chats of a visitor in a statement, in addition to the chats of the portion."""
_NUMBER: Final = re.compile(r"-?[0-9]{1,19}", re.ASCII)


class TablePortions(Portions[Condition]):
    """The rows of one account that a purge deletes; `all` are those before the date, deleted or kept."""

    def __init__(self, rows: TableRows, columns: Columns, purge: StorePurge, *, by_date: bool) -> None:
        self._rows = rows
        self._columns = columns
        self._most = _MOST_NUMBERS if columns.thread_type in {"Int64", "UInt64"} else _MOST_TEXTS
        self.all = dated(columns, purge.account, purge.cutoff)
        erased, theirs = purge.erased, None
        if erased is not None:
            theirs = of_visitor(self.all, columns, erased.visitor, erased.cutoff)
            self.all = self._listed(erased)
        names_chats = columns.thread is not None
        super().__init__(purge, "rows", by_date=by_date, names_chats=names_chats, of_visitor=theirs)

    def _listed(self, erased: ErasedVisitor) -> Condition:
        """Return the rows in which the visitor's chats are searched.

        If the column has one spelling for a chat, these are the rows of the visitor's chats, otherwise all of the account.
        """
        numbers = self._columns.thread_type in {"Int64", "UInt64"}
        chats = sorted(int(chat) for chat in erased.chats if _NUMBER.fullmatch(chat)) if numbers else []
        if not numbers or not len(chats) == len(erased.chats) <= _MOST_LISTED:
            return self.all
        none = 2**64 - 1 if self._columns.thread_type == "UInt64" else -1
        held = of_chats(self.all, self._columns, chats or [none])
        words = held.text.removeprefix(self.all.text)
        return replace(held, undated=f"{self.all.undated}{words}")

    def no_chat(self) -> Sequence[ChatId]:
        """Return the IDs that mean no chat."""
        return NO_CHAT[self._columns.thread_type]

    def without_chat(self, others: Sequence[ChatId]) -> Condition:
        """Return the rows that do not name a chat."""
        rows = without_chat(self._of_visitor or self.all, self._columns)
        return not_of(rows, self._columns, others) if others else rows

    def undated(self) -> Condition:
        """Return the rows without a believable date."""
        named = self.all if self._columns.thread is None else with_chat(self.all, self._columns)
        return Condition(self.all.undated, named.parameters)

    async def of_absent_chats(self, *, of_visitor: bool) -> AsyncIterator[Condition]:
        """Yield the rows of chats that the database does not have."""
        condition = (self._of_visitor if of_visitor else None) or self.all
        # Few statements with many chats each: the server may rewrite large parts for every statement.
        absent: dict[ChatId, None] = {}
        begun = self._purge.cutoff
        async for start, end, chats in self._pages(condition):
            compared = await self._purge.chats.compare(chats, of_visitor=of_visitor)
            self.staying.note_unknown(compared.unknown)
            if compared.stripped:
                window = within(self.all, self._columns, start, end)
                rows = of_chats(window, self._columns, compared.stripped)
                self.staying.with_files += await self._rows.count(rows)
            begun = start if not absent else begun
            absent |= dict.fromkeys(compared.absent)
            if len(absent) >= self._most:
                yield self._portion(condition, begun, end, absent)
                absent = {}
        if absent:
            yield self._portion(condition, begun, self._purge.cutoff, absent)

    def _portion(
        self, condition: Condition, start: datetime, end: datetime, absent: dict[ChatId, None]
    ) -> Condition:
        return of_chats(within(condition, self._columns, start, end), self._columns, list(absent))

    async def _pages(self, condition: Condition) -> AsyncIterator[tuple[datetime, datetime, list[ChatId]]]:
        """Yield the chats of each month in pages, with the month."""
        oldest = await self._oldest(condition)
        if oldest is None:
            return
        for start, end in months(oldest, self._purge.cutoff):
            month = with_chat(within(condition, self._columns, start, end), self._columns)
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

    async def _oldest(self, condition: Condition) -> datetime | None:
        rows = await self._rows.ask("oldest", condition)
        if not rows:
            return None
        return datetime.combine(datetime.fromisoformat(rows[0]["day"]).date(), time(), UTC)

    async def _chats(self, condition: Condition) -> list[ChatId]:
        found = [row["_chat"] for row in await self._rows.ask("chats", condition, most=self._most)]
        chats: list[ChatId] = [chat if isinstance(chat, int) else str(chat) for chat in found]
        if "after" in condition.parameters and condition.parameters["after"] in chats:
            raise ServerError("it lists a chat twice", None)
        return chats
