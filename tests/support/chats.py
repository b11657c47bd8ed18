"""A chat database that a test writes row by row, and a target on it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from retentiond.config.chats import ChatTarget
from retentiond.demo.chat_show import ACCOUNT, SCHEMA, make_chat_tables
from retentiond.engine.target import PassOptions, PurgeRequest
from retentiond.targets.chat_database.target import open_chat_database

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from retentiond.model.purge import PurgeReport
    from retentiond.model.replication import Replication
    from retentiond.model.report import PassReport

TO_DATE = date(2023, 8, 21)
CUTOFF = datetime(2023, 8, 21, tzinfo=UTC)
OLD = datetime(2022, 3, 4, 5, 6, 7, tzinfo=UTC)
OUTSIDE = ("category", "department", "operator", "survey", "visitor")
"""The product's tables that no layout names."""


class ChatStore:
    """The chats of one account; what a test does not say is as it would be in a chat that is due."""

    def __init__(
        self, dsn: str, connection: asyncpg.Connection[asyncpg.Record], schema: str = SCHEMA
    ) -> None:
        self.dsn = dsn
        self.connection = connection
        self.schema = schema
        self._next = 0

    async def make(self) -> None:
        """Make the tables, with the rows that others refer to."""
        await make_chat_tables(self.connection, self.schema)
        for table, row in (
            ("department", "(1, 'sales')"),
            ("operator", "(1, 'Olga')"),
            ("category", "(1, 'complaints')"),
            ("survey", "(1, '{}')"),
            ("visitor", "(1, 'Vera')"),
        ):
            await self.connection.execute(f'INSERT INTO "{self.schema}".{table} VALUES {row}')

    async def swallow_deletes(self, table: str) -> None:
        """Let a trigger keep the table's rows from going, without a word."""
        await self.connection.execute(
            "CREATE FUNCTION hold_back() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            f'CREATE TRIGGER hold_back BEFORE DELETE ON "{self.schema}".{table} FOR EACH ROW EXECUTE FUNCTION hold_back()'
        )

    async def refuse_deletes(self, table: str, chat: int, words: str) -> None:
        """Let a trigger raise, with these words, where a row of the chat is to go from the table."""
        await self.connection.execute(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE '{words}'; END$$;"
            f'CREATE TRIGGER refuse BEFORE DELETE ON "{self.schema}".{table} FOR EACH ROW '
            f"WHEN (old.threadid = {chat}) EXECUTE FUNCTION refuse()"
        )

    async def refuse_deletes_of_all(self, table: str) -> None:
        """Let a trigger raise, whichever row is to go from the table."""
        await self.connection.execute(
            "CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'none'; END$$;"
            f'CREATE TRIGGER refuse_all BEFORE DELETE ON "{self.schema}".{table} FOR EACH ROW EXECUTE FUNCTION refuse_all()'
        )

    async def insert(self, table: str, **values: Any) -> None:
        """Insert one row."""
        places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        names = ", ".join(f'"{name}"' for name in values)
        await self.connection.execute(
            f'INSERT INTO "{self.schema}"."{table}" ({names}) VALUES ({places})', *values.values()
        )

    async def session(self) -> int:
        """Add a session, and return its id."""
        self._next += 1
        await self.insert(
            "chatvisitsession", visitsessionid=self._next, visitorid=1, created=OLD, updated=OLD
        )
        return self._next

    async def chat(
        self,
        *,
        created: datetime | None = OLD,
        modified: datetime | None = OLD,
        state: str | None = "closed",
        session: int | None = None,
        messages: tuple[datetime | None, ...] = (OLD, OLD),
        files: int = 0,
    ) -> int:
        """Add a chat with all that can hang on one, and return its id."""
        self._next += 1
        chat = self._next
        await self.insert(
            "chatthread",
            threadid=chat,
            created=created,
            modified=modified,
            state=state,
            visitorid=1,
            visitsessionid=session,
        )
        for date_of in messages:
            await self.message(chat, date_of)
        for number in range(files):
            await self.message(chat, OLD, kind=13 + number % 2)
        await self.insert(
            "chatthreadhistory", chatthreadhistoryid=chat, threadid=chat, number=1, dtm=OLD, state=state
        )
        await self.insert("chatrate", rateid=chat, threadid=chat, rate=5)
        await self.insert("surveylaunch", surveylaunchid=chat, threadid=chat, surveyid=1, created=OLD)
        await self.insert("surveyanswer", surveyanswerid=chat, surveylaunchid=chat, questionid=1)
        await self.insert("thread_category", threadid=chat, categoryid=1)
        return chat

    async def message(self, chat: int | None, created: datetime | None, kind: int | None = 1) -> int:
        """Add a message, and return its id."""
        self._next += 1
        await self.insert(
            "chatmessage", messageid=self._next, threadid=chat, kind=kind, created=created, message="hello"
        )
        return self._next

    async def statistic(self, created: datetime, *logged: datetime) -> int:
        """Add a row of statistics and its log, and return its id."""
        self._next += 1
        row = self._next
        await self.insert("chatstats", chatstatsid=row, created=created, threads=1)
        for moment in logged:
            self._next += 1
            await self.insert("chatstatslog", chatstatslogid=self._next, chatstatsid=row, created=moment)
        return row

    async def ids(self, table: str, column: str) -> set[int]:
        """Return what a column holds."""
        rows = await self.connection.fetch(f'SELECT DISTINCT "{column}" AS id FROM "{self.schema}"."{table}"')
        return {row["id"] for row in rows}

    async def chats(self) -> set[int]:
        """Return the chats that are there."""
        return await self.ids("chatthread", "threadid")

    async def sessions(self) -> set[int]:
        """Return the sessions that are there."""
        return await self.ids("chatvisitsession", "visitsessionid")

    async def counts(self) -> dict[str, int]:
        """Count the rows of every table."""
        tables = await self.connection.fetch(
            "SELECT c.relname AS name FROM pg_class c WHERE c.relnamespace = to_regnamespace($1) "
            "AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1",
            f'"{self.schema}"',
        )
        return {
            row["name"]: await self.connection.fetchval(
                f'SELECT count(*) FROM "{self.schema}"."{row["name"]}"'
            )
            for row in tables
        }

    async def torn(self) -> set[int]:
        """Return the chats of which some rows are gone and some are there, with files deleted, too."""
        whole = await self.chats()
        hanging = [
            await self.ids(table, "threadid")
            for table in ("chatmessage", "chatthreadhistory", "chatrate", "surveylaunch", "thread_category")
        ]
        return {chat for ids in hanging for chat in ids ^ whole}

    def config(self, **changes: Any) -> ChatTarget:
        """Return the configuration of a target on it."""
        given: dict[str, Any] = {
            "kind": "chat_database",
            "database": self.dsn,
            "accounts": {ACCOUNT: {"schema": self.schema}},
            "limits": {"max_share": 1.0},
        }
        return ChatTarget.model_validate(given | changes)

    async def purge(
        self,
        to_date: date = TO_DATE,
        *,
        dry_run: bool = False,
        order: PassOptions | None = None,
        look_at_replicas: Callable[[], Awaitable[Replication]] | None = None,
        account: str = ACCOUNT,
        wish: dict[str, Any] | None = None,
        **changes: Any,
    ) -> PurgeReport:
        """Purge by hand."""
        wanted = PurgeRequest(account, to_date, **(wish or {}))
        async with open_chat_database("chats", self.config(**changes), look_at_replicas) as target:
            return await target.purge_chats(wanted, order or PassOptions("purge-chats"), dry_run=dry_run)

    async def run_pass(self, order: PassOptions | None = None, **changes: Any) -> PassReport:
        """Do a scheduled pass."""
        async with open_chat_database("chats", self.config(**changes)) as target:
            return await target.run_pass(order or PassOptions("once"))
