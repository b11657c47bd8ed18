"""Holds and stores beside the database: what comes too late for one step stops the next, and what a store cannot be told refuses it."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from retentiond.model.errors import LeaseLostError, UnreachableError
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database import store_request
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import TO_DATE, ChatStore
from tests.support.secondary import BOTH, STORES, Beside, DiedError

if TYPE_CHECKING:
    from retentiond.engine.target import Progress
    from retentiond.model.holds import Coverage
    from retentiond.model.purge import StoreReport
    from retentiond.targets.chat_database.store import StorePurge

CLICKHOUSE = {"stores": ("clickhouse",)}


async def hold(chats: ChatStore, account: str = "testcom", **narrowed: Any) -> Coverage:
    config = chats.config(accounts={"testcom": {"schema": "pro"}, "other": {"schema": "other"}})
    async with open_chat_database("chats", config) as target:
        _, coverage = await target.holds.add(
            HoldRequest(HoldSubject("account", account, Narrowing(**narrowed)))
        )
    return coverage


async def test_a_hold_that_is_put_on_while_a_store_is_at_work_does_not_stop_it(
    chats: ChatStore, stores: Beside
) -> None:
    gone = await chats.chat()

    async def hold_it() -> None:
        await hold(chats, chat=str(gone))

    stores.steps = [hold_it, hold_it]
    with capture_logs() as log:
        report = await chats.purge(wish=BOTH, **STORES)
    # The other store reckons with the first hold, and is stopped by the second.
    assert stores.taken == 2
    refused = [store.refused for store in report.stores.values()]
    assert [refusal and refusal.value for refusal in refused] == [
        "hold 1, added while the store was being purged",
        "hold 2, added while the store was being purged",
    ]
    assert report.exit_status == 3
    assert [entry["event"] for entry in log].count("pass_refused") == 2
    stores.steps.clear()
    stores.has = [gone]
    report = await chats.purge(wish=BOTH, **STORES)
    assert report.exit_status == 0
    assert stores.told[-1] == ("elasticsearch", [gone])


async def test_a_hold_on_another_account_does_not_stop_it(chats: ChatStore, stores: Beside) -> None:
    await ChatStore(chats.dsn, chats.connection, "other").make()
    await chats.chat()

    async def hold_another() -> None:
        await hold(chats, "other")

    stores.steps = [hold_another, hold_another]
    report = await chats.purge(wish=CLICKHOUSE, **STORES)
    assert (stores.taken, report.exit_status) == (2, 0)


async def test_who_puts_on_a_hold_hears_of_the_step_that_is_under_way(
    chats: ChatStore, stores: Beside
) -> None:
    await ChatStore(chats.dsn, chats.connection, "other").make()
    await chats.chat()
    told: list[Coverage] = []

    async def hold_both() -> None:
        told.extend([await hold(chats, visitor="1"), await hold(chats, "other", visitor="1")])

    stores.steps = [hold_both]
    await chats.purge(wish=CLICKHOUSE, **STORES)
    assert [coverage.under_way for coverage in told] == [("clickhouse",), ()]


async def test_a_hold_that_comes_in_the_middle_of_a_step_ends_what_was_sent(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_request, "EVERY", 0.01)
    await chats.chat()

    async def hold_and_wait() -> None:
        await hold(chats, chat="7")
        async with asyncio.timeout(60):
            while not stores.halted:
                await asyncio.sleep(0.01)

    stores.steps = [hold_and_wait, hold_and_wait]
    report = await chats.purge(wish=CLICKHOUSE, **STORES)
    assert stores.halted == [("clickhouse", {"begun": 1})]
    assert (stores.taken, report.stores["clickhouse"].state) == (1, "refused")


@pytest.mark.parametrize("narrowed", [{}, {"chat": "7"}])
async def test_what_a_death_left_at_work_is_followed_though_a_hold_came_since(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch, narrowed: dict[str, Any]
) -> None:
    await chats.chat()

    async def send_and_die(self: Beside, purge: StorePurge, progress: Progress) -> StoreReport:
        del self, progress
        await purge.begin_step({"mark": "m"})
        raise DiedError

    with monkeypatch.context() as patched:
        patched.setattr(Beside, "purge", send_and_die)
        with pytest.raises(DiedError):
            await chats.purge(wish=CLICKHOUSE, **STORES)
    assert (await hold(chats, **narrowed)).under_way == ("clickhouse",)
    assert stores.halted == []
    await chats.purge(wish=CLICKHOUSE, **STORES)
    assert stores.halted == [("clickhouse", {"mark": "m"})]


async def test_what_was_left_at_work_is_followed_where_no_hold_came_since(
    chats: ChatStore, stores: Beside
) -> None:
    await hold(chats, chat="7")

    async def lose() -> None:
        raise UnreachableError("lost; try again")

    stores.steps = [lose]
    await chats.purge(wish=CLICKHOUSE, **STORES)
    stores.steps = []
    report = await chats.purge(wish=CLICKHOUSE, **STORES)
    assert (report.exit_status, stores.halted, stores.notes[-1]) == (0, [], {"begun": 1})


async def test_a_step_is_not_taken_once_another_has_taken_the_work_over(
    chats: ChatStore, stores: Beside
) -> None:
    await chats.chat()

    async def take_over() -> None:
        await chats.connection.execute("UPDATE retentiond.lease SET epoch = epoch + 1")

    stores.steps = [take_over, take_over]
    report = await chats.purge(wish=CLICKHOUSE, **STORES)
    assert (stores.taken, report.state) == (1, "interrupted")
    assert str(LeaseLostError("another retentiond took the store over"))[:20] in str(report.error)


@pytest.mark.parametrize(
    ("narrowed", "refuses"),
    [
        ({"visitor": "1"}, True),
        ({"visitor": "1", "begin": date(2020, 1, 1)}, True),
        ({"begin": date(2020, 1, 1), "before": date(2020, 2, 1)}, True),
        ({"before": date(2020, 2, 1)}, True),
        ({"begin": date(2023, 8, 20)}, True),
        # What begins before the date and goes on into these days is there still.
        ({"begin": TO_DATE}, False),
        ({"chat": "1"}, False),
        ({"chat": "1", "begin": date(2020, 1, 1)}, False),
    ],
)
async def test_a_hold_on_chats_that_only_a_store_has_still_is_lost_on_it(
    chats: ChatStore, stores: Beside, narrowed: dict[str, Any], refuses: bool
) -> None:
    await chats.chat()
    await chats.purge()
    await hold(chats, **narrowed)
    for dry_run in (True, False):
        report = await chats.purge(dry_run=dry_run, wish=CLICKHOUSE, **STORES)
        assert report.exit_status == (3 if refuses else 0)
        if refuses:
            refused = report.stores["clickhouse"].refused
            assert refused is not None
            assert refused.value == "hold 1, on a visitor or on days"
            assert "hold add --account NAME --chat ID" in refused.hint
    assert bool(stores.told) != refuses


async def test_a_held_chat_stays_in_a_store_however_large_or_odd_its_number_is(
    chats: ChatStore, stores: Beside
) -> None:
    for chat in ("-5", "9" * 19, "²"):
        await hold(chats, chat=chat)
    stores.has = [-5, int("9" * 19), "²", 5, int("9" * 18)]
    await chats.purge(wish=CLICKHOUSE, **STORES)
    assert stores.told == [("clickhouse", [-5, int("9" * 19), "²"])]
