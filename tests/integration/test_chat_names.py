"""The names of accounts: one that the configuration changes, and such as no SQL, no log and no store may trip over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import ChatStore
from tests.support.secondary import STORES, Beside

if TYPE_CHECKING:
    from retentiond.model.purge import PurgeReport

CLICKHOUSE = {"stores": ("clickhouse",)}
RENAMED: dict[str, Any] = {"account": "acme", "accounts": {"acme": {"schema": "pro"}}, **STORES}


async def hold(chats: ChatStore, account: str = "testcom", **narrowed: Any) -> None:
    config = chats.config(accounts={account: {"schema": "pro"}})
    async with open_chat_database("chats", config) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", account, Narrowing(**narrowed))))


def refused_by(report: PurgeReport) -> str:
    refused = report.stores["clickhouse"].refused
    assert refused is not None
    return str(refused.value)


async def test_an_account_that_is_renamed_loses_its_holds(chats: ChatStore, stores: Beside) -> None:
    held, due = await chats.chat(), await chats.chat()
    await hold(chats, chat=str(held))
    stores.has = [held, due]
    for dry_run in (True, False):
        report = await chats.purge(dry_run=dry_run, wish=CLICKHOUSE, **RENAMED)
        assert (report.kept["hold"], report.chats) == (1, 1)
    assert (await chats.chats(), due in await chats.chats()) == ({held}, False)
    assert [told for _, told in stores.told] == [[held]] * 2
    await hold(chats, visitor="1")
    assert refused_by(await chats.purge(wish=CLICKHOUSE, **RENAMED)) == "hold 2, on a visitor or on days"
    await hold(chats)
    assert refused_by(await chats.purge(wish=CLICKHOUSE, **RENAMED)) == "hold 3, on the whole account"


async def test_a_hold_on_an_account_elsewhere_holds_nothing_here(chats: ChatStore) -> None:
    await ChatStore(chats.dsn, chats.connection, "other").make()
    await chats.chat()
    config = chats.config(accounts={"other": {"schema": "other"}})
    async with open_chat_database("chats", config) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", "other")))
    assert (await chats.purge()).chats == 1


async def test_what_a_store_has_under_the_former_name_is_said_to_stay(
    chats: ChatStore, stores: Beside
) -> None:
    await chats.purge(wish=CLICKHOUSE, **STORES)
    report = await chats.purge(wish=CLICKHOUSE, **RENAMED)
    (waiting,) = report.stores["clickhouse"].waiting
    assert waiting.startswith("rows under testcom, a former name of the account, are kept")
    assert stores.told[0] == stores.told[1]


async def test_what_is_undone_under_a_name_that_is_no_more_says_how_to_go_on(
    chats: ChatStore, stores: Beside
) -> None:
    stores.down = {"clickhouse"}
    await chats.purge(wish=CLICKHOUSE, **STORES)
    async with open_chat_database("chats", chats.config(accounts={"acme": {"schema": "pro"}})) as target:
        (problem,) = (await target.status()).problems
    assert problem.startswith("testcom: clickhouse is interrupted since ")
    assert problem.endswith(
        "; chats no longer has this account: add it again, and purge it up to 2023-08-21 to continue"
    )


@pytest.mark.parametrize("account", ["100%", "a\\b", "%s$1{top}", "o'Brien\"; --", "ünï-Ω-日本", "[red]x"])
async def test_an_account_with_an_odd_name_is_purged_held_and_recorded_under_it(
    chats: ChatStore, stores: Beside, account: str
) -> None:
    held, due = await chats.chat(), await chats.chat()
    await hold(chats, account, chat=str(held))
    config: dict[str, Any] = {"accounts": {account: {"schema": "pro"}}, **STORES}
    stores.has = [held, due]
    stores.down = {"clickhouse"}
    report = await chats.purge(account=account, wish=CLICKHOUSE, **config)
    assert (report.chats, report.kept["hold"]) == (1, 1)
    assert due not in await chats.chats()
    stores.down.clear()
    async with open_chat_database("chats", chats.config(**config)) as target:
        assert (await target.status()).problems[0].startswith(f"{account}: clickhouse is interrupted")
        await chats.purge(account=account, wish=CLICKHOUSE, **config)
        assert (await target.status()).problems == ()
        bodies = [r["body"] async for r in target.records() if r["kind"] in {"purged", "store_purged"}]
    assert {body["account"] for body in bodies} == {account}
    assert stores.told == [("clickhouse", [held])]
