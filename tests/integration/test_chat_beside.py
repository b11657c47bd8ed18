"""The stores beside the database: told last, of all but the chats that stay, and remembered in the ledger."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from retentiond.adapters.metrics import Metrics
from retentiond.engine.target import NullProgress, PassOptions, Stop
from retentiond.model.errors import UsageError
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.model.purge import ReplicaReport, ShardReport, StoreReport
from retentiond.targets.chat_database import secondary
from retentiond.targets.chat_database.removal import Removal
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import CUTOFF, OLD, TO_DATE, ChatStore
from tests.support.secondary import BOTH, STORES, Beside, DiedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg

    from retentiond.engine.target import Progress
    from retentiond.model.report import TargetStatus
    from retentiond.targets.chat_database.store import StoreName, StorePurge


UUID_KEY = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


async def status(chats: ChatStore) -> TargetStatus:
    async with open_chat_database("chats", chats.config()) as target:
        return await target.status()


async def test_each_store_is_told_after_the_database_and_of_the_chats_that_stay(
    chats: ChatStore, stores: Beside
) -> None:
    goes = await chats.chat()
    stay = [
        await chats.chat(state="chatting"),
        await chats.chat(messages=(OLD, CUTOFF)),
        await chats.chat(files=1),
        await chats.chat(created=None),
    ]
    stay.append(await chats.chat(created=CUTOFF, modified=CUTOFF))
    stores.has = [goes, *stay, 10**6]
    dry = await chats.purge(dry_run=True, wish=BOTH, **STORES)
    report = await chats.purge(wish=BOTH, **STORES)
    assert stores.told == [("clickhouse", stay), ("elasticsearch", stay)] * 2
    assert [len(there) for there in stores.chats_then] == [6, 6, 5, 5]
    assert [store.state for store in dry.stores.values()] == ["planned", "planned"]
    assert {name: store.as_json() for name, store in report.stores.items()} == {
        "clickhouse": {"state": "finished", "rows": 7},
        "elasticsearch": {"state": "finished", "rows": 7},
    }
    # A dry run has nothing to write it down in.
    assert stores.notes == [{}, {}]
    assert set(stores.cutoffs) == {CUTOFF}


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Europe/Moscow", "Pacific/Pago_Pago"])
async def test_a_store_that_holds_days_is_told_the_day_of_the_date_wherever_its_midnight_is(
    chats: ChatStore, stores: Beside, zone: str
) -> None:
    wish = {"stores": ("clickhouse",)}
    for day in (TO_DATE, date.min):
        assert (await chats.purge(day, wish=wish, timezone=zone, **STORES)).state == "finished"
    assert [cutoff.date() for cutoff in stores.cutoffs] == [TO_DATE, date.min]


async def test_a_store_that_cannot_tell_the_chats_that_stay_is_refused_and_the_other_is_not(
    chats: ChatStore, stores: Beside
) -> None:
    await chats.chat(state="chatting")
    config = STORES | {"clickhouse": {"url": "http://localhost:8123"}}
    report = await chats.purge(wish=BOTH, **config)
    assert report.exit_status == 3
    refused = report.stores["clickhouse"].refused
    assert refused is not None
    assert (refused.limit, refused.value) == ("no_chat_ids", 1)
    assert [name for name, _ in stores.told] == ["elasticsearch"]


async def test_a_store_that_names_no_chats_is_purged_by_date_alone_only_where_that_is_asked_for(
    chats: ChatStore, stores: Beside
) -> None:
    await chats.chat()
    wish, nameless = {"stores": ("clickhouse",)}, {"url": "http://localhost:8123"}
    report = await chats.purge(wish=wish, clickhouse=nameless)
    refused = report.stores["clickhouse"].refused
    assert refused is not None
    assert (report.exit_status, refused.limit) == (3, "no_chat_ids")
    assert refused.hint.endswith("set it to the column or field of chat IDs")
    report = await chats.purge(wish=wish, clickhouse=nameless | {"without_chat": "purge"})
    assert report.exit_status == 0
    assert [name for name, _ in stores.told] == ["clickhouse"]
    await chats.chat(state="chatting")
    report = await chats.purge(wish=wish, clickhouse=nameless | {"without_chat": "purge"})
    assert report.exit_status == 3


async def test_a_store_that_is_not_configured_is_a_slip_and_nothing_is_purged(
    chats: ChatStore, stores: Beside
) -> None:
    chat = await chats.chat()
    for dry_run in (True, False):
        with pytest.raises(UsageError, match="chats has no `elasticsearch`"):
            await chats.purge(dry_run=dry_run, wish=BOTH, clickhouse=STORES["clickhouse"])
    assert (await chats.chats(), stores.told) == ({chat}, [])


async def test_a_hold_on_the_whole_account_refuses_every_store(chats: ChatStore, stores: Beside) -> None:
    await chats.chat()
    async with open_chat_database("chats", chats.config()) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", "testcom")))
    for dry_run in (True, False):
        report = await chats.purge(dry_run=dry_run, wish=BOTH, **STORES)
        assert [store.state for store in report.stores.values()] == ["refused", "refused"]
    assert stores.told == []


async def test_a_held_chat_that_the_database_has_no_more_stays_in_every_store(
    chats: ChatStore, stores: Beside
) -> None:
    gone = await chats.chat()
    await chats.purge()
    held = await chats.chat()
    async with open_chat_database("chats", chats.config()) as target:
        for chat in (str(gone), str(held), "no number"):
            await target.holds.add(HoldRequest(HoldSubject("account", "testcom", Narrowing(chat=chat))))
    stores.has = [gone, str(gone), held, 10**6]
    for dry_run in (True, False):
        await chats.purge(dry_run=dry_run, wish=BOTH, **STORES)
    assert [set(told) for _, told in stores.told] == [{gone, str(gone), held}] * 4


async def test_a_chat_that_begins_on_the_date_keeps_what_a_store_dates_before_it(
    chats: ChatStore, stores: Beside
) -> None:
    # Its first message came before its row was written; or a store's clock, or zone, is another.
    on_the_day = await chats.chat(created=CUTOFF, modified=CUTOFF, messages=(CUTOFF,))
    stores.has = [on_the_day]
    for dry_run in (True, False):
        await chats.purge(dry_run=dry_run, wish=BOTH, **STORES)
    assert [told for _, told in stores.told] == [[on_the_day]] * 4


@pytest.mark.parametrize("spelt", ["{} ", " {}", "+{}", "00{}"])
async def test_a_chat_whose_number_a_store_has_as_text_is_found_in_the_database(
    chats: ChatStore, stores: Beside, spelt: str
) -> None:
    stays = spelt.format(await chats.chat(state="chatting"))
    stores.has = [stays]
    await chats.purge(wish=BOTH, **STORES)
    assert [told for _, told in stores.told] == [[stays]] * 2


async def test_a_store_hears_which_chats_have_lost_all_but_their_messages_with_files(
    chats: ChatStore, stores: Beside
) -> None:
    wish = {"stores": ("clickhouse",)}
    stripped, refused, held = [await chats.chat(files=1) for _ in range(3)]
    stays = await chats.chat(state="chatting", files=1)
    stores.has = [stripped, refused, held, stays, 10**6]
    await chats.refuse_deletes("chatrate", refused, "not this one")
    assert (await chats.purge(dry_run=True, wish=wish, **STORES)).kept["has_file_messages"] == 3
    await chats.purge(wish=wish, pace={"batch": 1}, **STORES)
    async with open_chat_database("chats", chats.config()) as target:
        hold = HoldSubject("account", "testcom", Narrowing(chat=str(held)))
        await target.holds.add(HoldRequest(hold))
    await chats.purge(wish=wish, pace={"batch": 1}, **STORES)
    # The texts of one are there still, since the database refused to delete another row of it.
    assert stores.stripped == [[stripped, refused, held], [stripped, held], [stripped]]
    await chats.message(stripped, OLD)
    await chats.refuse_deletes_of_all("chatmessage")
    await chats.purge(wish=wish, pace={"batch": 1}, **STORES)
    assert stores.stripped[-1] == []


async def test_a_hold_that_is_put_on_after_the_survey_keeps_what_a_store_has_of_a_chat_with_files(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await chats.chat(files=1)
    stores.has = [chat]
    run = Removal.run

    async def then_hold(self: Removal, *given: Any) -> None:
        await run(self, *given)
        async with open_chat_database("chats", chats.config()) as target:
            hold = HoldSubject("account", "testcom", Narrowing(chat=str(chat)))
            await target.holds.add(HoldRequest(hold))

    monkeypatch.setattr(Removal, "run", then_hold)
    await chats.purge(wish=BOTH, **STORES)
    assert stores.stripped == [[], []]


async def test_zero_is_the_id_of_a_chat_only_where_the_database_has_that_chat(
    chats: ChatStore, stores: Beside
) -> None:
    stores.has = [0, "0"]
    await chats.purge(wish=BOTH, **STORES)
    await chats.insert("chatthread", threadid=0, created=OLD, modified=OLD, state="chatting")
    await chats.purge(wish=BOTH, **STORES)
    assert [told for _, told in stores.told] == [[0, "0"]] * 4


async def test_an_id_that_the_database_cannot_have_stays_and_a_number_too_large_for_its_key_is_gone(
    chats: ChatStore, stores: Beside
) -> None:
    stores.has = ["chat-7", "7.0", "²", "", 10**30, str(10**30)]
    await chats.purge(wish=BOTH, **STORES)
    assert [told for _, told in stores.told] == [["chat-7", "7.0", "²", ""]] * 2


@pytest.mark.parametrize(
    ("key_type", "key", "spelt"),
    [
        ("uuid", UUID_KEY, UUID_KEY.replace("-", "").upper()),
        ("text", UUID_KEY, UUID_KEY.replace("-", "").upper()),
        ("character varying(40)", "Chat-7", " chat-7"),
        ("character(40)", "Chat-7", "CHAT-7"),
    ],
)
async def test_a_chat_stays_in_a_store_however_its_id_is_spelt_there(
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    stores: Beside,
    tmp_path: Path,
    key_type: str,
    key: str,
    spelt: str,
) -> None:
    await connection.execute(
        f"CREATE TABLE public.talk (id {key_type} PRIMARY KEY, began bigint, over boolean);"
        f"INSERT INTO talk VALUES ('{key}', extract(epoch FROM timestamptz '2020-01-01Z')::bigint, false)"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        "chat: talk\nschema: public\ndates: {type: seconds}\nentities:\n"
        "  talk: {class: facts, key: id, dates: [began], state: {column: over, over: ['true']}}\n"
    )
    stores.has = [spelt, UUID_KEY.replace("a", "b")]
    given: dict[str, Any] = {"layout": str(layout), "accounts": {"one": {}}, "account": "one"}
    await ChatStore(database, connection).purge(wish=BOTH, **given, **STORES)
    assert [told for _, told in stores.told] == [[spelt]] * 2


async def test_chats_that_the_database_refuses_to_delete_stay_in_the_stores_and_the_others_go(
    chats: ChatStore, stores: Beside
) -> None:
    stubborn, goes = await chats.chat(), await chats.chat()
    stores.has = [stubborn, goes]
    await chats.refuse_deletes("chatthread", stubborn, "not this one")
    report = await chats.purge(wish=BOTH, pace={"batch": 1}, **STORES)
    assert report.state == "finished_with_failures"
    assert [told for _, told in stores.told] == [[stubborn]] * 2


async def test_what_a_store_has_not_done_is_in_the_ledger_and_the_next_purge_goes_on(
    chats: ChatStore, stores: Beside
) -> None:
    await chats.chat()
    stores.down = {"elasticsearch"}
    with capture_logs() as log:
        report = await chats.purge(wish=BOTH, **STORES)
    (entry,) = (entry for entry in log if entry["event"] == "item_failed")
    assert (entry["log_level"], entry["store"]) == ("error", "elasticsearch")
    assert (report.state, report.exit_status) == ("finished_with_failures", 4)
    assert report.stores["clickhouse"].state == "finished"
    assert report.stores["elasticsearch"].error == "elasticsearch cannot be reached; try again"
    (problem,) = (await status(chats)).problems
    assert problem.startswith("testcom: elasticsearch is interrupted since ")
    assert problem.endswith(
        " (elasticsearch cannot be reached; try again); purge it again up to 2023-08-21 to continue"
    )
    stores.down = set()
    stores.notes.clear()
    await chats.purge(wish={"stores": ("elasticsearch",)}, **STORES)
    assert stores.notes == [{"begun": 2}]
    assert (await status(chats)).problems == ()


async def test_a_death_in_one_store_leaves_word_of_the_one_that_was_not_begun(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.chat()

    async def die(self: Beside, purge: StorePurge, progress: Progress) -> StoreReport:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(Beside, "purge", die)
        with pytest.raises(DiedError):
            await chats.purge(wish=BOTH, **STORES)
    told = [problem.partition(" since ")[0] for problem in (await status(chats)).problems]
    assert told == ["testcom: clickhouse is running", "testcom: elasticsearch is pending"]
    await chats.purge(wish=BOTH, **STORES)
    assert [name for name, _ in stores.told] == ["clickhouse", "elasticsearch"]
    assert (await status(chats)).problems == ()


async def test_a_death_in_the_databases_part_leaves_no_word_of_the_stores_that_were_to_come(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.chat()

    async def die(*_: object) -> None:
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(Removal, "run", die)
        with pytest.raises(DiedError):
            await chats.purge(wish=BOTH, **STORES)
    told = [problem.partition(" since ")[0] for problem in (await status(chats)).problems]
    assert told == ["testcom: clickhouse is pending", "testcom: elasticsearch is pending"]
    await chats.purge(wish=BOTH, **STORES)
    assert (await status(chats)).problems == ()


async def test_a_purge_up_to_an_earlier_date_makes_one_forgotten_that_was_not_done(
    chats: ChatStore, stores: Beside
) -> None:
    await chats.chat()
    stores.down = {"clickhouse"}
    await chats.purge(wish={"stores": ("clickhouse",)}, **STORES)
    stores.down.clear()
    for to_date, done in ((date(2020, 1, 1), False), (TO_DATE, True)):
        report = await chats.purge(to_date, wish={"stores": ("clickhouse",)}, **STORES)
        assert report.stores["clickhouse"].state == "finished"
        problems = (await status(chats)).problems
        assert not problems if done else "purge it again up to 2023-08-21" in problems[0]


async def test_a_store_at_work_is_no_problem(chats: ChatStore, stores: Beside) -> None:
    await chats.chat()
    told: list[tuple[str, ...]] = []

    async def ask() -> None:
        told.append((await status(chats)).problems)

    stores.steps = [ask]
    await chats.purge(wish=BOTH, **STORES)
    assert told == [(), ()]


async def test_a_store_that_is_down_for_days_is_told_at_each_pass_and_status_says_since_when(
    chats: ChatStore, stores: Beside
) -> None:
    stores.down = {"clickhouse"}
    config = {"accounts": {"testcom": {"schema": "pro", "keep": "400d", "clickhouse": True}}, **STORES}
    metrics = Metrics()
    since = set()
    for number in range(1, 4):
        gone, stays = await chats.chat(), await chats.chat(state="chatting")
        with capture_logs() as log:
            report = await chats.run_pass(**config)
        metrics.passed(report)
        (told,) = (entry for entry in log if entry["event"] == "item_failed")
        assert (told["log_level"], told["store"]) == ("error", "clickhouse")
        # The database does not wait for it.
        assert {gone, stays} & await chats.chats() == {stays}
        standing = await status(chats)
        (problem,) = standing.problems
        since.add(problem.partition(" since ")[2].partition(" ")[0])
        metrics.stands(standing)
        labels = {"target": "chats", "state": "finished_with_failures"}
        assert metrics.registry.get_sample_value("retentiond_passes_total", labels) == number
        assert metrics.registry.get_sample_value("retentiond_problems", {"target": "chats"}) == 1
    assert len(since) == 1
    undone = await chats.connection.fetchrow(
        "SELECT undone_since < (SELECT max(started_at) FROM retentiond.pass) AS first FROM retentiond.chat_store"
    )
    assert undone is not None
    assert undone["first"]
    stores.down.clear()
    await chats.run_pass(**config)
    metrics.stands(await status(chats))
    assert metrics.registry.get_sample_value("retentiond_problems", {"target": "chats"}) == 0


async def test_a_store_that_the_target_does_not_have_is_told_before_anything_is_purged(
    chats: ChatStore,
) -> None:
    chat = await chats.chat()
    for dry_run in (True, False):
        with pytest.raises(UsageError, match="clickhouse"):
            await chats.purge(dry_run=dry_run, wish=BOTH)
    assert await chats.chats() == {chat}


async def test_status_advises_to_purge_what_a_longer_keep_has_stay(chats: ChatStore, stores: Beside) -> None:
    def keeping(days: int) -> dict[str, Any]:
        account = {"schema": "pro", "keep": f"{days}d", "clickhouse": True}
        return {"accounts": {"testcom": account}, **STORES}

    stores.down = {"clickhouse"}
    await chats.run_pass(**keeping(400))
    async with open_chat_database("chats", chats.config(**keeping(500))) as target:
        (problem,) = (await target.status()).problems
    until = datetime.now(UTC).date() + timedelta(days=100)
    assert re.search(
        rf"the schedule continues it on ({until}|{until - timedelta(days=1)}); a purge by hand", problem
    )


async def test_status_promises_no_schedule_for_a_store_that_the_account_has_purged_by_hand_alone(
    chats: ChatStore, stores: Beside
) -> None:
    config = {"accounts": {"testcom": {"schema": "pro", "keep": "36500d"}}, **STORES}
    stores.down = {"clickhouse"}
    await chats.purge(wish={"stores": ("clickhouse",)}, **config)
    async with open_chat_database("chats", chats.config(**config)) as target:
        (problem,) = (await target.status()).problems
    until = TO_DATE + timedelta(days=36500)
    assert problem.endswith(
        f"purge it again up to {TO_DATE} to continue: this also deletes chats that its `keep` would keep until {until}"
    )


async def test_asked_to_stop_it_begins_with_no_store(chats: ChatStore, stores: Beside) -> None:
    await chats.chat()
    stop = Stop()

    class Asking(NullProgress):
        """Asks to stop when a batch is gone."""

        def advance(self, items: int, size: int = 0) -> None:
            del items, size
            stop.ask()

    order = PassOptions("purge-chats", stop=stop, progress=Asking())
    report = await chats.purge(order=order, wish=BOTH, **STORES)
    assert (report.exit_status, report.chats) == (4, 1)
    assert [store.state for store in report.stores.values()] == ["interrupted", "interrupted"]
    assert stores.told == []


async def test_a_stop_is_heard_while_a_store_that_went_silent_is_looked_at(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = await chats.chat()
    stop = Stop()

    async def go_silent(_self: Beside) -> list[str]:
        stop.ask()
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(Beside, "check", go_silent)
    async with asyncio.timeout(60):
        report = await chats.purge(order=PassOptions("purge-chats", stop=stop), wish=BOTH, **STORES)
    assert report.exit_status == 4
    assert await chats.chats() == {chat}
    assert stores.told == []


async def test_a_stop_is_heard_while_a_store_is_opened_that_went_silent_after_the_look(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.chat()
    stop = Stop()

    @asynccontextmanager
    async def open_late(name: StoreName, config: object) -> AsyncIterator[Beside]:
        if not await chats.chats():
            stop.ask()
            await asyncio.Event().wait()
        async with stores.open(name, config) as store:
            yield store

    monkeypatch.setattr(secondary, "open_store", open_late)
    async with asyncio.timeout(60):
        report = await chats.purge(order=PassOptions("purge-chats", stop=stop), wish=BOTH, **STORES)
    assert (report.exit_status, report.chats, stores.told) == (4, 1, [])
    monkeypatch.setattr(secondary, "open_store", stores.open)
    await chats.purge(wish=BOTH, **STORES)
    assert [name for name, _ in stores.told] == ["clickhouse", "elasticsearch"]


async def test_a_schedule_touches_a_store_only_where_the_account_says_so(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def count(self: Beside, purge: StorePurge, progress: Progress) -> StoreReport:
        del purge, progress
        self.told.append((self.name, []))
        return StoreReport("finished")

    monkeypatch.setattr(Beside, "purge", count)
    account = {"schema": "pro", "keep": "400d", "elasticsearch": True}
    await chats.run_pass(accounts={"testcom": account}, **STORES)
    assert [name for name, _ in stores.told] == ["elasticsearch"]


SHARDS = (
    ShardReport("1", "finished", 3, 0, replicas=(ReplicaReport("n1", "finished", 0),)),
    ShardReport("2", "running", 1, 5, replicas=(ReplicaReport("n2", "unreachable", error="refused"),)),
)


async def test_the_state_by_shard_is_in_status_while_a_store_is_at_work_and_in_the_record_afterwards(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TargetStatus] = []

    async def purge(_self: Beside, purge: StorePurge, _progress: Progress) -> StoreReport:
        await purge.report_shards(SHARDS[:1])
        await purge.report_shards(SHARDS)
        await purge.report_shards(SHARDS)
        seen.append(await status(chats))
        return StoreReport("interrupted", 4, error="n2 cannot be reached", shards=SHARDS)

    monkeypatch.setattr(type(stores), "purge", purge)
    with capture_logs() as log:
        report = await chats.purge(wish={"stores": ("clickhouse",)}, **STORES)
    told = [shard.as_json() for shard in SHARDS]
    (running,) = seen[0].stores
    assert (running.state, running.shards) == ("running", {"shards": told})
    assert report.stores["clickhouse"].as_json()["shards"] == told
    (ended,) = (await status(chats)).stores
    assert (ended.state, ended.as_json()["shards"]) == ("interrupted", told)
    async with open_chat_database("chats", chats.config()) as target:
        (record,) = [one["body"] async for one in target.records() if one["kind"] == "store_purged"]
    assert record["shards"] == told
    progress = [entry["summary"] for entry in log if entry["event"] == "store_progress"]
    assert progress == ["1 of 1 shards finished", "1 of 2 shards finished, 1 running; 5 rows left"]
