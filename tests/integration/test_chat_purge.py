"""Which chats a purge takes, and which it leaves."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.demo.chat_show import MadeUpChats, make_chat_tables, make_up_chats
from retentiond.engine.target import NullProgress, PassOptions
from retentiond.model.errors import UsageError
from retentiond.targets.chat_database import batches, removal
from retentiond.targets.chat_database.batches import BatchSize
from tests.support.chats import CUTOFF, OLD, OUTSIDE, TO_DATE, ChatStore

if TYPE_CHECKING:
    import asyncpg

    from retentiond.config.chats import ChatPace

JUST_BEFORE = CUTOFF - timedelta(microseconds=1)


async def test_a_chat_that_is_due_goes_with_all_that_hangs_on_it(chats: ChatStore) -> None:
    session = await chats.session()
    await chats.chat(session=session)
    report = await chats.purge()
    assert report.state == "finished"
    assert dict(report.entities) == {
        "chatmessage": 2,
        "chatthreadhistory": 1,
        "surveyanswer": 1,
        "thread_category": 1,
        "chatrate": 1,
        "surveylaunch": 1,
        "chatthread": 1,
        "chatvisitsession": 1,
    }
    counts = await chats.counts()
    assert {table for table, rows in counts.items() if rows} == set(OUTSIDE)


@pytest.mark.parametrize(
    ("kept", "chat"),
    [
        ("open", {"state": "chatting"}),
        ("open", {"state": "a state of a later version"}),
        ("open", {"state": None}),
        ("newer", {"modified": CUTOFF}),
        ("newer", {"messages": (OLD, CUTOFF)}),
        ("undated", {"created": None}),
        ("undated", {"modified": None}),
        ("undated", {"messages": (OLD, None)}),
        ("undated", {"created": datetime(1970, 1, 1, tzinfo=UTC)}),
        ("undated", {"messages": (OLD, datetime(1970, 1, 1, tzinfo=UTC))}),
    ],
)
async def test_a_chat_that_is_open_newer_or_undated_stays_whole(
    chats: ChatStore, kept: str, chat: dict[str, Any]
) -> None:
    await chats.chat(**chat)
    before = await chats.counts()
    dry = await chats.purge(dry_run=True)
    real = await chats.purge()
    assert await chats.counts() == before
    assert dry.kept[kept] == real.kept[kept] == 1
    assert (real.entities.total(), dry.entities.total()) == (0, 0)


async def test_the_day_of_the_date_stays_and_all_before_it_goes(chats: ChatStore) -> None:
    before: dict[str, Any] = {"created": JUST_BEFORE, "modified": JUST_BEFORE, "messages": (JUST_BEFORE,)}
    await chats.chat(**before)
    stays = await chats.chat(created=CUTOFF, modified=CUTOFF, messages=(CUTOFF,))
    report = await chats.purge()
    assert await chats.chats() == {stays}
    # What began on the day is not among those that stay "although they began before it".
    assert report.kept.total() == 0


async def test_a_day_begins_at_midnight_in_the_configured_time_zone(chats: ChatStore) -> None:
    midnight = datetime(2023, 8, 20, 21, tzinfo=UTC)  # in Moscow
    earlier = midnight - timedelta(seconds=1)
    await chats.chat(created=earlier, modified=earlier, messages=(earlier,))
    stays = await chats.chat(created=midnight, modified=midnight, messages=(midnight,))
    await chats.purge(timezone="Europe/Moscow")
    assert await chats.chats() == {stays}


async def test_messages_with_files_and_their_chats_row_stay_unless_asked_for(chats: ChatStore) -> None:
    session = await chats.session()
    chat = await chats.chat(session=session, files=2)
    report = await chats.purge()
    assert report.kept["has_file_messages"] == 1
    assert (await chats.chats(), await chats.sessions()) == ({chat}, {session})
    kinds = await chats.ids("chatmessage", "kind")
    assert kinds == {13, 14}
    left = {table for table, rows in (await chats.counts()).items() if rows}
    assert left == {*OUTSIDE, "chatmessage", "chatthread", "chatvisitsession"}
    again = await chats.purge(wish={"file_messages": True})
    assert again.entities["chatmessage"] == 2
    assert await chats.chats() == set()


async def test_a_message_of_no_kind_has_no_file(chats: ChatStore) -> None:
    chat = await chats.chat(files=1)
    await chats.message(chat, OLD, kind=None)
    await chats.purge()
    assert await chats.ids("chatmessage", "kind") == {13}


async def test_a_session_goes_with_its_last_chat_and_one_that_never_had_a_chat_stays(
    chats: ChatStore,
) -> None:
    never, shared, done = await chats.session(), await chats.session(), await chats.session()
    await chats.chat(session=shared)
    stays = await chats.chat(session=shared, state="chatting")
    await chats.chat(session=done)
    await chats.chat(session=done)
    # Batches of one: the two chats of the last session go in different transactions.
    report = await chats.purge(pace={"batch": 1})
    assert report.entities["chatvisitsession"] == 1
    assert await chats.sessions() == {never, shared}
    assert await chats.chats() == {stays}


async def test_statistics_and_their_log_go_only_where_they_are_asked_for(chats: ChatStore) -> None:
    await chats.statistic(OLD, OLD, OLD)
    newer = await chats.statistic(CUTOFF, CUTOFF)
    logged_later = await chats.statistic(OLD, OLD, CUTOFF)
    assert "chatstats" not in (await chats.purge()).entities
    wish = {"stats": True}
    dry = await chats.purge(dry_run=True, wish=wish)
    report = await chats.purge(wish=wish)
    assert (report.entities["chatstats"], report.entities["chatstatslog"]) == (1, 2)
    assert dry.entities == report.entities
    assert await chats.ids("chatstats", "chatstatsid") == {newer, logged_later}


async def test_a_dry_run_counts_what_the_purge_takes_and_changes_nothing(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    chats = ChatStore(database, connection)
    await make_chat_tables(connection)
    made = MadeUpChats(600, datetime(2021, 1, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC))
    await make_up_chats(connection, made)
    before = await chats.counts()
    wish = {"stats": True}
    dry = await chats.purge(dry_run=True, wish=wish)
    assert await chats.counts() == before
    assert await connection.fetchval("SELECT to_regnamespace('retentiond')") is None
    real = await chats.purge(wish=wish, pace={"batch": 7})
    assert (dry.entities, dry.kept, dry.chats) == (real.entities, real.kept, real.chats)
    after = await chats.counts()
    gone = {table: before[table] - after[table] for table in before}
    assert gone == dict.fromkeys(before, 0) | dict(real.entities)
    assert all(dry.kept[reason] for reason in ("open", "newer", "has_file_messages"))


async def test_nothing_outside_the_layout_is_touched(chats: ChatStore) -> None:
    await chats.chat(session=await chats.session())
    other = ChatStore(chats.dsn, chats.connection, "other account")
    await other.make()
    await other.chat()
    await chats.connection.execute("CREATE TABLE public.chatmessage (threadid bigint, created timestamptz)")
    await chats.connection.execute("INSERT INTO public.chatmessage VALUES (1, $1)", OLD)

    async def outside() -> dict[str, Any]:
        tables = await chats.connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            # A session that is still ending may have temporary tables.
            r"WHERE schemaname NOT LIKE 'pg\_%' AND schemaname NOT IN ('information_schema', 'retentiond') "
            "AND NOT (schemaname = 'pro' AND tablename <> ALL ($1))",
            list(OUTSIDE),
        )
        return {
            row["name"]: await chats.connection.fetch(
                f"SELECT xmin, ctid, * FROM {row['name']} ORDER BY ctid"
            )
            for row in tables
        }

    before = await outside()
    report = await chats.purge(wish={"file_messages": True, "stats": True})
    assert report.chats == 1
    assert await outside() == before


async def test_a_purge_of_an_account_that_is_not_configured_exits_2(chats: ChatStore) -> None:
    with pytest.raises(UsageError, match="no account `nobody`") as error:
        await chats.purge(account="nobody")
    assert error.value.exit_status == 2


async def test_a_date_inside_the_floor_is_refused_with_the_latest_that_would_do(chats: ChatStore) -> None:
    chat = await chats.chat()
    latest = (datetime.now(UTC) - timedelta(days=400)).date()
    report = await chats.purge(latest + timedelta(days=1), floor="400d")
    assert (report.state, report.exit_status) == ("refused", 3)
    assert report.refused is not None
    assert report.refused.allowed == latest.isoformat()
    assert await chats.chats() == {chat}
    assert (await chats.purge(latest, floor="400d")).state == "finished"


async def test_the_longest_floor_of_the_classes_counts_since_a_chat_goes_whole(chats: ChatStore) -> None:
    report = await chats.purge(
        (datetime.now(UTC) - timedelta(days=700)).date(), floor={"messages": "183d", "facts": "3y"}
    )
    assert report.state == "refused"


async def test_by_the_other_date_rule_a_date_may_be_no_older_than_the_floor(chats: ChatStore) -> None:
    chat = await chats.chat()
    report = await chats.purge(date_rule="within")
    assert report.refused is not None
    assert report.refused.limit == "date_rule"
    assert await chats.chats() == {chat}
    recent = (datetime.now(UTC) - timedelta(days=30)).date()
    assert (await chats.purge(recent, date_rule="within")).chats == 1
    future = date.today() + timedelta(days=2)  # noqa: DTZ011 - any clock's tomorrow but one
    assert (await chats.purge(future, date_rule="within")).state == "refused"


async def test_a_second_purge_finds_nothing_more_to_do(chats: ChatStore) -> None:
    await chats.chat(files=1)
    await chats.chat()
    await chats.purge(TO_DATE)
    again = await chats.purge(TO_DATE)
    assert (again.entities.total(), again.kept["has_file_messages"]) == (0, 1)


async def test_batches_that_are_quick_take_more_chats_each_and_every_chat_goes_once(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FromOne(BatchSize):
        """Begins with a single chat, and never takes two batches at once."""

        def __init__(self, pace: ChatPace) -> None:
            super().__init__(pace)
            self.chats = 1

        def learn(self, chats: int, rows: int, seconds: float) -> None:
            super().learn(chats, rows, seconds)
            self.two_at_once = False

    taken: list[int] = []

    class Watch(NullProgress):
        def advance(self, items: int, size: int = 0) -> None:
            del size
            taken.append(items)

    monkeypatch.setattr(removal, "BatchSize", FromOne)
    monkeypatch.setattr(batches, "QUICK", float("inf"))
    monkeypatch.setattr(batches, "SLOW", float("inf"))
    for _ in range(8):
        await chats.chat()
    report = await chats.purge(order=PassOptions("purge-chats", progress=Watch()))
    assert (report.state, report.chats, taken) == ("finished", 8, [1, 2, 4, 1])
    assert await chats.chats() == set()
