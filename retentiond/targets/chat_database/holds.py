"""The holds of a chat target: on an account, one chat or visitor of it, or a range of days; added, listed and released."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.postgres import translate_errors
from retentiond.engine.target import PurgeRequest
from retentiond.ledger.holds import RecordedHolds, add_hold
from retentiond.model.errors import UsageError
from retentiond.model.holds import Coverage
from retentiond.model.text import printable
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.account import look_at
from retentiond.targets.chat_database.catalogue import kind_of_column
from retentiond.targets.chat_database.context import SCHEMA
from retentiond.targets.chat_database.kinds import held_as
from retentiond.targets.chat_database.purge_table import note_name
from retentiond.targets.chat_database.store_notes import running_stores

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.model.holds import Hold, HoldRequest, HoldSubject
    from retentiond.targets.chat_database.context import ChatContext


class ChatHolds(RecordedHolds):
    """The holds of one chat database, by the engine's Protocol."""

    def __init__(self, context: ChatContext) -> None:
        super().__init__(context.name, context.pool, context.ledger)
        self._context = context

    async def add(self, request: HoldRequest) -> tuple[Hold, Coverage]:
        """Add a hold, and report the chats that it covers. Once this returns, no purge deletes them."""
        self._check(request.subject)
        context = self._context
        with translate_errors("the database"):
            async with context.pool.acquire() as connection:
                await self._check_spelling(connection, request.subject)
                await context.ledger.make(connection, SCHEMA)
                async with connection.transaction():
                    await note_name(connection, context, request.subject.name)
                    hold_id = await add_hold(connection, request)
                hold = await self._added(connection, hold_id)
                return hold, await self._coverage(connection, hold)

    def _check(self, subject: HoldSubject) -> None:
        context = self._context
        if subject.kind != "account":
            raise UsageError(
                f"{context.name} has chats, and cannot hold the kind {subject.kind}; name the TARGET of the media"
            )
        context.account(subject.name)
        if subject.narrowed.visitor is not None and context.layout.root.visitor is None:
            raise UsageError(
                f"the layout of {context.name} does not name the column of visitors; add `visitor` to it, or hold "
                "the chats"
            )

    async def _check_spelling(self, connection: Conn, subject: HoldSubject) -> None:
        """Raise UsageError for an ID in another spelling than the tables have: holds are compared as text, so it would hold nothing."""
        layout, narrowed = self._context.layout, subject.narrowed
        typed = {layout.root.key: narrowed.chat, layout.root.visitor: narrowed.visitor}
        schema, table = self._context.schema_of(subject.name), layout.table(layout.chat)
        for column, value in typed.items():
            kind = value and await kind_of_column(connection, schema, table, column)
            held = value and kind and await held_as(connection, value, kind)
            if held and held != value:
                raise UsageError(
                    f"{printable(table)}.{printable(column or '')} of type {kind} has `{printable(value or '')}` as "
                    f"`{printable(held)}`; write it in this way"
                )

    async def _coverage(self, connection: Conn, hold: Hold) -> Coverage:
        request = PurgeRequest(hold.subject.name, hold.added_at.date())
        purge = await look_at(self._context, connection, request, 0, dry_run=True, now=hold.added_at)
        statement = purge.chats.tree.statement("count_covered")
        values = purge.chats.values | {"hold_id": hold.hold_id}
        items = int(await statements.fetchval(connection, statement, values))
        under_way = await running_stores(connection, self._context.name, hold.subject.name)
        return Coverage(items, 0, under_way=under_way)
