"""What will not do in a store is said before anything is deleted, and whether it keeps the database from its purge."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from retentiond.model.errors import UsageError
from retentiond.targets.chat_database import secondary
from tests.support.secondary import BOTH, STORES, Beside

if TYPE_CHECKING:
    from tests.support.chats import ChatStore

NO_COLUMN = "clickhouse: no column creatd; set date_column to a column of the table"
SCHEDULED = {"testcom": {"schema": "pro", "keep": "400d", "clickhouse": True}}


@pytest.mark.parametrize(
    ("store", "module"),
    [
        ("clickhouse", "clickhouse_connect"),
        # Its client is there, and the asynchronous part of it is not.
        ("clickhouse", "aiohttp"),
        ("elasticsearch", "opensearchpy"),
        ("elasticsearch", "aiohttp"),
    ],
)
async def test_a_missing_extra_is_noticed_only_after_the_database_was_purged(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, store: str, module: str
) -> None:
    chat = await chats.chat()
    for client in ("clickhouse_connect", "elasticsearch", "opensearchpy"):
        # One that is loaded without aiohttp would stay halved for all tests after this.
        import_module(client)
    monkeypatch.setitem(sys.modules, module, None)
    for dry_run in (True, False):
        with pytest.raises(
            UsageError, match=rf"needs {module}, .*; pip install 'retentiond\[{store}\]'$"
        ) as raised:
            await chats.purge(dry_run=dry_run, wish={"stores": (store,)}, **STORES)
        assert raised.value.exit_status == 2
    assert await chats.chats() == {chat}


async def test_by_hand_a_store_that_will_not_do_is_refused_before_anything_goes(
    chats: ChatStore, stores: Beside
) -> None:
    chat = await chats.chat()
    stores.problems["clickhouse"] = [NO_COLUMN]
    report = await chats.purge(wish=BOTH, **STORES)
    assert (report.state, report.exit_status) == ("refused", 3)
    refused = report.refused
    assert refused is not None
    assert (refused.limit, refused.value) == ("clickhouse", "no column creatd")
    assert refused.hint == "set date_column to a column of the table"
    assert report.as_json()["stores"]["clickhouse"]["state"] == "refused"
    assert (await chats.chats(), stores.told) == ({chat}, [])


async def test_a_dry_run_tells_it_and_counts_all_the_same(chats: ChatStore, stores: Beside) -> None:
    await chats.chat()
    stores.problems["clickhouse"] = [NO_COLUMN]
    report = await chats.purge(dry_run=True, wish=BOTH, **STORES)
    assert (report.chats, report.exit_status) == (1, 3)
    assert {name: store.state for name, store in report.stores.items()} == {
        "clickhouse": "refused",
        "elasticsearch": "planned",
    }


@pytest.mark.parametrize("fault", ["missing", "problem"])
async def test_by_schedule_the_database_goes_and_the_store_is_told_before_and_after(
    chats: ChatStore, stores: Beside, fault: str
) -> None:
    await chats.chat()
    stay = await chats.chat(state="chatting")
    if fault == "missing":
        stores.missing.add("clickhouse")
    else:
        stores.problems["clickhouse"] = [NO_COLUMN]
    with capture_logs() as log:
        report = await chats.run_pass(accounts=SCHEDULED, **STORES)
    told = [entry["event"] for entry in log]
    assert told.index("store_not_ready") < told.index("pass_started")
    assert told[-1] == "pass_finished"
    assert {"pass_refused", "item_failed"} & set(told)
    assert (report.state, stores.told) == ("finished_with_failures", [])
    assert await chats.chats() == {stay}


async def test_a_store_that_comes_back_between_the_look_and_its_turn_is_purged(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.chat()
    stores.down = {"clickhouse"}
    look = secondary.SecondaryStores.check_stores

    async def look_and_mend(self: secondary.SecondaryStores, *arguments: object) -> None:
        await look(self, *arguments)  # type: ignore[arg-type]  # as it was asked
        stores.down.clear()

    monkeypatch.setattr(secondary.SecondaryStores, "check_stores", look_and_mend)
    report = await chats.purge(wish=BOTH, **STORES)
    assert [store.state for store in report.stores.values()] == ["finished", "finished"]
