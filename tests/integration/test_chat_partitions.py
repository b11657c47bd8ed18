"""Tables that are partitioned by date: what lies wholly below the date goes as a partition, where nothing in it stays."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import asyncpg
import pytest
import structlog

from retentiond.targets.chat_database import orphan_batch, orphan_removal
from retentiond.targets.chat_database.partitions import Emptying
from tests.support.chats import CUTOFF, OLD, ChatStore

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.targets.chat_database.batch import Removed


@pytest.fixture
async def chats(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> ChatStore:
    """Messages and statistics are partitioned by years."""
    store = ChatStore(database, connection)
    await store.make()
    await connection.execute(
        "DROP TABLE pro.chatmessage; DROP TABLE pro.chatstatslog; DROP TABLE pro.chatstats;"
        "CREATE TABLE pro.chatmessage (messageid bigint, threadid bigint NOT NULL REFERENCES pro.chatthread, kind int, "
        "message text, created timestamptz, sendername text, operatorid bigint) PARTITION BY RANGE (created);"
        "CREATE INDEX ON pro.chatmessage (threadid); CREATE INDEX ON pro.chatmessage (messageid);"
        "CREATE TABLE pro.chatstats (chatstatsid bigint, created timestamptz, operatorid bigint, threads int) "
        "PARTITION BY RANGE (created); CREATE INDEX ON pro.chatstats (chatstatsid);"
        "CREATE TABLE pro.chatstatslog (chatstatslogid bigint PRIMARY KEY, chatstatsid bigint, created timestamptz);"
        "CREATE INDEX ON pro.chatstatslog (chatstatsid)"
    )
    for table in ("chatmessage", "chatstats"):
        for year in (2021, 2022, 2023, 2024):
            await connection.execute(
                f"CREATE TABLE pro.{table}_{year} PARTITION OF pro.{table} "
                f"FOR VALUES FROM ('{year}-01-01Z') TO ('{year + 1}-01-01Z')"
            )
        await connection.execute(f"CREATE TABLE pro.{table}_other PARTITION OF pro.{table} DEFAULT")
    return store


async def partitions(chats: ChatStore) -> set[str]:
    rows = await chats.connection.fetch(
        "SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r' AND relnamespace = to_regnamespace('pro')"
    )
    return {row["relname"] for row in rows}


ALL = {
    f"{table}_{part}" for table in ("chatmessage", "chatstats") for part in (2021, 2022, 2023, 2024, "other")
}


async def test_a_partition_wholly_below_the_date_is_dropped_and_its_chats_go_whole(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[Removed | None] = []
    empty = Emptying.empty

    async def listen(self: Emptying) -> Removed | None:
        removed = await empty(self)
        emptied.append(removed)
        return removed

    monkeypatch.setattr(Emptying, "empty", listen)
    session = await chats.session()
    # One has messages in another partition, too: they go in the same transaction.
    earlier = OLD.replace(year=2021)
    await chats.chat(session=session, created=earlier, messages=(earlier, OLD))
    for _ in range(3):
        await chats.chat()
    stays = await chats.chat(created=CUTOFF, modified=CUTOFF, messages=(CUTOFF,))
    dry = await chats.purge(dry_run=True)
    assert await partitions(chats) == ALL
    report = await chats.purge()
    assert (report.state, report.chats, report.kept["changed"]) == ("finished", 4, 0)
    assert dry.entities == report.entities
    assert report.entities["chatmessage"] == 8
    assert await chats.chats() == {stays}
    assert await chats.sessions() == set()
    assert await chats.torn() == set()
    assert report.partitions_dropped == ["chatmessage_2021", "chatmessage_2022"]
    assert await partitions(chats) == ALL - {"chatmessage_2021", "chatmessage_2022"}
    # 2021 took one chat with it, 2022 the other three; no batch was left to do.
    assert [removed and removed.chats for removed in emptied] == [1, 3]


@pytest.mark.parametrize("kept", ["open", "newer", "has_file_messages"])
async def test_a_partition_in_which_something_stays_is_not_dropped(chats: ChatStore, kept: str) -> None:
    await chats.chat()
    stays = await chats.chat(
        state="chatting" if kept == "open" else "closed",
        messages=(OLD, CUTOFF) if kept == "newer" else (OLD,),
        files=1 if kept == "has_file_messages" else 0,
    )
    report = await chats.purge()
    assert (report.chats, report.kept[kept]) == (1, 1)
    assert await chats.chats() == {stays}
    assert report.partitions_dropped == ["chatmessage_2021"]
    assert {"chatmessage_2022", "chatmessage_2023"} <= await partitions(chats)


async def test_a_message_of_no_chat_keeps_its_partition(chats: ChatStore) -> None:
    await chats.connection.execute("ALTER TABLE pro.chatmessage DROP CONSTRAINT chatmessage_threadid_fkey")
    await chats.message(4711, OLD)
    report = await chats.purge()
    assert "chatmessage_2022" in await partitions(chats)
    assert report.partitions_dropped == ["chatmessage_2021"]


async def test_orphans_of_several_partitions_go_on_request_and_the_next_purge_drops_what_they_kept(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphan_removal, "MOST_ROWS", 2)
    monkeypatch.setattr(orphan_batch, "MOST_ROWS", 2)
    await chats.connection.execute(
        "ALTER TABLE pro.chatmessage DROP CONSTRAINT chatmessage_threadid_fkey;"
        "ALTER TABLE pro.chatmessage ALTER COLUMN threadid DROP NOT NULL"
    )
    stays = await chats.chat(created=CUTOFF, modified=CUTOFF, messages=(CUTOFF,))
    for chat in (4711, 0, None):
        for created in (OLD.replace(year=2021), OLD, OLD):
            await chats.message(chat, created)
    newer = await chats.message(None, CUTOFF)
    report = await chats.purge(wish={"orphans": True})
    assert (report.state, report.orphans.removed) == ("finished", {"chatmessage": 9})
    assert report.orphans.left is not None
    assert report.orphans.left.rows == {"chatmessage": 1}
    assert newer in await chats.ids("chatmessage", "messageid")
    assert await chats.chats() == {stays}
    report = await chats.purge()
    assert report.partitions_dropped == ["chatmessage_2021", "chatmessage_2022"]


@pytest.mark.parametrize(
    "listening",
    [
        "CREATE TRIGGER heard AFTER DELETE ON pro.chatmessage FOR EACH ROW EXECUTE FUNCTION pro.heard()",
        "CREATE TRIGGER heard AFTER DELETE ON pro.chatmessage_2022 FOR EACH ROW EXECUTE FUNCTION pro.heard()",
        "CREATE PUBLICATION heard FOR TABLE pro.chatmessage WITH (publish = 'insert, update, delete')",
        "CREATE PUBLICATION heard FOR TABLE pro.chatmessage WITH (publish_via_partition_root)",
    ],
    ids=["a trigger", "a trigger of the partition", "a subscriber", "a subscriber of the root"],
)
async def test_who_hears_of_deletes_and_not_of_a_truncate_hears_of_each_row_of_a_partition_that_goes(
    chats: ChatStore, listening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    truncated: list[str] = []
    truncate = Emptying._truncate

    async def listen(self: Emptying) -> None:
        truncated.append(self._partition.name)
        await truncate(self)

    monkeypatch.setattr(Emptying, "_truncate", listen)
    await chats.connection.execute(
        "CREATE FUNCTION pro.heard() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$"
    )
    for partition in await partitions(chats):
        await chats.connection.execute(f"ALTER TABLE pro.{partition} REPLICA IDENTITY FULL")
    await chats.chat()
    await chats.connection.execute(listening)
    report = await chats.purge()
    assert (report.state, report.chats, truncated) == ("finished", 1, [])
    assert "chatmessage_2022" in report.partitions_dropped


async def test_a_partition_in_use_is_left_to_the_batches_and_dropped_another_time(
    chats: ChatStore, database: str
) -> None:
    await chats.chat()
    reader = await asyncpg.connect(database)
    async with reader.transaction():
        await reader.fetch("SELECT * FROM pro.chatmessage_2022")
        report = await chats.purge()
        assert (report.state, report.chats) == ("finished", 1)
        assert "chatmessage_2022" in await partitions(chats)
    await reader.close()
    assert "chatmessage_2022" in (await chats.purge()).partitions_dropped


async def test_statistics_are_dropped_by_partitions_once_they_are_empty(chats: ChatStore) -> None:
    await chats.statistic(OLD, OLD)
    assert (await chats.purge()).partitions_dropped == ["chatmessage_2021", "chatmessage_2022"]
    report = await chats.purge(wish={"stats": True})
    assert report.entities["chatstats"] == 1
    assert report.partitions_dropped == ["chatstats_2021", "chatstats_2022"]


async def test_other_accounts_rows_keep_a_partition_that_they_share(chats: ChatStore, tmp_path: Path) -> None:
    gone = await chats.chat()
    theirs = await chats.chat()
    await chats.connection.execute(
        "ALTER TABLE pro.chatthread ADD firm text NOT NULL DEFAULT 'theirs';"
        f"UPDATE pro.chatthread SET firm = 'testcom' WHERE threadid = {gone}"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        files("retentiond.targets.chat_database")
        .joinpath("layouts/webim.yaml")
        .read_text()
        .replace("visitor: visitorid", "visitor: visitorid\n    account_column: firm")
        .replace("only_with: stats", "only_with: stats\n    account_column: operatorid")
    )
    report = await chats.purge(layout=str(layout))
    assert report.chats == 1
    assert await chats.chats() == {theirs}
    assert "chatmessage_2022" in await partitions(chats)


async def test_a_partition_that_a_view_reads_stays_empty_and_the_purge_goes_on(
    chats: ChatStore,
) -> None:
    await chats.connection.execute("CREATE VIEW pro.seen AS SELECT * FROM pro.chatmessage_2022")
    await chats.chat()
    await chats.statistic(OLD)
    with structlog.testing.capture_logs() as log:
        report = await chats.purge(wish={"stats": True})
    assert (report.state, report.chats, report.entities["chatstats"]) == ("finished", 1, 1)
    assert "chatmessage_2022" in await partitions(chats)
    (left,) = [entry for entry in log if entry["event"] == "partition_not_dropped"]
    assert (left["partition"], left["log_level"]) == ("chatmessage_2022", "warning")


async def test_a_trigger_that_raises_while_a_partition_goes_leaves_its_rows_to_the_batches(
    chats: ChatStore,
) -> None:
    gone, stays = await chats.chat(), await chats.chat()
    await chats.refuse_deletes("chatthread", stays, "not this one")
    report = await chats.purge(pace={"batch": 1})
    assert (report.chats, report.failed) == (1, {"database_refused": 1})
    assert gone not in await chats.chats()
    assert await chats.torn() == set()


async def test_one_chat_that_is_refused_keeps_no_other_of_its_partition(chats: ChatStore) -> None:
    # The partition went as a whole or not at all, and then its rows as one batch, which was refused as well.
    stays = await chats.chat()
    for _ in range(12):
        await chats.chat()
    await chats.refuse_deletes("chatrate", stays, "evidence")
    report = await chats.purge()
    assert (report.state, report.chats, report.partitions_dropped) == (
        "finished_with_failures",
        12,
        ["chatmessage_2021"],
    )
    assert [(one.row, one.table, one.trigger) for one in report.failures] == [
        (stays, "pro.chatrate", "refuse")
    ]
    assert await chats.chats() == {stays}
    assert await chats.torn() == set()
    assert await chats.connection.fetchval("SELECT count(*) FROM pro.chatmessage_2022") == 2
