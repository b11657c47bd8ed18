"""A purge in a real ClickHouse: what goes, what stays, and what it does when the server or the daemon does not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from retentiond.config.chat_stores import ClickHouseStore
from retentiond.model.errors import MissingRightError, UnreachableError
from retentiond.targets.chat_database.clickhouse import portions
from retentiond.targets.chat_database.clickhouse.store import open_clickhouse
from retentiond.targets.chat_database.store import NIL_UUID
from tests.support.stats_table import Stats
from tests.support.store_purge import HELD, Chats, Purge

CUTOFF = datetime(2023, 8, 21, tzinfo=UTC)


async def test_an_accounts_rows_before_the_date_go_and_all_others_stay(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await stats.add("other", first=CUTOFF - timedelta(hours=50), count=100)
    report = await stats.purge()
    assert (report.state, report.rows, report.error) == ("finished", 50, None)
    assert await stats.left() == 50
    assert await stats.left("other") == 100
    assert (
        await stats.value("SELECT min(toUnixTimestamp(created)) FROM t WHERE account = 'acme'")
        == CUTOFF.timestamp()
    )


async def test_a_dry_run_counts_and_changes_nothing(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    report = await stats.purge(Purge("acme", CUTOFF, purge_id=None, dry_run=True))
    assert (report.state, report.rows) == ("planned", 50)
    assert await stats.left() == 100
    assert await stats.marks() == 0


async def test_a_part_that_holds_nothing_else_is_dropped_and_no_mutation_is_needed(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=datetime(2023, 2, 1, tzinfo=UTC), count=100)
    assert (await stats.purge()).rows == 100
    assert await stats.left() == 0
    assert await stats.marks() == 0


async def test_a_part_with_one_row_of_another_account_is_not_dropped(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=datetime(2023, 2, 1, tzinfo=UTC), count=100)
    await stats.add("other", first=datetime(2023, 2, 1, tzinfo=UTC), count=1)
    await stats.do("OPTIMIZE TABLE t FINAL")
    assert (await stats.purge()).state == "finished"
    assert await stats.left("other") == 1


async def test_where_patch_parts_change_what_parts_hold_none_is_dropped(stats: Stats) -> None:
    await stats.make()
    await stats.do(
        "ALTER TABLE t MODIFY SETTING enable_block_number_column = 1, enable_block_offset_column = 1"
    )
    await stats.add(first=datetime(2023, 2, 1, tzinfo=UTC), count=100)
    await stats.do(
        "UPDATE retentiond_test.thread SET value = 'y' WHERE threadid = 1 SETTINGS allow_experimental_lightweight_update = 1"
    )
    assert (await stats.purge()).rows == 100
    assert await stats.marks() == 1


async def test_only_partitions_that_hold_rows_to_delete_are_rewritten_one_after_the_other(
    stats: Stats,
) -> None:
    await stats.make()
    for account in ("acme", "other"):
        await stats.add(account, first=datetime(2023, 6, 1, tzinfo=UTC), count=5, every=timedelta(days=20))
    await stats.do("OPTIMIZE TABLE t FINAL")
    assert (await stats.purge()).rows == 5
    assert await stats.marks() == 3
    assert await stats.left("other") == 5


async def test_a_hold_between_two_partitions_keeps_the_second_and_what_went_is_told(stats: Stats) -> None:
    await stats.make()
    for account in ("acme", "other"):
        await stats.add(account, first=datetime(2023, 6, 1, tzinfo=UTC), count=5, every=timedelta(days=20))
    await stats.do("OPTIMIZE TABLE t FINAL")
    report = await stats.purge(Purge("acme", CUTOFF, held_after=1))
    assert (report.state, report.rows, report.refused) == ("refused", 2, HELD)
    assert (await stats.left(), await stats.marks()) == (3, 1)


async def test_a_hold_between_two_parts_that_could_be_dropped_keeps_the_second(stats: Stats) -> None:
    await stats.make()
    for month in (2, 3):
        await stats.add(first=datetime(2023, month, 1, tzinfo=UTC), count=10)
    assert (await stats.purge(Purge("acme", CUTOFF, held_after=1))).rows == 10
    assert await stats.left() == 10


@pytest.mark.parametrize(
    "date", ["DateTime('Asia/Tokyo')", "DateTime64(3, 'America/New_York')", "Nullable(DateTime('UTC'))"]
)
async def test_the_boundary_is_the_same_moment_whatever_the_columns_time_zone(
    stats: Stats, date: str
) -> None:
    await stats.make(date=date, order="account", partition=None)
    await stats.add(first=CUTOFF - timedelta(seconds=2), count=5, every=timedelta(seconds=1))
    assert (await stats.purge()).rows == 2
    assert await stats.left() == 3


async def test_of_a_column_of_days_the_boundary_is_the_day_in_the_configured_zone(stats: Stats) -> None:
    await stats.make(date="Date", partition=None)
    await stats.add(first=datetime(2023, 8, 18, tzinfo=UTC), count=6, every=timedelta(days=1))
    for zone in ("America/Los_Angeles", "Pacific/Auckland"):
        cutoff = datetime(2023, 8, 21, tzinfo=ZoneInfo(zone))
        await stats.purge(Purge("acme", cutoff))
        assert str(await stats.value("SELECT min(created) FROM t")) == "2023-08-21"


async def test_chats_that_stay_are_left_out_by_their_ids_and_rows_without_one_stay_too(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(days=40), count=900)
    await stats.do(
        "INSERT INTO TABLE t (account, created, threadid) VALUES ('acme', '2023-01-01 00:00:00', NULL)"
    )
    staying = list(range(2, 901, 2))
    report = await stats.purge(Purge("acme", CUTOFF, chats=Chats(staying)))
    assert report.state == "finished"
    assert report.rows == 450
    assert await stats.value("SELECT countIf(threadid % 2 = 1) FROM t WHERE created < '2023-08-21'") == 0
    assert any("1 rows do not name a chat" in text for text in report.waiting)
    stats.config = stats.config.model_copy(update={"without_chat": "purge"})
    assert (await stats.purge(Purge("acme", CUTOFF, chats=Chats(staying)))).rows == 1


@pytest.mark.parametrize(
    ("kind", "no_chat"),
    [
        ("Nullable(Int64)", ["0", "NULL"]),
        ("UInt32", ["0"]),
        ("String", ["''", "'0'", f"'{NIL_UUID}'"]),
        ("Nullable(UUID)", [f"'{NIL_UUID}'", "NULL"]),
    ],
)
async def test_a_row_of_chat_zero_names_no_chat_and_goes_only_by_the_consent_for_those(
    stats: Stats, kind: str, no_chat: list[str]
) -> None:
    await stats.make(others=f", chat {kind}")
    for chat in no_chat:
        await stats.do(
            f"INSERT INTO TABLE t (account, created, chat) VALUES ('acme', '2023-01-01 00:00:00', {chat})"
        )
    stats.config = stats.config.model_copy(update={"thread_column": "chat"})
    report = await stats.purge(Purge("acme", CUTOFF))
    assert (report.state, report.rows) == ("finished", 0)
    assert any(f"{len(no_chat)} rows do not name a chat" in text for text in report.waiting)
    stats.config = stats.config.model_copy(update={"without_chat": "purge"})
    # A chat that has such an id after all keeps its rows.
    known = Chats([0 if no_chat[0] == "0" else no_chat[0].strip("'")])
    assert (await stats.purge(Purge("acme", CUTOFF, chats=known))).rows == len(no_chat) - 1
    assert (await stats.purge(Purge("acme", CUTOFF))).rows == 1
    assert await stats.left() == 0


async def test_more_chats_than_one_statement_names_are_looked_up_and_purged_a_bounded_number_at_a_time(
    stats: Stats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "_MOST_NUMBERS", 100)
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(days=90), count=2000)
    known = Chats(range(2, 2001, 2))
    report = await stats.purge(Purge("acme", CUTOFF, chats=known))
    assert (report.state, report.rows) == ("finished", 1000)
    assert await stats.value("SELECT countIf(threadid % 2 = 1) FROM t WHERE created < '2023-08-21'") == 0
    assert sorted(chat for page in known.asked for chat in page) == list(range(1, 2001))
    assert max(map(len, known.asked)) == 100
    # One statement for at least as many chats, not one for each look.
    assert await stats.marks() <= 10


async def test_ids_that_are_text_or_cannot_be_compared_stay_as_the_store_has_them(stats: Stats) -> None:
    await stats.make(others=", chat String")
    for chat in ("A-1", "a-1", "x", "n/a", ""):
        await stats.do(
            f"INSERT INTO TABLE t (account, created, chat) VALUES ('acme', '2023-01-01 00:00:00', '{chat}')"
        )
    await stats.do(
        "INSERT INTO TABLE t (account, created, chat) SELECT 'acme', '2023-01-01 00:00:00', unhex('ff')"
    )
    stats.config = stats.config.model_copy(update={"thread_column": "chat"})
    report = await stats.purge(Purge("acme", CUTOFF, chats=Chats(["A-1", "a-1"], unknown=["n/a"])))
    assert (report.state, report.rows) == ("finished", 1)
    assert await stats.left() == 5
    assert any(
        "1 chats have an ID that cannot be compared" in text and "n/a" in text for text in report.waiting
    )
    # The empty one, and one that is not UTF-8.
    assert any("2 rows do not name a chat" in text for text in report.waiting)


async def test_a_chat_that_the_database_has_keeps_its_rows_of_every_month(stats: Stats) -> None:
    await stats.make()
    for month in (1, 3, 8):
        for chat in (1, 2):
            await stats.row("acme", datetime(2023, month, 5, tzinfo=UTC), chat)
    report = await stats.purge(Purge("acme", CUTOFF, chats=Chats([2])))
    assert (report.state, report.rows) == ("finished", 3)
    assert await stats.chats("acme") == {2}


async def test_rows_of_chats_that_keep_only_messages_with_files_are_counted(stats: Stats) -> None:
    await stats.make()
    for month in (1, 3, 8):
        for chat in (1, 2, 3):
            await stats.row("acme", datetime(2023, month, 5, tzinfo=UTC), chat)
    known = Chats([2, 3], stripped=[2])
    for dry_run in (True, False):
        purge_id = None if dry_run else 1
        report = await stats.purge(Purge("acme", CUTOFF, purge_id, known, dry_run=dry_run))
        assert (report.rows, report.kept) == (3, {"has_file_messages": 3})
        assert any(
            "3 rows of chats that keep messages with files are kept completely" in text
            for text in report.waiting
        )


async def test_without_a_column_of_chats_rows_go_by_account_and_date_alone(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    stats.config = stats.config.model_copy(update={"thread_column": None, "without_chat": "purge"})
    report = await stats.purge(Purge("acme", CUTOFF))
    assert (report.state, report.rows) == ("finished", 50)


async def test_a_hostile_account_matches_nothing_but_itself(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=10)
    for account in ("' OR 1 --", "ac\\x6de", "%", "", "acme ", "acme\n"):
        assert (await stats.purge(Purge(account, CUTOFF))).rows == 0
    hostile = ["it's \\ {a}", "\\N", "a\tb", "\\"]
    for account in hostile:
        # As bytes, so that nothing is escaped on the way in.
        await stats.do(
            "INSERT INTO TABLE t (account, created, threadid) "
            f"SELECT unhex('{account.encode().hex()}'), '2023-08-01 00:00:00', 1 FROM numbers(3)"
        )
    await stats.do("OPTIMIZE TABLE t FINAL")
    for account in hostile:
        assert (await stats.purge(Purge(account, CUTOFF))).rows == 3
    assert await stats.left() == await stats.value("SELECT count() FROM t") == 10


async def test_a_date_that_no_column_holds_is_refused_before_it_matches_everything(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF, count=10)
    report = await stats.purge(Purge("acme", datetime(2300, 1, 1, tzinfo=UTC)))
    assert report.state == "refused"
    assert await stats.left() == 10


async def test_two_purges_at_once_both_end_well(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(days=100), count=3000)
    reports = await asyncio.gather(
        stats.purge(Purge("acme", CUTOFF)), stats.purge(Purge("acme", CUTOFF, purge_id=2))
    )
    assert [report.state for report in reports] == ["finished", "finished"]
    assert await stats.value("SELECT countIf(created < '2023-08-21') FROM t") == 0


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"engine": "Log", "partition": None}, "MergeTree family"),
        (
            {"engine": "ReplacingMergeTree", "order": "threadid", "partition": None, "others": ", n Int64"},
            "older one back",
        ),
        ({"date": "String", "partition": None}, "are dates"),
        ({"date": "Int64", "partition": None}, "are dates"),
    ],
)
async def test_a_table_in_which_a_delete_would_lie_is_refused(
    stats: Stats, table: dict[str, Any], word: str
) -> None:
    if "others" in table:
        table = table | {"order": "account"}
    await stats.make(**table)
    report = await stats.purge()
    assert report.state == "refused"
    assert report.refused is not None
    assert word in report.refused.hint


async def test_versions_of_a_row_that_agree_on_account_and_date_may_go(stats: Stats) -> None:
    await stats.make(engine="ReplacingMergeTree")
    for _ in range(2):
        await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    assert (await stats.purge()).state == "finished"
    assert await stats.value("SELECT count() FROM t FINAL WHERE created < '2023-08-21'") == 0


async def test_a_misspelt_table_or_column_is_refused_and_matches_neither_nothing_nor_everything(
    stats: Stats,
) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=10)
    for change in (
        {"table": "retentiond_test.threads"},
        {"date_column": "creatd"},
        {"account_column": "acount"},
    ):
        misspelt = Stats(stats.config.url[0])
        misspelt.config = stats.config.model_copy(update=change)
        assert (await misspelt.purge()).state == "refused"
    assert await stats.left() == 10


async def test_a_user_without_the_right_is_told_the_grant(stats: Stats) -> None:
    await stats.make()
    await stats.add(first=CUTOFF - timedelta(hours=50), count=10)
    await stats.add("other", first=CUTOFF - timedelta(hours=50), count=10)
    await stats.do("OPTIMIZE TABLE t FINAL")
    reader = stats.as_user("reader")
    async with reader.opened() as store:
        with pytest.raises(
            MissingRightError, match=r"GRANT ALTER DELETE ON retentiond_test\.thread TO reader;"
        ):
            await store.check()
    report = await reader.purge()
    assert report.state == "finished_with_failures"
    assert "ALTER DELETE" in (report.error or "")
    async with stats.opened() as store:
        assert await store.check() == []


async def test_a_user_who_sees_only_some_accounts_rows_takes_no_part_with_others_in_it(stats: Stats) -> None:
    await stats.make()
    for account in ("acme", "other"):
        await stats.add(account, first=datetime(2023, 2, 1, tzinfo=UTC), count=10)
    await stats.do("OPTIMIZE TABLE t FINAL")
    assert (await stats.as_user("narrow").purge()).rows == 10
    assert await stats.left("other") == 10


async def test_what_a_row_policy_hides_is_told_with_the_policy(stats: Stats) -> None:
    await stats.make()
    for account in ("acme", "other"):
        await stats.add(account, first=datetime(2023, 2, 1, tzinfo=UTC), count=10)
    await stats.do("DELETE FROM retentiond_test.thread WHERE threadid = 1")
    report = await stats.as_user("narrow").purge(Purge("other", CUTOFF))
    assert (report.state, report.rows) == ("finished", 0)
    assert any(
        "a row policy (account = 'acme') shows this user only a part" in text for text in report.waiting
    )
    assert not any("row policy" in text for text in (await stats.purge()).waiting)


async def test_a_row_whose_date_is_zero_or_not_there_has_none_and_stays(stats: Stats) -> None:
    await stats.make(date="Nullable(DateTime('UTC'))", order="account", partition=None)
    await stats.add(first=datetime(1970, 1, 1, tzinfo=UTC), count=3)
    await stats.add(first=CUTOFF - timedelta(hours=2), count=2)
    await stats.do("INSERT INTO TABLE t (account, created) VALUES ('acme', NULL)")
    report = await stats.purge()
    assert (report.state, report.rows) == ("finished", 2)
    assert await stats.left() == 4
    assert any("4 rows have no believable date" in text for text in report.waiting)


async def test_a_limit_of_the_users_profile_ends_a_count_with_an_error_and_not_early(stats: Stats) -> None:
    await stats.make(order="value")
    for month in range(1, 7):
        await stats.add(
            "acme" if month == 4 else "other", first=datetime(2023, month, 1, tzinfo=UTC), count=9
        )
    report = await stats.as_user("hasty").purge()
    assert await stats.left() == 9
    assert report.state == "finished_with_failures"


async def test_a_user_who_may_not_follow_a_mutation_is_told_so_before_one_is_sent(stats: Stats) -> None:
    await stats.make(partition=None)
    await stats.add(first=CUTOFF - timedelta(hours=50), count=100)
    blind = stats.as_user("blind")
    async with blind.opened() as store:
        with pytest.raises(MissingRightError, match=r"GRANT SELECT ON system\.mutations TO blind;"):
            await store.check()
    report = await blind.purge()
    assert report.state == "finished_with_failures"
    assert "system." in (report.error or "")
    assert await stats.left() == 100
    assert await stats.marks() == 0


async def test_a_misspelt_column_of_chats_is_told_before_any_chat_stays(stats: Stats) -> None:
    await stats.make()
    stats.config = stats.config.model_copy(update={"thread_column": "thredid"})
    async with stats.opened() as store:
        (problem,) = await store.check()
    assert "thredid" in problem


async def test_a_wrong_password_is_told_as_such(stats: Stats) -> None:
    with pytest.raises(UnreachableError, match="password"):
        await stats.as_user("reader", "wrong").purge()


async def test_a_server_that_is_not_there_is_unreachable(closed_port: int) -> None:
    with pytest.raises(UnreachableError, match="cannot be reached"):
        async with open_clickhouse(ClickHouseStore(url=f"http://127.0.0.1:{closed_port}")):
            pass


@pytest.mark.parametrize("kind", ["Int64", "Nullable(Int64)", "String"])
async def test_a_chats_id_that_is_empty_or_zero_is_none_and_the_row_stays(stats: Stats, kind: str) -> None:
    await stats.make(others=f", chat {kind}")
    await stats.do(
        "INSERT INTO TABLE t (account, created, chat) VALUES ('acme', '2023-01-01 00:00:00', DEFAULT), "
        "('acme', '2023-01-01 00:00:00', 7), ('acme', '2023-01-01 00:00:00', 8)"
    )
    seen = stats.as_user("nulls")
    seen.config = seen.config.model_copy(update={"thread_column": "chat"})
    report = await seen.purge(Purge("acme", CUTOFF, chats=Chats([7, "7"])))
    assert (report.state, report.rows) == ("finished", 1)
    assert await stats.left() == 2
    assert any("1 rows do not name a chat" in text for text in report.waiting)
