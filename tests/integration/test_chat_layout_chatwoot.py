"""The layout `chatwoot` on tables of that shape: which conversations go, with which rows, and what stays."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.targets.chat_database import catalogue
from retentiond.targets.chat_database.layout import read_layout
from tests.support.chatwoot import BESIDE, OLD, OPEN, PENDING, SNOOZED, Chatwoot

if TYPE_CHECKING:
    import asyncpg

BOUNDARY = datetime(2023, 8, 21)  # noqa: DTZ001 - as Rails writes it, in UTC without a zone
FILE_TYPES = (*range(10), 99, None)


@pytest.fixture
async def chatwoot(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> Chatwoot:
    made = Chatwoot(database, connection)
    await made.make()
    return made


async def test_a_resolved_conversation_goes_with_its_rows_in_every_table(chatwoot: Chatwoot) -> None:
    chat = await chatwoot.conversation(types=(0, 1, 2, 3))
    await chatwoot.file(await chatwoot.message(chat), 0)
    await chatwoot.insert("reporting_events", name="of no conversation", created_at=OLD, updated_at=OLD)
    beside = {table: await chatwoot.ids(table) for table in BESIDE}
    planned = await chatwoot.purge(dry_run=True, files=True)
    report = await chatwoot.purge(files=True)
    assert report.state == "finished"
    gone = {"conversations": 1, "messages": 5, "attachments": 1}
    once = set(read_layout("chatwoot").entities) - set(gone)
    assert dict(report.entities) == dict(planned.entities) == gone | dict.fromkeys(once, 1)
    # What only has the same number is another's.
    left = {"taggings": 2, "notifications": 1, "active_storage_attachments": 1, "reporting_events": 1}
    counts = await chatwoot.counts()
    assert {table: counts[table] for table in (*gone, *once)} == dict.fromkeys((*gone, *once), 0) | left
    assert {table: await chatwoot.ids(table) for table in BESIDE} == beside


async def test_messages_of_a_lost_conversation_go_by_their_own_account_and_keep_their_files(
    chatwoot: Chatwoot,
) -> None:
    await chatwoot.conversation(status=OPEN)
    before = await chatwoot.counts()
    lost, theirs = await chatwoot.conversation(), await chatwoot.conversation(account=2)
    file = await chatwoot.message(lost)
    attachment = await chatwoot.file(file, 0)
    await chatwoot.connection.execute("UPDATE messages SET account_id = 2 WHERE conversation_id = $1", theirs)
    await chatwoot.connection.execute("DELETE FROM conversations WHERE id = ANY($1)", [lost, theirs])
    await chatwoot.insert("reporting_events", name="of no conversation", created_at=OLD, updated_at=OLD)
    beside = {table: await chatwoot.ids(table) for table in BESIDE}
    report = await chatwoot.purge(orphans=True)
    assert report.orphans.removed == {
        **dict.fromkeys(("csat_survey_responses", "mentions", "conversation_participants"), 1),
        **dict.fromkeys(("applied_slas", "sla_events", "reporting_events", "notifications", "taggings"), 1),
        "messages": 2,
    }
    assert report.orphans.found is not None
    assert report.orphans.found.kept["has_file_messages"] == 3
    # Those of another account's conversation are not counted.
    assert report.orphans.left is not None
    assert set(report.orphans.left.rows) == {"messages", "attachments", "active_storage_attachments"}
    assert (file in await chatwoot.ids("messages"), await chatwoot.ids("attachments")) == (True, {attachment})
    report = await chatwoot.purge(orphans=True, files=True)
    assert report.orphans.removed == dict.fromkeys(report.orphans.removed, 1)
    assert not await chatwoot.ids("attachments")
    counts = await chatwoot.counts()
    assert counts["messages"] - before["messages"] == 2
    assert counts["reporting_events"] - before["reporting_events"] == 2
    assert {table: await chatwoot.ids(table) for table in BESIDE} == beside


@pytest.mark.parametrize("status", [OPEN, PENDING, SNOOZED, 4])
async def test_a_conversation_that_is_not_resolved_stays_whole(chatwoot: Chatwoot, status: int) -> None:
    await chatwoot.conversation(status=status)
    before = await chatwoot.counts()
    report = await chatwoot.purge(files=True)
    assert (report.chats, report.kept["open"]) == (0, 1)
    assert await chatwoot.counts() == before


async def test_another_accounts_conversation_in_the_same_tables_stays(chatwoot: Chatwoot) -> None:
    theirs = await chatwoot.conversation(account=2)
    await chatwoot.conversation()
    assert (await chatwoot.purge()).chats == 1
    assert await chatwoot.ids("conversations") == {theirs}
    assert len(await chatwoot.ids("messages")) == 2


@pytest.mark.parametrize("file_type", FILE_TYPES)
async def test_a_message_with_an_attachment_of_any_type_stays_unless_files_are_asked_for(
    chatwoot: Chatwoot, file_type: int | None
) -> None:
    chat = await chatwoot.conversation()
    message = await chatwoot.message(chat)
    attachment = await chatwoot.file(message, file_type)
    planned = await chatwoot.purge(dry_run=True)
    report = await chatwoot.purge()
    assert (report.chats, report.kept["has_file_messages"]) == (0, 1)
    assert dict(report.entities) == dict(planned.entities)
    assert await chatwoot.ids("conversations") == {chat}
    assert await chatwoot.ids("messages") == {message}
    assert await chatwoot.ids("attachments") == {attachment}
    assert len(await chatwoot.ids("active_storage_attachments")) == 2
    assert not await chatwoot.ids("mentions")
    assert (await chatwoot.purge(files=True)).chats == 1
    assert not await chatwoot.ids("messages") | await chatwoot.ids("attachments")


@pytest.mark.parametrize("column", ["created_at", "updated_at", "last_activity_at"])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles"])
async def test_the_day_begins_in_utc_whatever_the_zone_of_the_database(
    chatwoot: Chatwoot, column: str, zone: str
) -> None:
    await chatwoot.connection.execute(
        f"DO $$BEGIN EXECUTE format('ALTER DATABASE %I SET timezone = %L', current_database(), '{zone}'); END$$"
    )

    def change(moment: datetime) -> dict[str, Any]:
        return {column: moment}

    kept = await chatwoot.conversation(**change(BOUNDARY))
    await chatwoot.conversation(**change(BOUNDARY - timedelta(microseconds=1)))
    report = await chatwoot.purge()
    assert report.chats == 1
    assert await chatwoot.ids("conversations") == {kept}


@pytest.mark.parametrize("of_message", [{"created": BOUNDARY}, {"updated": BOUNDARY}])
async def test_a_conversation_with_a_message_that_is_new_or_was_changed_lately_stays(
    chatwoot: Chatwoot, of_message: dict[str, Any]
) -> None:
    chat = await chatwoot.conversation()
    await chatwoot.message(chat, **of_message)
    assert (await chatwoot.purge()).kept["newer"] == 1
    assert len(await chatwoot.ids("messages")) == 3


async def test_foreign_keys_within_the_layout_change_nothing_of_what_goes(chatwoot: Chatwoot) -> None:
    await chatwoot.connection.execute(
        "ALTER TABLE messages ADD FOREIGN KEY (conversation_id) REFERENCES conversations;"
        "ALTER TABLE attachments ADD FOREIGN KEY (message_id) REFERENCES messages;"
        "ALTER TABLE conversations ADD FOREIGN KEY (inbox_id) REFERENCES inboxes"
    )
    chat = await chatwoot.conversation()
    await chatwoot.file(await chatwoot.message(chat), 3)
    assert (await chatwoot.purge()).kept["has_file_messages"] == 1
    assert (await chatwoot.purge(files=True)).chats == 1
    assert not await chatwoot.ids("conversations") | await chatwoot.ids("messages")


async def test_a_table_of_a_plug_in_that_refers_to_conversations_is_named(chatwoot: Chatwoot) -> None:
    await chatwoot.connection.execute("CREATE TABLE plug_in (id int, chat int REFERENCES conversations)")
    await chatwoot.conversation()
    report = await chatwoot.purge()
    assert report.refused is not None
    assert "chatwoot.plug_in (chat) refers to conversations by the foreign key" in str(report.refused.value)
    assert len(await chatwoot.ids("conversations")) == 1


async def test_the_products_own_indexes_are_enough_for_large_tables(
    chatwoot: Chatwoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "LARGE", 0)
    chat = await chatwoot.conversation()
    await chatwoot.file(await chatwoot.message(chat), 0)
    assert (await chatwoot.purge(dry_run=True, files=True)).refused is None
    await chatwoot.connection.execute("DROP INDEX taggings_taggable_id_idx")
    report = await chatwoot.purge(dry_run=True, files=True)
    assert report.refused is not None
    assert str(report.refused.value).endswith('"taggings" (taggable_id)')


async def test_a_label_that_comes_in_while_its_conversation_goes_is_not_left_behind(
    chatwoot: Chatwoot,
) -> None:
    # No foreign key holds its writer up, and others in the same table are not asked about.
    chat = await chatwoot.conversation()
    await chatwoot.connection.execute(
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN IF old.id = "
        f"{chat} AND NOT EXISTS (SELECT FROM chatwoot.taggings WHERE tag_id = 7) THEN "
        f"INSERT INTO chatwoot.taggings (tag_id, taggable_type, taggable_id) VALUES (7, 'Conversation', {chat}); "
        "END IF; RETURN old; END$$;"
        "CREATE TRIGGER late BEFORE DELETE ON conversations FOR EACH ROW EXECUTE FUNCTION late()"
    )
    report = await chatwoot.purge()
    assert report.state == "finished_with_failures"
    assert await chatwoot.ids("conversations") == {chat}


async def test_a_plan_counts_what_hangs_on_messages_of_no_conversation_as_the_purge_deletes_it(
    chatwoot: Chatwoot,
) -> None:
    stray = await chatwoot.message(await chatwoot.conversation(status=OPEN))
    await chatwoot.file(stray, 0)
    await chatwoot.connection.execute("UPDATE messages SET conversation_id = 0 WHERE id = $1", stray)
    planned = await chatwoot.purge(orphans=True, files=True, dry_run=True)
    report = await chatwoot.purge(orphans=True, files=True)
    assert planned.orphans.found is not None
    assert planned.orphans.found.due == report.orphans.removed
    assert report.orphans.removed == {"messages": 1, "attachments": 1, "active_storage_attachments": 1}
    assert report.orphans.left is not None
    assert not report.orphans.left.rows
