"""A database with tables of the shape of Chatwoot's, as far as the layout `chatwoot` and its surroundings go."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from retentiond.config.chats import ChatTarget
from retentiond.engine.target import PassOptions, PurgeRequest
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import TO_DATE

if TYPE_CHECKING:
    import asyncpg

    from retentiond.model.purge import PurgeReport

OLD: Final = datetime(2022, 3, 4, 5, 6, 7)  # noqa: DTZ001 - as Rails writes it, without a zone
INCOMING, OUTGOING, ACTIVITY, TEMPLATE = range(4)
OPEN, RESOLVED, PENDING, SNOOZED = range(4)
_DATES: Final = "created_at timestamp(6) NOT NULL, updated_at timestamp(6) NOT NULL"
_OLD_DATES: Final = "created_at timestamp NOT NULL, updated_at timestamp NOT NULL"
TABLES: Final = f"""
CREATE TABLE accounts (id serial PRIMARY KEY, name varchar NOT NULL, {_OLD_DATES});
CREATE TABLE inboxes (id serial PRIMARY KEY, account_id integer NOT NULL, name varchar NOT NULL, {_OLD_DATES});
CREATE TABLE contacts (id serial PRIMARY KEY, account_id integer NOT NULL, name varchar DEFAULT '', {_OLD_DATES});
CREATE TABLE conversations (
    id serial PRIMARY KEY, account_id integer NOT NULL, inbox_id integer NOT NULL, status integer NOT NULL DEFAULT 0,
    contact_id bigint, display_id integer NOT NULL, {_OLD_DATES}, last_activity_at timestamp NOT NULL);
CREATE UNIQUE INDEX ON conversations (account_id, display_id);
CREATE TABLE messages (
    id serial PRIMARY KEY, content text, account_id integer NOT NULL, inbox_id integer NOT NULL,
    conversation_id integer NOT NULL, message_type integer NOT NULL, {_OLD_DATES}, private boolean NOT NULL DEFAULT false);
CREATE INDEX ON messages (conversation_id);
CREATE TABLE attachments (
    id serial PRIMARY KEY, file_type integer DEFAULT 0, message_id integer NOT NULL, account_id integer NOT NULL,
    {_OLD_DATES});
CREATE INDEX ON attachments (message_id);
CREATE TABLE active_storage_blobs (id bigserial PRIMARY KEY, key varchar NOT NULL UNIQUE, created_at timestamp NOT NULL);
CREATE TABLE active_storage_attachments (
    id bigserial PRIMARY KEY, name varchar NOT NULL, record_type varchar NOT NULL, record_id bigint NOT NULL,
    blob_id bigint NOT NULL REFERENCES active_storage_blobs, created_at timestamp NOT NULL);
CREATE UNIQUE INDEX ON active_storage_attachments (record_type, record_id, name, blob_id);
CREATE TABLE csat_survey_responses (
    id bigserial PRIMARY KEY, account_id bigint NOT NULL, conversation_id bigint NOT NULL, message_id bigint NOT NULL,
    rating integer NOT NULL, feedback_message text, contact_id bigint NOT NULL, {_DATES});
CREATE INDEX ON csat_survey_responses (conversation_id);
CREATE TABLE mentions (
    id bigserial PRIMARY KEY, user_id bigint NOT NULL, conversation_id bigint NOT NULL, account_id bigint NOT NULL, {_DATES});
CREATE INDEX ON mentions (conversation_id);
CREATE TABLE conversation_participants (
    id bigserial PRIMARY KEY, account_id bigint NOT NULL, user_id bigint NOT NULL, conversation_id bigint NOT NULL, {_DATES});
CREATE INDEX ON conversation_participants (conversation_id);
CREATE TABLE applied_slas (
    id bigserial PRIMARY KEY, account_id bigint NOT NULL, sla_policy_id bigint NOT NULL, conversation_id bigint NOT NULL, {_DATES});
CREATE INDEX ON applied_slas (conversation_id);
CREATE TABLE sla_events (
    id bigserial PRIMARY KEY, applied_sla_id bigint NOT NULL, conversation_id bigint NOT NULL, account_id bigint NOT NULL, {_DATES});
CREATE INDEX ON sla_events (conversation_id);
CREATE TABLE reporting_events (
    id bigserial PRIMARY KEY, name varchar, value float, account_id integer, conversation_id integer, {_DATES});
CREATE INDEX ON reporting_events (conversation_id);
CREATE TABLE notifications (
    id bigserial PRIMARY KEY, account_id bigint NOT NULL, user_id bigint NOT NULL, primary_actor_type varchar NOT NULL,
    primary_actor_id bigint NOT NULL, {_DATES});
CREATE INDEX ON notifications (primary_actor_type, primary_actor_id);
CREATE TABLE taggings (
    id serial PRIMARY KEY, tag_id integer, taggable_type varchar, taggable_id integer, context varchar(128),
    created_at timestamp);
CREATE INDEX ON taggings (taggable_id);
"""
BESIDE: Final = ("accounts", "inboxes", "contacts", "active_storage_blobs")
"""Tables that no layout names."""


class Chatwoot:
    """Conversations of two accounts; what a test does not say is as it would be in one that is due."""

    def __init__(self, dsn: str, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._dsn = dsn
        self.connection = connection

    async def make(self) -> None:
        """Make the tables in a schema of this test's own, with the rows that are never touched."""
        await self.connection.execute("CREATE SCHEMA chatwoot; SET search_path = chatwoot")
        await self.connection.execute(TABLES)
        for name in ("acme", "other"):
            await self.insert("accounts", name=name, created_at=OLD, updated_at=OLD)
        await self.insert("inboxes", account_id=1, name="web", created_at=OLD, updated_at=OLD)
        await self.insert("contacts", account_id=1, name="Vera", created_at=OLD, updated_at=OLD)

    async def insert(self, table: str, **values: Any) -> int:
        """Insert a row, and return its id."""
        places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        statement = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places}) RETURNING id"
        return int(await self.connection.fetchval(statement, *values.values()))

    async def conversation(
        self,
        *,
        account: int = 1,
        status: int = RESOLVED,
        types: tuple[int, ...] = (INCOMING, OUTGOING),
        **changes: Any,
    ) -> int:
        """Add a conversation with messages of these types and a row in every table beside, and return its id."""
        dates = {"created_at": OLD, "updated_at": OLD}
        number = 1 + await self.connection.fetchval("SELECT count(*) FROM conversations")
        chat = await self.insert(
            "conversations",
            **{"last_activity_at": OLD, **dates, **changes},
            account_id=account,
            inbox_id=1,
            status=status,
            contact_id=1,
            display_id=number,
        )
        messages = [await self.message(chat, kind) for kind in types]
        of = {"account_id": account, "conversation_id": chat, **dates}
        if messages:
            await self.insert("csat_survey_responses", **of, message_id=messages[-1], rating=5, contact_id=1)
        await self.insert("mentions", **of, user_id=1)
        await self.insert("conversation_participants", **of, user_id=1)
        await self.insert(
            "sla_events", **of, applied_sla_id=await self.insert("applied_slas", **of, sla_policy_id=1)
        )
        await self.insert("reporting_events", **of, name="conversation_resolved")
        # Of rows with the same number in other tables, too.
        for kind in ("Conversation", "Message"):
            await self.insert(
                "notifications",
                account_id=account,
                user_id=1,
                primary_actor_type=kind,
                primary_actor_id=chat,
                **dates,
            )
        for labelled in ("Conversation", "Contact", None):
            await self.insert("taggings", tag_id=1, taggable_type=labelled, taggable_id=chat, created_at=OLD)
        return chat

    async def message(
        self, chat: int, kind: int = INCOMING, *, created: datetime = OLD, updated: datetime = OLD
    ) -> int:
        """Add a message, and return its id."""
        return await self.insert(
            "messages",
            content="hello",
            account_id=1,
            inbox_id=1,
            conversation_id=chat,
            message_type=kind,
            created_at=created,
            updated_at=updated,
        )

    async def file(self, message: int, file_type: int | None) -> int:
        """Attach a file to a message, and something else to a contact with the attachment's number."""
        attachment = await self.insert(
            "attachments",
            file_type=file_type,
            message_id=message,
            account_id=1,
            created_at=OLD,
            updated_at=OLD,
        )
        for kind in ("Attachment", "Contact"):
            blob = await self.insert("active_storage_blobs", key=f"{kind} {attachment}", created_at=OLD)
            await self.insert(
                "active_storage_attachments",
                name="file",
                record_type=kind,
                record_id=attachment,
                blob_id=blob,
                created_at=OLD,
            )
        return attachment

    async def ids(self, table: str) -> set[int]:
        """Return the rows that are there."""
        return {row["id"] for row in await self.connection.fetch(f"SELECT id FROM {table}")}

    async def counts(self) -> dict[str, int]:
        """Count the rows of every table."""
        tables = await self.connection.fetch(
            "SELECT relname AS name FROM pg_class WHERE relnamespace = 'chatwoot'::regnamespace AND relkind = 'r'"
        )
        return {
            row["name"]: await self.connection.fetchval(f"SELECT count(*) FROM {row['name']}")
            for row in tables
        }

    def config(self, **changes: Any) -> ChatTarget:
        """Return the configuration of a target on it."""
        given = {
            "kind": "chat_database",
            "database": self._dsn,
            "layout": "chatwoot",
            "accounts": {"acme": {"schema": "chatwoot", "value": "1"}},
        }
        return ChatTarget.model_validate(given | changes)

    async def purge(
        self, *, dry_run: bool = False, files: bool = False, orphans: bool = False, **changes: Any
    ) -> PurgeReport:
        """Purge the account by hand."""
        wish = PurgeRequest("acme", TO_DATE, file_messages=files, orphans=orphans)
        async with open_chat_database("chats", self.config(**changes)) as target:
            return await target.purge_chats(wish, PassOptions("purge-chats"), dry_run=dry_run)
