"""The erasure of one visitor: which chats go, what stays and is said, and the proof that has no ID of the visitor."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from retentiond.engine.target import Erasure, PassOptions
from retentiond.model.errors import UsageError
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database.removal import Removal
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import ChatStore
from tests.support.secondary import STORES, Beside, DiedError

if TYPE_CHECKING:
    import asyncpg

    from retentiond.model.purge import PurgeReport

VISITOR = "20304050"
OTHER = 77
NOW = datetime.now(UTC)
YESTERDAY = NOW - timedelta(days=1)


@pytest.fixture
async def chats(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> ChatStore:
    store = ChatStore(database, connection)
    await store.make()
    await connection.execute(f"INSERT INTO pro.visitor VALUES ({VISITOR}, 'Vera'), ({OTHER}, 'Otto')")
    return store


async def chat(chats: ChatStore, visitor: int | None = int(VISITOR), **given: Any) -> int:
    made = await chats.chat(**given)
    await chats.connection.execute(
        "UPDATE pro.chatthread SET visitorid = $1 WHERE threadid = $2", visitor, made
    )
    return made


async def young(chats: ChatStore, visitor: int = int(VISITOR)) -> int:
    return await chat(chats, visitor, created=YESTERDAY, modified=YESTERDAY, messages=(YESTERDAY,))


async def erase(
    chats: ChatStore,
    visitor: str = VISITOR,
    *,
    dry_run: bool = False,
    wish: dict[str, Any] | None = None,
    **config: Any,
) -> PurgeReport:
    erasure = Erasure("testcom", visitor, **(wish or {}))
    async with open_chat_database("chats", chats.config(**config)) as target:
        return await target.erase(erasure, PassOptions("purge-chats"), dry_run=dry_run)


async def records(chats: ChatStore, kind: str = "erased") -> list[dict[str, Any]]:
    async with open_chat_database("chats", chats.config()) as target:
        assert (await target.verify_records()).broken is None
        return [one["body"] async for one in target.records() if one["kind"] == kind]


async def hold(chats: ChatStore, **narrowing: Any) -> None:
    async with open_chat_database("chats", chats.config()) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", "testcom", Narrowing(**narrowing))))


async def test_all_chats_of_the_visitor_go_with_their_files_and_those_of_others_stay(
    chats: ChatStore,
) -> None:
    await chat(chats)
    await chat(chats, files=2)
    stay = {await chat(chats, OTHER), await chat(chats, None)}
    dry = await erase(chats, dry_run=True)
    before = await chats.counts()
    report = await erase(chats)
    assert (report.state, report.exit_status, report.chats) == ("finished", 0, 2)
    assert dry.entities == report.entities
    after = await chats.counts()
    assert {table: before[table] - after[table] for table in before} == dict.fromkeys(before, 0) | dict(
        report.entities
    )
    assert await chats.chats() == stay
    assert await chats.torn() == set()
    assert report.erasure is not None
    assert (report.erasure.done, report.erasure.remaining) == (True, 0)


async def test_what_is_under_the_floor_stays_and_goes_only_with_a_reason_on_record(chats: ChatStore) -> None:
    old, fresh = await chat(chats), await young(chats)
    report = await erase(chats)
    assert (report.exit_status, report.kept["under_floor"], await chats.chats()) == (0, 1, {fresh})
    assert report.erasure is not None
    assert (report.erasure.remaining, report.erasure.done) == (1, False)
    refused = await erase(chats)
    assert (refused.exit_status, refused.refused and refused.refused.limit) == (3, "floor")
    with pytest.raises(UsageError, match="needs a reason"):
        await erase(chats, wish={"even_under_floor": True, "reason": " "})
    report = await erase(chats, wish={"even_under_floor": True, "reason": "request 2027-001"})
    assert (report.chats, await chats.chats()) == (1, set())
    told = (await records(chats))[-1]
    assert (told["reason"], told["even_under_floor"], told["done"]) == ("request 2027-001", True, True)
    assert old != fresh


async def test_no_table_record_or_log_has_the_id_of_the_visitor(chats: ChatStore) -> None:
    await chat(chats)
    with capture_logs() as log:
        await erase(chats, wish={"even_under_floor": True, "reason": "asked"})
        await erase(chats, wish={"even_under_floor": True, "reason": "asked"}, dry_run=True)
    assert VISITOR not in json.dumps(log, default=str)
    assert VISITOR not in json.dumps(
        [await records(chats, kind) for kind in ("pass_began", "purged", "erased", "pass_ended")]
    )
    tables = await chats.connection.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'retentiond'"
    )
    for row in tables:
        found = await chats.connection.fetchval(
            f"SELECT count(*) FROM {row['name']} r WHERE position($1 IN r::text) > 0", VISITOR
        )
        assert (row["name"], found) == (row["name"], 0)


async def test_the_proof_says_who_asked_when_and_what_went_and_two_visitors_have_two_hashes(
    chats: ChatStore,
) -> None:
    await chat(chats)
    await chat(chats, OTHER)
    for visitor in (VISITOR, str(OTHER)):
        await erase(chats, visitor)
    first, second = await records(chats)
    assert first["visitor"] != second["visitor"]
    assert len(first["visitor"]["hmac_sha256"]) == 64
    assert first["requested_by"]
    assert first["requested_at"]
    assert first["total"]["chats"] == 1
    assert first["total"]["entities"]["chatmessage"] == 2
    assert first["left"] == {"visitor.visitorid": 1, "chatvisitsession.visitorid": 0}


@pytest.mark.parametrize("narrowing", [{}, {"visitor": VISITOR}, {"chat": "1"}])
async def test_a_hold_on_any_chat_of_the_visitor_refuses_the_erasure_and_says_so(
    chats: ChatStore, narrowing: dict[str, str]
) -> None:
    there = {await chat(chats), await chat(chats)}
    await hold(chats, **narrowing)
    for dry_run in (True, False):
        report = await erase(chats, dry_run=dry_run, wish={"even_under_floor": True, "reason": "asked"})
        assert (report.exit_status, report.refused and report.refused.limit) == (3, "hold")
    assert await chats.chats() == there


async def test_a_hold_on_another_visitor_does_not_stand_in_the_way_of_any_store(
    chats: ChatStore, stores: Beside
) -> None:
    gone, held = await chat(chats), await chat(chats, OTHER)
    await hold(chats, visitor=str(OTHER))
    stores.has = [gone, held, 10**6]
    report = await erase(chats, **STORES)
    assert {name: store.state for name, store in report.stores.items()} == {
        "clickhouse": "finished",
        "elasticsearch": "finished",
    }
    assert {chat for _, kept in stores.told for chat in kept} == {held, 10**6}


async def test_a_store_loses_the_chats_of_the_visitor_and_no_orphan_of_another(
    chats: ChatStore, stores: Beside
) -> None:
    mine, other = await chat(chats), await chat(chats, OTHER)
    orphan = 10**6
    stores.has = [mine, str(mine), other, orphan]
    dry = await erase(chats, dry_run=True, **STORES)
    report = await erase(chats, **STORES)
    assert [kept for _, kept in stores.told] == [[other, orphan]] * 4
    assert (dry.exit_status, report.exit_status) == (0, 0)
    assert report.erasure is not None
    assert report.erasure.stores == {name: {"state": "finished", "rows": 7} for name in STORES}


async def test_a_store_that_was_not_reached_is_purged_of_the_same_chats_by_the_next_erasure(
    chats: ChatStore, stores: Beside
) -> None:
    mine = await chat(chats)
    stores.has = [mine, 10**6]
    stores.down = {"clickhouse"}
    report = await erase(chats, **STORES)
    assert (report.exit_status, report.erasure and report.erasure.done) == (4, False)
    async with open_chat_database("chats", chats.config(**STORES)) as target:
        assert any("clickhouse is interrupted" in problem for problem in (await target.status()).problems)
    stores.down, stores.told = set(), []
    report = await erase(chats, **STORES)
    assert (report.exit_status, report.chats) == (0, 0)
    assert stores.told[0] == ("clickhouse", [10**6])
    assert report.erasure is not None
    assert (report.erasure.done, report.erasure.chats) == (True, 1)
    told = await records(chats)
    assert [one["done"] for one in told] == [False, True]
    assert told[0]["erasure_id"] == told[1]["erasure_id"]


async def test_an_erasure_that_died_in_the_middle_counts_exactly_what_went_in_all(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        await chat(chats)
    count = Removal._count

    def die(self: Removal, *arguments: Any) -> None:
        count(self, *arguments)
        if arguments[1].chats == 2:
            raise DiedError

    monkeypatch.setattr(Removal, "_count", die)
    with pytest.raises(DiedError):
        await erase(chats, pace={"batch": 2})
    monkeypatch.undo()
    assert len(await chats.chats()) == 3
    report = await erase(chats, pace={"batch": 2})
    assert report.chats == 3
    (told,) = await records(chats)
    assert (told["total"]["chats"], told["total"]["entities"]["chatmessage"], told["done"]) == (5, 10, True)


async def test_an_erasure_does_not_end_what_a_purge_left_undone_in_a_store(
    chats: ChatStore, stores: Beside
) -> None:
    await chats.chat()
    stores.down = {"clickhouse"}
    await chats.purge(wish={"stores": ("clickhouse",)}, **STORES)
    stores.down = set()
    await chat(chats)
    await erase(chats, **STORES)
    state = await chats.connection.fetchrow(
        "SELECT state, cutoff::date::text AS day FROM retentiond.chat_store"
    )
    assert state is not None
    assert (state["state"], state["day"]) == ("interrupted", "2023-08-21")


async def test_chats_that_begin_after_the_request_stay_and_are_counted(chats: ChatStore) -> None:
    tomorrow = NOW + timedelta(days=2)
    await chat(chats)
    later = await chat(chats, created=tomorrow, modified=tomorrow, messages=(tomorrow,))
    report = await erase(chats, wish={"even_under_floor": True, "reason": "asked"})
    assert await chats.chats() == {later}
    assert report.erasure is not None
    assert (report.erasure.later, report.erasure.remaining, report.erasure.done) == (1, 0, True)


@pytest.mark.parametrize(
    ("visitor", "said"),
    [
        ("", "from 1 to 500 characters"),
        ("  ", "from 1 to 500 characters"),
        ("0", "mean a chat without a visitor"),
        ("0020304050", "in another spelling"),
        (" 20304050", "in another spelling"),
        ("Vera", "cannot hold"),
        ("99999999999999999999", "cannot hold"),
    ],
)
async def test_an_id_that_names_no_one_visitor_as_it_is_written_is_wrong_usage(
    chats: ChatStore, visitor: str, said: str
) -> None:
    there = {await chat(chats), await chat(chats, None)}
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=said), capture_logs() as log:
            await erase(chats, visitor, dry_run=dry_run)
        assert VISITOR not in json.dumps(log, default=str)
    assert await chats.chats() == there


async def retype(chats: ChatStore, kind: str, ids: dict[str, int]) -> None:
    """Let the column of visitors be of another type, and the chats have these IDs in it."""
    await chats.connection.execute(
        f"ALTER TABLE pro.chatthread DROP CONSTRAINT chatthread_visitorid_fkey, ALTER COLUMN visitorid TYPE {kind}"
    )
    for visitor, made in ids.items():
        await chats.connection.execute(
            f"UPDATE pro.chatthread SET visitorid = '{visitor}' WHERE threadid = {made}"
        )


@pytest.mark.parametrize("kind", ["text", "char(20)", "varchar(40)", "numeric(20)"])
async def test_ids_of_every_type_are_told_apart_and_padding_is_not_part_of_one(
    chats: ChatStore, kind: str
) -> None:
    ids = {"5": await chats.chat(), "55": await chats.chat()}
    await retype(chats, kind, ids)
    assert (await erase(chats, "5")).chats == 1
    assert await chats.chats() == {ids["55"]}


@pytest.mark.parametrize(
    ("kind", "visitor", "said"),
    [
        ("numeric", "0.00", "a chat without a visitor"),
        ("double precision", "-0", "a chat without a visitor"),
        ("numeric", "5.0", "in another spelling"),
    ],
)
async def test_a_number_in_another_spelling_erases_neither_its_visitor_nor_chats_without_one(
    chats: ChatStore, kind: str, visitor: str, said: str
) -> None:
    ids = {"0": await chats.chat(), "5": await chats.chat()}
    await retype(chats, kind, ids)
    with pytest.raises(UsageError, match=said):
        await erase(chats, visitor)
    assert await chats.chats() == set(ids.values())


async def test_letters_of_another_case_are_another_visitor(chats: ChatStore) -> None:
    mine, other = await chats.chat(), await chats.chat()
    await retype(chats, "text", {"Ab": mine, "aB": other})
    await erase(chats, "Ab")
    assert await chats.chats() == {other}


async def test_the_same_id_in_another_account_is_another_visitor(chats: ChatStore) -> None:
    other = ChatStore(chats.dsn, chats.connection, "other")
    await other.make()
    await chats.connection.execute(f"INSERT INTO other.visitor VALUES ({VISITOR}, 'Vera')")
    stays = await other.chat()
    await chats.connection.execute(f"UPDATE other.chatthread SET visitorid = {VISITOR}")
    await chat(chats)
    await erase(chats)
    assert (await chats.chats(), await other.chats()) == (set(), {stays})


async def test_no_partition_goes_with_an_erasure_even_an_empty_one(chats: ChatStore) -> None:
    await chats.connection.execute(
        "ALTER TABLE pro.chatmessage RENAME TO old;"
        "CREATE TABLE pro.chatmessage (LIKE pro.old) PARTITION BY RANGE (created);"
        "CREATE TABLE pro.m2021 PARTITION OF pro.chatmessage FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');"
        "CREATE TABLE pro.m2022 PARTITION OF pro.chatmessage FOR VALUES FROM ('2022-01-01') TO ('2023-01-01');"
        "CREATE INDEX ON pro.chatmessage (threadid); DROP TABLE pro.old"
    )
    await chat(chats)
    report = await erase(chats)
    assert (report.chats, report.partitions_dropped) == (1, [])
    assert await chats.connection.fetchval("SELECT to_regclass('pro.m2021') IS NOT NULL")
