"""The chats that a purge leaves in every store: set aside after the database's part, and told to the stores by id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from retentiond.ledger.holds import lock_holds
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.catalogue import WHOLE_NUMBERS
from retentiond.targets.chat_database.statements import HOLDS_SQL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.store import ChatId

_NUMBER: Final = re.compile(r"-?[0-9]{1,19}")
_NUMBERS_END: Final = 2**63


class StayingChats:
    """The chats that began before the date and are there all the same, set aside in a table of the session's own.

    With them are those that somebody holds though they are there no more: another store may have something of them.
    """

    def __init__(self, connection: Conn, purge: AccountPurge) -> None:
        self._connection = connection
        self._purge = purge
        self._held: list[ChatId] = []
        self._kept = 0
        self.newest_hold = 0
        """The newest hold that is reckoned with; what is put on later stops what is under way."""

    @property
    def count(self) -> int:
        """How many they are."""
        return self._kept + len(self._held)

    async def set_aside(self) -> None:
        """Read those that are there: after a purge what is left, in a dry run what the survey keeps."""
        name = "keep_planned" if self._purge.report.dry_run else "keep_left"
        for statement in ("make_kept", name):
            await statements.execute(self._connection, self._statement(statement), self._purge.chats.values)
        self._kept = await self._connection.fetchval(self._statement("count_kept"))

    async def reckon_with_holds(self) -> None:
        """Read those that are held, as of now: while one store is at work, a hold may come for the next."""
        if not self._purge.report.dry_run:
            # One that is being put on is waited for: its number may be lower than that of another, which is there.
            async with self._connection.transaction():
                await lock_holds(self._connection)
                self.newest_hold = await self._connection.fetchval(HOLDS_SQL["newest"])
        if await self._purge.place.ledger.exists(self._connection):
            self._held = await self._read_held()

    async def _read_held(self) -> list[ChatId]:
        rows = await statements.fetch(
            self._connection, self._statement("held_elsewhere"), self._purge.chats.values
        )
        tree = self._purge.chats.tree
        if tree.key_type(tree.top) not in WHOLE_NUMBERS:
            return [str(row["key"]) for row in rows]
        # What is no number, or none that the key can hold, is the id of no chat here.
        numbers = (int(row["key"]) for row in rows if _NUMBER.fullmatch(row["key"]))
        return [number for number in numbers if -_NUMBERS_END <= number < _NUMBERS_END]

    async def batches(self, size: int = 1000) -> AsyncIterator[Sequence[ChatId]]:
        """Stream their ids."""
        after = None
        values: dict[str, Any] = {"size": size}
        while rows := await statements.fetch(
            self._connection, self._statement("page_kept"), values | {"after": after}
        ):
            after = rows[-1]["key"]
            yield [row["key"] if isinstance(row["key"], int) else row["told"] for row in rows]
        for start in range(0, len(self._held), size):
            yield self._held[start : start + size]

    def _statement(self, name: str) -> str:
        return self._purge.chats.tree.statement(name)
