"""Rows whose chat is missing from the database: counted always, and deleted only on request and only where it is safe."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.demo.chat_show import MadeUpChats, make_up_chats
from retentiond.engine.target import NullProgress, PassOptions, PurgeRequest, Stop
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database import orphan_batch, orphan_removal
from retentiond.targets.chat_database.account import look_at
from retentiond.targets.chat_database.batch import BY_KEY
from retentiond.targets.chat_database.orphan_batch import OrphanBatch
from retentiond.targets.chat_database.orphans import OrphanSearch, search_orphans
from retentiond.targets.chat_database.statements import bind
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import CUTOFF, OLD, TO_DATE, ChatStore

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.model.purge import PurgeReport

ORPHANS = {"orphans": True}
OF_ONE = {
    "chatmessage": 2,
    "chatthreadhistory": 1,
    "surveyanswer": 1,
    "thread_category": 1,
    "chatrate": 1,
    "surveylaunch": 1,
}


@pytest.fixture
async def chats(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> ChatStore:
    """Chats without foreign keys between them, and one that stays."""
    store = ChatStore(database, connection)
    await store.make()
    for table in ("chatmessage", "chatthreadhistory", "surveylaunch", "thread_category", "chatrate"):
        await connection.execute(f"ALTER TABLE pro.{table} DROP CONSTRAINT {table}_threadid_fkey")
    await connection.execute("ALTER TABLE pro.chatmessage ALTER COLUMN threadid DROP NOT NULL")
    await store.chat(created=CUTOFF, modified=CUTOFF, messages=(CUTOFF,))
    return store


async def orphan(chats: ChatStore, **given: Any) -> int:
    """Add the rows of a chat, and lose its own row."""
    chat = await chats.chat(**given)
    await chats.connection.execute("DELETE FROM pro.chatthread WHERE threadid = $1", chat)
    return chat


def told(report: PurgeReport) -> dict[str, Any]:
    """Return what the report says of orphans as JSON."""
    orphans: dict[str, Any] = report.as_json()["orphans"]
    return orphans


async def records(chats: ChatStore) -> list[dict[str, Any]]:
    """Return the bodies of the records of purges."""
    rows = await chats.connection.fetch("SELECT content FROM retentiond.record ORDER BY number")
    found = [json.loads(row["content"]) for row in rows]
    return [record["body"] for record in found if record["kind"] == "purged"]


async def test_orphans_are_counted_by_a_plan_and_after_a_purge_and_stay_unless_asked_for(
    chats: ChatStore,
) -> None:
    await orphan(chats)
    before = await chats.counts()
    for dry_run in (True, False):
        report = await chats.purge(dry_run=dry_run)
        assert told(report) == {"purge": False, "found": OF_ONE, "due": OF_ONE, "kept": {}}
        assert report.exit_status == 0
    assert await chats.counts() == before


async def test_orphans_go_on_request_counted_before_and_after_and_on_record(chats: ChatStore) -> None:
    missing = [await orphan(chats), await orphan(chats)]
    goes = await chats.chat()
    twice = {entity: 2 * rows for entity, rows in OF_ONE.items()}
    assert told(await chats.purge(dry_run=True, wish=ORPHANS))["due"] == twice
    report = await chats.purge(wish=ORPHANS)
    assert report.state == "finished"
    assert told(report) == {
        "purge": True,
        "found": twice,
        "due": twice,
        "kept": {},
        "removed": twice,
        "left": {},
    }
    # The rows of the chat that was there are counted apart.
    assert (report.chats, report.entities["chatmessage"]) == (1, 2)
    assert await chats.torn() == set()
    of_chats, of_orphans = await records(chats)
    assert (of_chats["chats"], of_orphans["chats"]) == ([goes], missing)
    assert (of_orphans["orphans"], of_orphans["rows"]) == (True, twice)
    assert (
        await chats.connection.fetchval(
            "SELECT (report->'orphans'->'removed'->>'chatmessage')::int FROM retentiond.chat_purge"
        )
        == 4
    )


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"messages": (OLD, CUTOFF)}, "newer"),
        ({"messages": (OLD, None)}, "undated"),
        ({"messages": (OLD.replace(year=1999),)}, "undated"),
        # No table but that of messages has a date in the layout.
        ({"messages": ()}, "undated"),
    ],
)
async def test_the_rows_of_a_missing_chat_stay_whole_where_one_is_newer_or_none_can_be_dated(
    chats: ChatStore, given: dict[str, Any], reason: str
) -> None:
    await orphan(chats, **given)
    before = await chats.counts()
    report = await chats.purge(wish=ORPHANS)
    assert set(told(report)["kept"]) == {reason}
    assert (told(report)["removed"], told(report)["left"]) == ({}, told(report)["found"])
    assert await chats.counts() == before


async def test_messages_of_missing_chats_with_files_stay_unless_they_are_asked_for_too(
    chats: ChatStore,
) -> None:
    await orphan(chats, files=2)
    report = await chats.purge(wish=ORPHANS)
    assert told(report)["removed"] == OF_ONE
    assert told(report)["kept"] == {"has_file_messages": 2}
    assert told(report)["left"] == {"chatmessage": 2}
    report = await chats.purge(wish=ORPHANS | {"file_messages": True})
    assert told(report)["removed"] == {"chatmessage": 2}
    assert told(report)["left"] == {}


@pytest.mark.parametrize("narrowed", ["chat", "visitor", "days", "account"])
async def test_a_hold_that_may_cover_a_missing_chat_keeps_its_rows(chats: ChatStore, narrowed: str) -> None:
    held, other = await orphan(chats), await orphan(chats)
    on = {
        "chat": Narrowing(chat=str(held)),
        "visitor": Narrowing(visitor="1"),
        "days": Narrowing(before=CUTOFF.date()),
        "account": Narrowing(),
    }[narrowed]
    async with open_chat_database("chats", chats.config()) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", "testcom", on)))
    report = await chats.purge(wish=ORPHANS)
    left = await chats.ids("chatmessage", "threadid") & {held, other}
    # Whom and when a missing chat was of, no row says.
    assert left == ({held} if narrowed == "chat" else {held, other})
    assert told(report)["kept"]["hold"] == len(left) * sum(OF_ONE.values())


async def test_a_hold_that_is_put_on_after_orphans_were_found_keeps_its_chat(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, other = await orphan(chats), await orphan(chats)
    list_unlinked = OrphanSearch.list_unlinked

    async def hold(self: OrphanSearch) -> None:
        await list_unlinked(self)
        async with open_chat_database("chats", chats.config()) as target:
            await target.holds.add(HoldRequest(HoldSubject("account", "testcom", Narrowing(chat=str(held)))))

    monkeypatch.setattr(OrphanSearch, "list_unlinked", hold)
    report = await chats.purge(wish=ORPHANS)
    assert told(report)["removed"] == OF_ONE
    assert await chats.ids("chatmessage", "threadid") & {held, other} == {held}


async def until_waiting(chats: ChatStore, table: str) -> None:
    """Wait until somebody waits for a lock of a table."""
    while not await chats.connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
        "WHERE NOT l.granted AND c.relname = $1)",
        table,
    ):
        await asyncio.sleep(0.01)


async def test_a_chat_that_another_transaction_is_writing_after_its_messages_keeps_them(
    chats: ChatStore,
) -> None:
    chat = await orphan(chats)
    before = await chats.counts()
    other = await asyncpg.connect(chats.dsn)
    try:
        # Its messages are there already: the chat is in a transaction of its own, which is not over.
        writing = other.transaction()
        await writing.start()
        await other.execute(
            "INSERT INTO pro.chatthread (threadid, created, modified, state) VALUES ($1, $2, $2, 'closed')",
            chat,
            OLD,
        )
        purge = asyncio.create_task(chats.purge(wish=ORPHANS))
        await until_waiting(chats, "chatthread")
        await writing.commit()
        report = await purge
    finally:
        await other.close()
    assert report.state == "finished"
    assert (told(report)["found"], told(report)["removed"], told(report)["left"]) == (OF_ONE, {}, {})
    assert await chats.counts() == before | {"chatthread": before["chatthread"] + 1}


async def test_a_writer_of_chats_that_does_not_end_keeps_the_orphans_and_is_named(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_removal, "TRIES", 1)
    await orphan(chats)
    before = await chats.counts()
    other = await asyncpg.connect(chats.dsn)
    try:
        async with other.transaction():
            await other.execute("UPDATE pro.chatthread SET state = 'closed'")
            report = await chats.purge(wish=ORPHANS)
    finally:
        await other.close()
    assert (report.state, report.failed["in_the_way"]) == ("finished_with_failures", 1)
    assert await chats.counts() == before


async def test_rows_of_chat_zero_or_of_none_are_orphans_by_their_own_dates_and_take_nothing_along(
    chats: ChatStore,
) -> None:
    for chat in (0, None):
        for created in (OLD, CUTOFF, None):
            await chats.message(chat, created)
    # Their table has no date in the layout; NULL there is taken for the wish to name no chat.
    await chats.connection.execute("ALTER TABLE pro.chatrate ALTER COLUMN threadid DROP NOT NULL")
    for chat in (0, None):
        await chats.insert("chatrate", rateid=-1 - (chat is None), threadid=chat, rate=5)
    missing = await orphan(chats)
    stays = await chats.chats()
    found = await chats.purge(wish=ORPHANS, dry_run=True)
    assert told(found)["found"]["chatmessage"] == 8
    assert told(found)["found"]["chatrate"] == 2
    assert told(found)["kept"] == {"newer": 2, "undated": 3}
    report = await chats.purge(wish=ORPHANS)
    assert told(report)["removed"] == OF_ONE | {"chatmessage": 4}
    assert told(report)["left"] == {"chatmessage": 4, "chatrate": 1}
    assert await chats.chats() == stays
    assert missing not in await chats.ids("chatmessage", "threadid")
    # Zero is a chat where the database has it: its rows are no orphans then.
    await chats.insert("chatthread", threadid=0, created=OLD, modified=OLD, state="chatting")
    await chats.message(0, OLD)
    assert told(await chats.purge(wish=ORPHANS))["left"] == {"chatmessage": 2}


async def test_rows_that_name_no_chat_go_although_the_database_has_a_chat_zero(chats: ChatStore) -> None:
    await chats.insert("chatthread", threadid=0, created=OLD, modified=OLD, state="chatting")
    await chats.message(None, OLD)
    report = await chats.purge(wish=ORPHANS)
    assert (report.state, told(report)["removed"]) == ("finished", {"chatmessage": 1})


@pytest.mark.parametrize("kind", ["numeric", "double precision"])
async def test_what_can_be_no_id_of_a_chat_ends_no_purge_and_is_taken_for_no_other_chat(
    chats: ChatStore, kind: str
) -> None:
    there = await chats.chat(state="chatting")
    await chats.connection.execute(f"ALTER TABLE pro.chatmessage ALTER threadid TYPE {kind}")
    before = await chats.ids("chatmessage", "messageid")
    for number, named in enumerate((f"{there}.4", "1e30", "NaN", "9223372036854775808"), 1000):
        await chats.connection.execute(
            f"INSERT INTO pro.chatmessage (messageid, threadid, kind, created) VALUES ({number}, '{named}', 1, '{OLD}')"
        )
    for wish in ({}, ORPHANS):
        report = await chats.purge(wish=wish)
        assert report.state == "finished"
    assert await chats.ids("chatmessage", "messageid") == before | {1000, 1001, 1002, 1003}


async def test_a_row_that_the_database_refuses_to_delete_keeps_no_other(chats: ChatStore) -> None:
    stubborn, *others = [await orphan(chats) for _ in range(5)]
    await chats.refuse_deletes("chatmessage", stubborn, "not this one")
    report = await chats.purge(wish=ORPHANS)
    assert report.state == "finished_with_failures"
    (failure,) = report.failures
    assert (failure.row, failure.trigger, failure.error) == (stubborn, "refuse", "not this one")
    assert await chats.ids("chatmessage", "threadid") & {stubborn, *others} == {stubborn}


async def test_orphans_that_are_refused_at_every_run_do_not_keep_those_behind_them(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_removal, "_MOST_REFUSED", 2)
    missing = [await orphan(chats) for _ in range(12)]
    await chats.connection.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;"
        "CREATE TRIGGER refuse BEFORE DELETE ON pro.chatmessage FOR EACH ROW "
        f"WHEN (old.threadid <= {missing[9]}) EXECUTE FUNCTION refuse()"
    )
    report = await chats.purge(wish=ORPHANS, pace={"batch": 2})
    assert report.state == "finished_with_failures"
    assert await chats.ids("chatmessage", "threadid") & set(missing) == set(missing[:10])


async def test_a_trigger_that_holds_rows_back_in_silence_is_named_and_nothing_is_counted(
    chats: ChatStore,
) -> None:
    await orphan(chats)
    before = await chats.counts()
    await chats.swallow_deletes("chatmessage")
    report = await chats.purge(wish=ORPHANS)
    assert (report.failed["miscount"], told(report)["removed"]) == (1, {})
    assert "trigger" in (report.error or "")
    assert await chats.counts() == before


async def test_a_missing_chat_with_more_rows_than_a_transaction_deletes_goes_in_portions(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_batch, "MOST_ROWS", 4)
    monkeypatch.setattr(orphan_removal, "MOST_ROWS", 4)
    await orphan(chats, messages=(OLD,) * 10)
    await orphan(chats)
    report = await chats.purge(wish=ORPHANS)
    assert (report.state, told(report)["left"]) == ("finished", {})
    sizes = [sum(body["rows"].values()) for body in await records(chats)]
    assert (max(sizes), sum(sizes)) == (4, 7 + 15)


async def test_a_stop_ends_between_two_batches_with_exact_counts_and_the_next_purge_goes_on(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        await orphan(chats)
    stop = Stop()
    of_missing = OrphanBatch.of_missing

    async def stop_then(self: OrphanBatch, page: Any) -> Any:
        stop.ask()
        return await of_missing(self, page)

    monkeypatch.setattr(OrphanBatch, "of_missing", stop_then)
    report = await chats.purge(wish=ORPHANS, order=PassOptions("purge-chats", stop=stop), pace={"batch": 1})
    assert (report.state, told(report)["removed"]) == ("interrupted", OF_ONE)
    monkeypatch.undo()
    report = await chats.purge(wish=ORPHANS)
    assert (told(report)["removed"], told(report)["left"]) == ({e: 2 * n for e, n in OF_ONE.items()}, {})
    assert [sum(body["rows"].values()) for body in await records(chats)] == [7, 14]


async def test_an_empty_table_of_chats_is_no_proof_that_all_rows_are_orphans(chats: ChatStore) -> None:
    await chats.chat()
    await chats.connection.execute("TRUNCATE pro.chatthread CASCADE")
    before = await chats.counts()
    report = await chats.purge(wish=ORPHANS)
    assert report.exit_status == 3
    assert told(report)["refused"]["limit"] == "orphans_without_chats"
    assert await chats.counts() == before


async def test_a_schedule_deletes_orphans_where_the_account_says_so_within_its_limits(
    chats: ChatStore,
) -> None:
    await orphan(chats)
    await chats.connection.execute("UPDATE pro.chatthread SET state = 'chatting'")
    account = {"schema": "pro", "keep": "400d", "purge_orphans": True}
    report = await chats.run_pass(accounts={"testcom": account}, limits={"max_share": 0.4})
    assert report.state == "finished_with_failures"
    assert told(report.purges[0])["refused"]["limit"] == "max_share"
    report = await chats.run_pass(accounts={"testcom": account}, limits={"max_share": 0.9})
    assert (report.state, told(report.purges[0])["left"]) == ("finished", {})


async def test_no_statement_of_a_batch_of_orphans_reads_a_table_from_end_to_end(chats: ChatStore) -> None:
    made = MadeUpChats(2000, datetime(2021, 1, 1, tzinfo=UTC), datetime(2023, 1, 1, tzinfo=UTC))
    await chats.connection.execute(
        "TRUNCATE pro.department, pro.operator, pro.category, pro.survey, pro.visitor, pro.chatmessage, "
        "pro.chatthreadhistory, pro.surveylaunch, pro.thread_category, pro.chatrate CASCADE"
    )
    await make_up_chats(chats.connection, made)
    await chats.connection.execute(
        "UPDATE pro.chatmessage SET threadid = NULL WHERE messageid % 100 = 0; ANALYZE"
    )
    async with open_chat_database("chats", chats.config()) as target:
        purge = await look_at(
            target._context,
            chats.connection,
            PurgeRequest("testcom", TO_DATE),
            0,
            dry_run=True,
            now=datetime.now(UTC),
        )
    search = await search_orphans(chats.connection, purge)
    rows, tree = search.rows, purge.chats.tree
    places = [(0, 1), (0, 2)]
    relation = await chats.connection.fetchval("SELECT 'pro.chatmessage'::regclass::oid::bigint")
    unlinked = rows.unlinked("chatmessage", files_stay=True)
    hot = [
        rows.judged(rows.direct, by_key=True),
        rows.statement("arrived"),
        rows.chats_without_id(),
        rows.of_rows("delete_places", "chatmessage", rows=unlinked),
    ]
    for entity in rows.below:
        condition = tree.rows(entity, rows.among, keep_files=True)
        hot.append(tree.statement("delete", table=tree.table(entity), rows=condition))
        hot.append(rows.of_rows("places", entity, rows=condition))
    given = {"keys": list(range(1, 51)), "places": places, "relation": relation, "size": 10}
    async with chats.connection.transaction():
        await chats.connection.execute(BY_KEY)
        for statement in hot:
            text, values = bind(statement, search.values | given)
            lines = await chats.connection.fetch(f"EXPLAIN (COSTS OFF) {text}", *values)
            plan = "\n".join(row[0] for row in lines)
            assert "Seq Scan" not in plan, plan
            scans = plan.count("Index Scan") + plan.count("Index Only Scan")
            assert plan.count("Index Cond:") >= scans, plan


async def test_a_plan_and_a_purge_of_messages_with_files_say_that_the_files_themselves_stay(
    chats: ChatStore,
) -> None:
    await orphan(chats)
    account = {"schema": "pro", "keep": "400d", "delete_file_messages": True}
    async with open_chat_database("chats", chats.config(accounts={"testcom": account})) as target:
        plan = await target.plan(None, NullProgress())
    assert any("file store of the product are not" in remark for remark in plan.remarks)
    assert any("7 orphan rows, whose chat is missing" in remark for remark in plan.remarks)
    wish = {"file_messages": True}
    told = [(await chats.purge(dry_run=dry_run, wish=wish)).as_json() for dry_run in (True, False)]
    assert [len(report["remarks"]) for report in told] == [1, 1]
    assert "remarks" not in (await chats.purge()).as_json()


async def test_rows_behind_a_validated_foreign_key_are_not_read_for_orphans(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    await chats.chat(state="chatting")
    asked: list[str] = []
    connection.add_query_logger(lambda query: asked.append(query.query))
    report = await chats.purge(dry_run=True)
    assert "orphans" not in report.as_json()
    assert not any("retentiond_missing" in query and "chatmessage" in query for query in asked)


SHARED = """
chat: talk
schema: public
dates: {type: timestamptz}
entities:
  talk: {class: facts, key: id, account_column: account, dates: [began], state: {column: over, over: ['true']}}
  line: {class: messages, key: id, parent: talk, column: talk, dates: [at]ACCOUNT}
  mark: {class: facts, parent: talk, column: talk}
"""


async def shared_store(
    dsn: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path, account: str
) -> tuple[ChatStore, dict[str, Any]]:
    """Make tables that two accounts share; `account` is what the layout says of the account of a line."""
    await connection.execute(
        "CREATE TABLE talk (id bigint PRIMARY KEY, account text, began timestamptz, over boolean);"
        "CREATE TABLE line (id bigint PRIMARY KEY, talk bigint, at timestamptz, account text);"
        "CREATE TABLE mark (talk bigint);"
        "INSERT INTO talk VALUES (1, 'one', '2020-01-01Z', false), (2, 'two', '2020-01-01Z', false);"
        "INSERT INTO line VALUES (11, 5, '2020-01-01Z', 'one'), (12, 6, '2020-01-01Z', 'two'),"
        "(13, 7, '2020-01-01Z', 'one'), (14, 7, '2020-01-01Z', 'two'), (15, 8, '2020-01-01Z', NULL),"
        "(16, 0, '2020-01-01Z', 'one'), (17, 0, '2020-01-01Z', 'two'), (18, 0, '2020-01-01Z', NULL);"
        "INSERT INTO mark VALUES (5), (6), (7), (8), (9)"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(SHARED.replace("ACCOUNT", account))
    given = {"layout": str(layout), "accounts": {"one": {}, "two": {}}, "account": "one"}
    return ChatStore(dsn, connection, "public"), given


async def test_where_accounts_share_tables_orphans_without_an_account_of_their_own_stay(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    chats, given = await shared_store(database, connection, tmp_path, "")
    report = await chats.purge(wish=ORPHANS, **given)
    assert told(report)["removed"] == {}
    assert told(report)["kept"] == {"no_account": 13}
    assert (await chats.ids("line", "id"), len(await chats.ids("mark", "talk"))) == (set(range(11, 19)), 5)


async def test_where_accounts_share_tables_a_purge_takes_only_orphans_that_name_its_account(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    chats, given = await shared_store(database, connection, tmp_path, ", account_column: account")
    report = await chats.purge(wish=ORPHANS, **given)
    # Chat 5 is the account's own, with its mark; of chat 7 two accounts say that it is theirs.
    assert told(report)["removed"] == {"line": 2, "mark": 1}
    assert await chats.ids("line", "id") == {12, 13, 14, 15, 17, 18}
    assert await chats.ids("mark", "talk") == {6, 7, 8, 9}
    assert told(report)["kept"] == {"no_account": 7}
