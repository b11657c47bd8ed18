"""What a chat purge does when others write meanwhile, when it is stopped, and when the database is not as it thinks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import structlog

from retentiond.demo.chat_show import MadeUpChats, make_up_chats
from retentiond.engine.target import NullProgress, PassOptions, PurgeRequest, Stop
from retentiond.ledger.session import DUTY, lock_holder
from retentiond.model.errors import BusyError, RefusedError
from retentiond.model.replication import Replica, Replication
from retentiond.targets.chat_database import batch, catalogue, removal
from retentiond.targets.chat_database.account import look_at
from retentiond.targets.chat_database.statements import bind
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import CUTOFF, OLD, TO_DATE, ChatStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.model.report import PassReport
    from retentiond.targets.chat_database.batch import Page, Removed

LATER = CUTOFF + timedelta(days=100)
# In this database: other tests may use the server.
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
TREE = ("chatmessage", "chatthreadhistory", "chatrate", "surveylaunch", "thread_category")


@pytest.fixture
async def other(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The product's own connection."""
    opened = await asyncpg.connect(database)
    yield opened
    opened.terminate()


async def drop_foreign_keys(chats: ChatStore) -> None:
    for row in await chats.connection.fetch(
        "SELECT conrelid::regclass::text AS relation, conname FROM pg_constraint "
        "WHERE contype = 'f' AND connamespace = to_regnamespace('pro')"
    ):
        await chats.connection.execute(f"ALTER TABLE {row['relation']} DROP CONSTRAINT {row['conname']}")


def at_the_look(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    """Do something once, after the survey and before the first batch looks again."""
    look = batch.Batch.remove
    done = False

    async def remove(self: batch.Batch, page: Page) -> Removed:
        nonlocal done
        if not done:
            done = True
            await act()
        return await look(self, page)

    monkeypatch.setattr(batch.Batch, "remove", remove)


async def test_a_chat_with_an_old_message_and_a_new_one_keeps_both(chats: ChatStore) -> None:
    # As Rocket.Chat deleted threads whose oldest message was old.
    chat = await chats.chat(messages=(OLD, LATER))
    assert (await chats.purge()).kept["newer"] == 1
    assert await chats.torn() == set()
    assert (await chats.chats(), len(await chats.ids("chatmessage", "messageid"))) == ({chat}, 2)


async def test_a_chat_that_is_written_in_after_the_survey_stays_whole(
    chats: ChatStore, other: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await chats.chat()
    await chats.chat()

    async def write() -> None:
        await other.execute("INSERT INTO pro.chatmessage VALUES (900, $1, 1, 'again', $2)", chat, LATER)

    at_the_look(monkeypatch, write)
    report = await chats.purge()
    assert (report.state, report.chats, report.kept["changed"]) == ("finished", 1, 1)
    assert await chats.chats() == {chat}
    assert await chats.torn() == set()
    assert await chats.connection.fetchval("SELECT count(*) FROM pro.chatmessage") == 3


async def test_a_chat_that_somebody_works_on_is_left_for_the_next_purge(
    chats: ChatStore, other: asyncpg.Connection[asyncpg.Record]
) -> None:
    chat = await chats.chat()
    async with other.transaction():
        # An insert of a message holds its chat's row, by the foreign key.
        await other.execute("INSERT INTO pro.chatmessage VALUES (900, $1, 1, 'again', $2)", chat, LATER)
        report = await chats.purge()
        assert report.kept["changed"] == 1
    assert await chats.chats() == {chat}
    assert await chats.torn() == set()


async def test_a_message_that_comes_into_an_heir_unseen_keeps_its_chat_whole(
    chats: ChatStore, other: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await chats.chat()
    await chats.chat()
    # A foreign key is not handed down.
    await chats.connection.execute("CREATE TABLE pro.chatmessage_new () INHERITS (pro.chatmessage)")
    take = batch.Batch._delete_rows

    async def write(self: batch.Batch, due: Any, **how: Any) -> None:
        await take(self, due, **how)
        if chat in due:
            monkeypatch.undo()
            await other.execute(
                "INSERT INTO pro.chatmessage_new VALUES (900, $1, 1, 'again', $2)", chat, LATER
            )

    monkeypatch.setattr(batch.Batch, "_delete_rows", write)
    assert (await chats.purge()).chats == 1
    assert await chats.chats() == {chat}
    assert await chats.torn() == set()


async def test_an_heirs_own_foreign_key_is_that_of_its_table(chats: ChatStore) -> None:
    chat = await chats.chat(messages=())
    await chats.connection.execute(
        "CREATE TABLE pro.chatmessage_old (PRIMARY KEY (messageid), FOREIGN KEY (threadid) REFERENCES pro.chatthread) "
        "INHERITS (pro.chatmessage)"
    )
    await chats.connection.execute(
        "INSERT INTO pro.chatmessage_old VALUES (900, $1, 1, 'hello', $2)", chat, OLD
    )
    report = await chats.purge()
    assert (report.chats, report.entities["chatmessage"]) == (1, 1)


@pytest.mark.parametrize("table", TREE)
async def test_without_foreign_keys_a_row_that_comes_in_unseen_keeps_its_chat_whole(
    chats: ChatStore,
    other: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    table: str,
) -> None:
    chat = await chats.chat()
    gone = await chats.chat()
    await drop_foreign_keys(chats)
    rows = {
        "chatmessage": f"VALUES (900, {chat}, 1, 'again', '{LATER}')",
        "chatthreadhistory": f"VALUES (900, {chat}, 2, '{LATER}')",
        "chatrate": f"VALUES (900, {chat}, 1, 2)",
        "surveylaunch": f"VALUES (900, {chat}, 1, '{LATER}')",
        "thread_category": f"VALUES ({chat}, 7)",
    }
    writing = other.transaction()
    tasks: list[asyncio.Task[None]] = []

    async def write() -> None:
        await writing.start()
        await other.execute(f"INSERT INTO pro.{table} {rows[table]}")
        # Nobody sees it before this commit, which comes while the batch waits for the table.
        tasks.append(asyncio.create_task(commit()))

    async def commit() -> None:
        while not await chats.connection.fetchval(WAITING):
            await asyncio.sleep(0.01)
        await writing.commit()

    at_the_look(monkeypatch, write)
    report = await chats.purge()
    await tasks[0]
    assert gone not in await chats.chats()
    hanging = await chats.ids(table, "threadid")
    if table == "chatmessage":
        # It is newer: the chat stays, with all that it had.
        assert await chats.chats() == {chat}
        assert report.kept["changed"] == 1
        assert await chats.torn() == set()
    else:
        # It is of no date, so the chat went, and that row with it.
        assert hanging == set()


async def test_without_foreign_keys_a_message_that_comes_between_look_and_delete_is_not_taken(
    chats: ChatStore, other: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await chats.chat()
    await drop_foreign_keys(chats)
    take = batch.Batch._delete_rows
    done: list[int] = []

    async def write_first(self: batch.Batch, keys: Any, **how: Any) -> None:
        if keys and not done:
            done.append(chat)
            await other.execute("INSERT INTO pro.chatmessage VALUES (900, $1, 1, 'again', $2)", chat, LATER)
        await take(self, keys, **how)

    monkeypatch.setattr(batch.Batch, "_delete_rows", write_first)
    report = await chats.purge()
    assert (report.chats, report.kept["changed"]) == (0, 1)
    assert await chats.torn() == set()
    assert len(await chats.ids("chatmessage", "messageid")) == 3


@pytest.mark.parametrize("triggered", [False, True])
@pytest.mark.parametrize("guarded", [False, True])
async def test_a_session_that_a_new_chat_names_meanwhile_stays(
    chats: ChatStore,
    other: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    *,
    guarded: bool,
    triggered: bool,
) -> None:
    session = await chats.session()
    await chats.chat(session=session)
    if not guarded:
        await drop_foreign_keys(chats)
    if triggered:
        await chats.refuse_deletes("chatrate", chat=0, words="no such chat")
    writing = other.transaction()
    tasks: list[asyncio.Task[None]] = []

    async def write() -> None:
        await writing.start()
        await other.execute(
            "INSERT INTO pro.chatthread (threadid, created, modified, state, visitsessionid) "
            "VALUES (900, $1, $1, 'chatting', $2)",
            LATER,
            session,
        )
        tasks.append(asyncio.create_task(commit()))

    async def commit() -> None:
        while not await chats.connection.fetchval(WAITING):
            await asyncio.sleep(0.01)
        await writing.commit()

    at_the_look(monkeypatch, write)
    await chats.purge()
    await tasks[0]
    assert (await chats.chats(), await chats.sessions()) == ({900}, {session})


async def test_counts_that_do_not_agree_roll_the_batch_back_and_end_the_purge(chats: ChatStore) -> None:
    # As Live Helper Chat's archive lost what was past its first thousand messages: what is not seen to go must stay.
    await chats.chat()
    await chats.swallow_deletes("chatrate")
    before = await chats.counts()
    report = await chats.purge()
    assert (report.state, report.exit_status) == ("finished_with_failures", 1)
    assert report.failed == {"miscount": 1}
    assert "0 rows of chatrate were deleted instead of 1" in (report.error or "")
    assert await chats.counts() == before


async def test_a_trigger_that_raises_is_told_in_the_report_and_keeps_no_other_chat_from_its_purge(
    chats: ChatStore,
) -> None:
    # It ended the pass with an unexpected error, at each schedule anew: all accounts behind this one stayed unpurged.
    stays, gone = await chats.chat(), await chats.chat()
    await chats.refuse_deletes("chatrate", stays, "evidence")
    report = await chats.purge(pace={"batch": 1})
    assert (report.state, report.exit_status) == ("finished_with_failures", 1)
    assert (report.chats, report.failed, report.error) == (1, {"database_refused": 1}, "evidence")
    assert gone not in await chats.chats()
    assert await chats.torn() == set()


async def test_an_account_whose_batches_fail_keeps_no_other_from_its_purge(chats: ChatStore) -> None:
    # It was told as finished, with all that was due still there.
    await chats.chat()
    other = ChatStore(chats.dsn, chats.connection, "other")
    await other.make()
    await other.chat()
    await chats.swallow_deletes("chatrate")
    accounts = {name: {"schema": name, "keep": "400d"} for name in ("pro", "other")}
    report = await chats.run_pass(accounts=accounts)
    assert [(one.account, one.state, one.chats) for one in report.purges] == [
        ("pro", "finished_with_failures", 0),
        ("other", "finished", 1),
    ]
    assert await other.chats() == set()


async def test_what_the_database_refuses_before_the_first_batch_is_in_the_report_of_each_account(
    chats: ChatStore,
) -> None:
    await chats.chat()
    await drop_foreign_keys(chats)
    await chats.connection.execute("ALTER TABLE pro.chatmessage ALTER threadid TYPE text")
    report = await chats.purge()
    assert (report.state, report.exit_status) == ("interrupted", 4)
    assert "the database refused a statement: operator does not exist" in (report.error or "")
    passed = await chats.run_pass(accounts={"testcom": {"schema": "pro", "keep": "400d"}})
    assert (passed.state, [one.state for one in passed.purges]) == ("interrupted", ["interrupted"])


async def test_a_stop_is_heard_between_two_tries_of_a_batch_that_others_are_in_the_way_of(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.chat()
    before = await chats.counts()
    order = PassOptions("purge-chats")
    tries = 0

    async def fail(_self: batch.Batch, _page: Page) -> Removed:
        nonlocal tries
        tries += 1
        order.stop.ask()
        raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")

    monkeypatch.setattr(batch.Batch, "remove", fail)
    report = await chats.purge(order=order)
    assert (tries, report.state, report.exit_status) == (1, "interrupted", 4)
    # Nothing is wrong with what was not taken.
    assert not report.failed
    assert (report.not_reached, report.as_json()["not_reached"]) == (1, {"items": 1})
    assert await chats.counts() == before


async def test_a_batch_that_others_are_in_the_way_of_is_counted_and_the_purge_goes_on(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "TRIES", 2)
    first = await chats.chat()
    await chats.chat()
    work = batch.Batch.remove

    async def fail(self: batch.Batch, page: Page) -> Removed:
        if page[0][0] == first:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        return await work(self, page)

    monkeypatch.setattr(batch.Batch, "remove", fail)
    with structlog.testing.capture_logs() as log:
        report = await chats.purge(pace={"batch": 1})
    assert (report.chats, report.failed, report.not_reached) == (1, {"in_the_way": 1}, 0)
    # As errors that Nextcloud's files_retention told at debug level were seen by nobody.
    (failure,) = [entry for entry in log if entry["event"] == "item_failed"]
    assert failure["log_level"] == "error"
    assert await chats.chats() == {first}


async def test_a_table_that_the_layout_lacks_is_named_before_anything_is_touched(chats: ChatStore) -> None:
    # As a new table without a cascade stopped the retention of mattermost-plugin-agents.
    await chats.chat()
    await chats.connection.execute(
        "CREATE SCHEMA plugin; CREATE TABLE plugin.agent_note (noteid bigint PRIMARY KEY, "
        "message bigint REFERENCES pro.chatmessage ON DELETE CASCADE)"
    )
    before = await chats.counts()
    for dry_run in (True, False):
        report = await chats.purge(dry_run=dry_run)
        assert (report.state, report.exit_status) == ("refused", 3)
        assert report.refused is not None
        assert "plugin.agent_note (message) refers to chatmessage" in str(report.refused.value)
    assert await chats.counts() == before


async def test_a_foreign_key_onto_a_table_that_inherits_is_named_before_anything_is_touched(
    chats: ChatStore,
) -> None:
    # Before there were partitions, large tables were cut up by inheritance.
    chat = await chats.chat()
    await chats.connection.execute(
        "CREATE TABLE pro.chatmessage_2022 (PRIMARY KEY (messageid)) INHERITS (pro.chatmessage);"
        "CREATE TABLE pro.attachment (messageid bigint REFERENCES pro.chatmessage_2022 ON DELETE CASCADE);"
        f"INSERT INTO pro.chatmessage_2022 VALUES (900, {chat}, 1, 'hello', '{OLD}');"
        "INSERT INTO pro.attachment VALUES (900)"
    )
    before = await chats.counts()
    report = await chats.purge()
    assert report.refused is not None
    assert "pro.attachment (messageid) refers to chatmessage" in str(report.refused.value)
    assert await chats.counts() == before


async def test_everything_that_does_not_fit_the_layout_is_named_at_once(chats: ChatStore) -> None:
    await chats.connection.execute(
        "DROP TABLE pro.chatrate; ALTER TABLE pro.chatmessage DROP COLUMN kind;"
        "ALTER TABLE pro.chatstats ALTER created TYPE timestamp;"
        "ALTER TABLE pro.chatthread ADD answerto bigint REFERENCES pro.chatthread"
    )
    report = await chats.purge()
    assert report.refused is not None
    told = str(report.refused.value)
    for part in (
        "pro.chatrate is missing",
        "chatmessage lacks kind",
        "chatstats.created is timestamp without time zone",
        "pro.chatthread (answerto) refers to chatthread",
    ):
        assert part in told


async def test_rows_that_row_level_security_hides_are_no_reason_to_tear_chats_apart(
    chats: ChatStore,
) -> None:
    await chats.chat()
    await chats.connection.execute(
        "DROP ROLE IF EXISTS retentiond_test_half; CREATE ROLE retentiond_test_half LOGIN;"
        "GRANT ALL ON SCHEMA pro TO retentiond_test_half; GRANT ALL ON ALL TABLES IN SCHEMA pro TO retentiond_test_half;"
        "ALTER TABLE pro.chatrate ENABLE ROW LEVEL SECURITY"
    )
    database = await chats.connection.fetchval("SELECT current_database()")
    await chats.connection.execute(f"GRANT CREATE ON DATABASE {database} TO retentiond_test_half")
    chats.dsn += "?role=retentiond_test_half"
    try:
        report = await chats.purge()
    finally:
        await chats.connection.execute("DROP OWNED BY retentiond_test_half; DROP ROLE retentiond_test_half")
    assert report.refused is not None
    assert "row-level security hides rows of chatrate from this role" in str(report.refused.value)


async def test_a_large_table_without_the_index_that_batches_need_is_refused_with_the_statement(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.chat()
    await chats.connection.execute("DROP INDEX pro.chatmessage_threadid_idx")
    assert (await chats.purge(dry_run=True)).state == "planned"  # it is small
    monkeypatch.setattr(catalogue, "LARGE", 0)
    report = await chats.purge()
    assert report.refused is not None
    assert report.refused.value == '"pro"."chatmessage" (threadid)'
    assert "CREATE INDEX CONCURRENTLY" in report.refused.hint
    assert (await chats.purge(create_index=True)).chats == 1
    assert (await chats.purge()).state == "finished"


async def test_no_index_is_asked_for_that_no_batch_needs(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.chat()
    # As where a table is partitioned by a date, with which its key begins.
    await chats.connection.execute(
        "ALTER TABLE pro.chatmessage DROP CONSTRAINT chatmessage_pkey, ADD PRIMARY KEY (created, messageid)"
    )
    monkeypatch.setattr(catalogue, "LARGE", 0)
    report = await chats.purge()
    assert (report.state, report.chats) == ("finished", 1)


async def test_no_statement_of_a_batch_reads_a_table_from_end_to_end(chats: ChatStore) -> None:
    made = MadeUpChats(2000, datetime(2021, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC))
    await chats.connection.execute(
        "TRUNCATE pro.department, pro.operator, pro.category, pro.survey, pro.visitor CASCADE"
    )
    await make_up_chats(chats.connection, made)
    await chats.connection.execute("ANALYZE")
    async with open_chat_database("chats", chats.config()) as target:
        purge = await look_at(
            target._context, chats.connection, PurgeRequest("testcom", TO_DATE), 0, dry_run=True, now=CUTOFF
        )
    tree, keys = purge.chats.tree, list(range(1, 51))  # of 2000: a batch is a small part
    hot = [tree.statement("lock"), tree.statement("judge")]
    hot += [
        tree.of_entity("delete", entity, keep_files=keep)
        for entity in tree.entities
        for keep in (True, False)
    ]
    below = [entity for entity in tree.entities if entity != tree.top]
    hot += [tree.count_each(below, keep_files=keep) for keep in (True, False)]
    of_sessions = ("lock_shared", "delete_shared", "delete_unused")
    hot += [tree.of_shared(name, "chatvisitsession") for name in of_sessions]
    async with chats.connection.transaction():
        await chats.connection.execute(batch.BY_KEY)
        for statement in hot:
            text, values = bind(statement, purge.chats.values | {"keys": keys})
            plan = "\n".join(
                row[0] for row in await chats.connection.fetch(f"EXPLAIN (COSTS OFF) {text}", *values)
            )
            assert "Seq Scan" not in plan, plan
            # An index that is read from end to end is no better.
            scans = plan.count("Index Scan") + plan.count("Index Only Scan")
            assert plan.count("Index Cond:") >= scans, plan


async def test_two_purges_of_one_database_do_not_work_at_the_same_time(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.chat()
    refused: list[BusyError] = []

    async def purge_too() -> None:
        with pytest.raises(BusyError) as error:
            await chats.purge(order=PassOptions("purge-chats", patience=0.0))
        refused.append(error.value)

    at_the_look(monkeypatch, purge_too)
    assert (await chats.purge()).chats == 1
    assert refused[0].exit_status == 5


@pytest.mark.parametrize("stopped", [False, True])
async def test_two_targets_of_a_daemon_on_one_database_take_turns_at_the_same_hour(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    other = ChatStore(chats.dsn, chats.connection, "other")
    await other.make()
    await chats.chat()
    await other.chat()
    order = PassOptions("run", patience=0.0)
    waiting: list[asyncio.Task[PassReport]] = []

    async def due_too() -> PassReport:
        async with open_chat_database(
            "second", other.config(accounts={"other": {"schema": "other", "keep": "400d"}})
        ) as target:
            return await target.run_pass(order)

    async def begin() -> None:
        waiting.append(asyncio.create_task(due_too()))
        while not await lock_holder(chats.connection, DUTY, "second"):
            await asyncio.sleep(0.01)
        if stopped:
            order.stop.ask()
            assert (await waiting[0]).state == "interrupted"

    at_the_look(monkeypatch, begin)
    first = await chats.run_pass(
        PassOptions("run", patience=0.0), accounts={"testcom": {"schema": "pro", "keep": "400d"}}
    )
    second = await waiting[0]
    assert (first.state, first.removed_items) == ("finished", 1)
    assert (second.state, len(await other.chats())) == (("interrupted", 1) if stopped else ("finished", 0))


async def test_asked_to_stop_it_ends_at_the_batchs_end_and_the_next_goes_on(chats: ChatStore) -> None:
    for _ in range(5):
        await chats.chat()
    stop = Stop()
    done = 0

    class Watch(NullProgress):
        def advance(self, items: int, size: int = 0) -> None:
            nonlocal done
            done += items
            if done == 2:
                stop.ask()

    first = await chats.purge(
        order=PassOptions("purge-chats", progress=Watch(), stop=stop), pace={"batch": 1}
    )
    assert (first.state, first.exit_status, first.chats) == ("interrupted", 4, 2)
    assert await chats.torn() == set()
    second = await chats.purge()
    assert (second.state, second.chats) == ("finished", 3)


async def test_rows_that_go_too_fast_make_it_wait(chats: ChatStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        await chats.chat()
    waited: list[float] = []

    async def wait(self: Stop, seconds: float) -> None:
        del self
        waited.append(seconds)

    monkeypatch.setattr(Stop, "wait", wait)
    await chats.purge(pace={"batch": 1})
    assert waited == []
    for _ in range(3):
        await chats.chat()
    # Eight rows a chat: at one a second the second has to wait for the first, and the third for both.
    await chats.purge(pace={"batch": 1, "max_rows_per_second": 1})
    assert len(waited) == 2
    assert waited[1] > waited[0]


def standby_behind(seconds: float) -> Replication:
    """One standby that streams, so far behind."""
    lag = timedelta(seconds=seconds)
    return Replication(
        [Replica("berlin", "standby", connection_to=True, state="streaming", lag=lag, bytes_behind=9)]
    )


async def test_it_waits_while_a_replica_is_behind(chats: ChatStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retentiond.targets.chat_database.throttle.POLL", 0.0)
    await chats.chat()
    lags = (60, 60, 11, 9)
    asked: list[int] = []

    async def look() -> Replication:
        asked.append(len(await chats.chats()))
        return standby_behind(lags[min(len(asked), 4) - 1])

    assert (await chats.purge(look_at_replicas=look)).chats == 1
    # The first look is for synchronous standbys alone.
    assert asked[:4] == [1, 1, 1, 1]


async def test_a_replica_that_never_catches_up_ends_the_purge(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As purges that stalled for months and nobody saw.
    monkeypatch.setattr("retentiond.targets.chat_database.throttle.PATIENCE", timedelta(0))
    chat = await chats.chat()

    async def look() -> Replication:
        return standby_behind(3600)

    report = await chats.purge(look_at_replicas=look)
    assert (report.state, report.exit_status) == ("interrupted", 4)
    assert "the standby berlin is 3600.0 s behind, more than 10 s" in (report.error or "")
    assert await chats.chats() == {chat}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_or_stopped_in_the_midst_it_leaves_whole_chats_only(
    chats: ChatStore, tmp_path: Path, number: signal.Signals
) -> None:
    made = MadeUpChats(
        2500, datetime(2021, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC), messages=4, staying_every=0
    )
    await chats.connection.execute(
        "TRUNCATE pro.department, pro.operator, pro.category, pro.survey, pro.visitor CASCADE"
    )
    await make_up_chats(chats.connection, made)
    hanging = await whole_chats(chats)
    config = tmp_path / "config.yaml"
    target = {
        "kind": "chat_database",
        "database": chats.dsn,
        "accounts": {"testcom": {"schema": "pro"}},
        # Slower than anybody is killed.
        "pace": {"batch": 20, "max_rows_per_second": 200},
    }
    config.write_text(json.dumps({"targets": {"chats": target}}))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "retentiond", "--config", str(config), "purge-chats", "--json"),
        *("--account", "testcom", "--to-date", str(TO_DATE)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    while len(await chats.chats()) == 2500 and process.returncode is None:
        await asyncio.sleep(0.01)
    os.kill(process.pid, number)
    told, _ = await process.communicate()
    if number == signal.SIGTERM:
        assert (process.returncode, json.loads(told)["state"]) == (4, "interrupted")
    # The server may still be ending the transaction of who has gone.
    while await chats.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'retentiond' AND datname = current_database()"
    ):
        await asyncio.sleep(0.05)
    left = await chats.chats()
    assert 0 < len(left) < 2500
    after = await whole_chats(chats)
    assert after == {chat: rows for chat, rows in hanging.items() if chat in left}
    assert (await chats.purge()).chats == len(left)
    assert await chats.chats() == set()


async def whole_chats(chats: ChatStore) -> dict[int, tuple[int, ...]]:
    """Return how many rows of each kind hang on each chat, whether or not the chat is there."""
    counts = [
        {
            row["threadid"]: row["rows"]
            for row in await chats.connection.fetch(
                f"SELECT threadid, count(*) AS rows FROM pro.{table} GROUP BY 1"
            )
        }
        for table in ("chatthread", *TREE)
    ]
    return {chat: tuple(count.get(chat, 0) for count in counts) for chat in set().union(*counts)}


async def test_what_each_batch_took_is_in_the_records_and_their_chain_holds(chats: ChatStore) -> None:
    ids = [await chats.chat() for _ in range(3)]
    await chats.purge(pace={"batch": 2})
    async with open_chat_database("chats", chats.config()) as target:
        told = [record async for record in target.records()]
        assert (await target.verify_records()).broken is None
    purged = [record["body"] for record in told if record["kind"] == "purged"]
    assert [body["chats"] for body in purged] == [ids[:2], ids[2:]]
    assert sum(body["rows"]["chatmessage"] for body in purged) == 6
    assert "hello" not in json.dumps(told)


async def test_a_name_that_tries_to_be_more_than_a_name_is_none(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    hostile = {
        "schema": 'a";DROP TABLE x;--',
        "chat": "t {key} $keys",
        "key": "id'\\\";",
        "created": "größe $cutoff",
        "state": "sta\nte",
        "message": "{survey}",
        "join": "%I $1",
    }

    def q(name: str) -> str:
        return '"' + hostile[name].replace('"', '""') + '"'

    await connection.execute(
        f"CREATE SCHEMA {q('schema')};"
        f"CREATE TABLE {q('schema')}.{q('chat')} "
        f"({q('key')} bigint PRIMARY KEY, {q('created')} timestamptz, {q('state')} text);"
        f"CREATE TABLE {q('schema')}.{q('message')} ({q('join')} bigint);"
        f"INSERT INTO {q('schema')}.{q('chat')} VALUES (1, '2020-01-01Z', 'over'), (2, '2020-01-01Z', 'open');"
        f"INSERT INTO {q('schema')}.{q('message')} VALUES (1), (2)"
    )
    layout = tmp_path / "layout.yaml"
    entities = {
        hostile["chat"]: {
            "class": "facts",
            "key": hostile["key"],
            "dates": [hostile["created"]],
            "state": {"column": hostile["state"], "over": ["over"]},
        },
        "talk": {
            "class": "messages",
            "table": hostile["message"],
            "parent": hostile["chat"],
            "column": hostile["join"],
        },
    }
    # Names with control characters are refused by the layout itself; this one is as odd as a name can be without.
    hostile_state = "sta te';"
    await connection.execute(
        f'ALTER TABLE {q("schema")}.{q("chat")} RENAME {q("state")} TO "{hostile_state}"'
    )
    entities[hostile["chat"]]["state"]["column"] = hostile_state  # type: ignore[index]
    layout.write_text(json.dumps({"chat": hostile["chat"], "entities": entities}))
    store = ChatStore(database, connection)
    report = await store.purge(layout=str(layout), accounts={"testcom": {"schema": hostile["schema"]}})
    assert (report.state, report.entities["talk"]) == ("finished", 1)
    assert await connection.fetchval(f"SELECT {q('key')} FROM {q('schema')}.{q('chat')}") == 2


async def test_a_purge_by_schedule_takes_what_is_older_than_each_accounts_keep(chats: ChatStore) -> None:
    chat = await chats.chat()
    recent = datetime.now(UTC) - timedelta(days=399)
    stays = await chats.chat(created=recent, modified=recent, messages=(recent,))
    config: dict[str, Any] = {"accounts": {"testcom": {"schema": "pro", "keep": "400d"}}}
    report = await chats.run_pass(**config)
    assert (report.state, report.removed_items, report.kept["not_due"]) == ("finished", 1, 1)
    assert await chats.chats() == {stays}
    assert chat
    assert report.as_json()["removed"]["by_policy"]["testcom"]["items"] == 1
    # An account without a keep is purged by hand only.
    other = await chats.run_pass()
    assert (other.state, other.removed_items) == ("finished", 0)


async def test_a_purge_is_on_the_day_axis_of_the_report(chats: ChatStore) -> None:
    await chats.chat()
    config = chats.config(accounts={"testcom": {"schema": "pro", "keep": "400d"}})
    async with open_chat_database("chats", config) as target:
        report = await target.run_pass(PassOptions("run"))
        (day,) = (await target.statistics(NullProgress())).freed
    assert (day.day, day.items, day.bytes) == (report.started_at.astimezone(UTC).date(), 1, 0)


async def test_a_scheduled_purge_of_too_many_chats_is_refused_and_one_by_hand_is_not(
    chats: ChatStore,
) -> None:
    chat = await chats.chat()
    limits: dict[str, Any] = {"limits": {"max_share": 0.5}}
    config = {"accounts": {"testcom": {"schema": "pro", "keep": "400d"}}} | limits
    report = await chats.run_pass(**config)
    assert (report.state, report.exit_status) == ("refused", 3)
    assert report.refused is not None
    assert "1 of 1 chats of testcom would be deleted" in report.refused.hint
    assert await backlog(chats) == (1, OLD + timedelta(days=400))
    assert await chats.chats() == {chat}
    assert (await chats.run_pass(PassOptions("once", over_limits=True), **config)).removed_items == 1
    assert await backlog(chats) == (0, None)
    await chats.chat()
    assert (await chats.purge(**limits)).chats == 1


async def backlog(chats: ChatStore) -> tuple[int, datetime | None]:
    """Return what `status` says is due, and since when: a purge that stalls is seen there."""
    async with open_chat_database("chats", chats.config()) as target:
        found = (await target.status()).backlog
    assert found is not None
    return found.items, found.since


async def test_a_clock_that_is_behind_the_last_pass_purges_nothing(chats: ChatStore) -> None:
    chat = await chats.chat()
    await chats.purge(datetime(2001, 1, 1, tzinfo=UTC).date())
    await chats.connection.execute(
        "UPDATE retentiond.store SET last_pass_at = clock_timestamp() + interval '1 day'"
    )
    assert (await chats.purge()).refused is not None
    assert await chats.chats() == {chat}


async def test_the_target_says_what_it_needs_before_it_is_used(chats: ChatStore) -> None:
    async with open_chat_database("chats", chats.config()) as target:
        assert (await target.check()).problems == []
        await chats.connection.execute("DROP TABLE pro.chatrate")
        (problem,) = (await target.check()).problems
        assert isinstance(problem, RefusedError)
        assert "pro.chatrate is missing" in str(problem)
        assert (await target.status()).ledger is False


async def test_a_row_that_was_old_is_not_taken_when_it_is_of_another_account(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    await connection.execute(
        "CREATE TABLE public.talk (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), began bigint, over boolean, firm int);"
        "CREATE TABLE public.line (talk uuid REFERENCES talk, said bigint); CREATE INDEX ON line (talk);"
        "INSERT INTO talk (began, over, firm) SELECT extract(epoch FROM timestamptz '2020-01-01Z')::bigint, true, f "
        "FROM generate_series(1, 2) f; INSERT INTO line SELECT id, began FROM talk"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        "chat: talk\nschema: public\ndates: {type: seconds}\nentities:\n"
        "  talk: {class: facts, key: id, dates: [began], state: {column: over, over: ['true']}, account_column: firm}\n"
        "  line: {class: messages, parent: talk, column: talk, dates: [said]}\n"
    )
    store = ChatStore(database, connection)
    accounts = {"one": {"value": "1"}}
    given: dict[str, Any] = {"layout": str(layout), "accounts": accounts, "account": "one"}
    dry = await store.purge(dry_run=True, **given)
    report = await store.purge(**given)
    assert dict(dry.entities) == dict(report.entities) == {"line": 1, "talk": 1}
    assert await connection.fetchval("SELECT array_agg(firm) FROM talk") == [2]
