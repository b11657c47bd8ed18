"""The proof of disposal of a purge of chats: of the database, and of each store beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retentiond.model.errors import UnreachableError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database import removal
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.secondary import BOTH, STORES, Beside

if TYPE_CHECKING:
    import pytest

    from retentiond.engine.target import Progress
    from retentiond.targets.chat_database.store import StorePurge
    from tests.support.chats import ChatStore

CLICKHOUSE = {"stores": ("clickhouse",)}


async def records(chats: ChatStore) -> list[dict[str, Any]]:
    """Return the records, once their chain was followed."""
    async with open_chat_database("chats", chats.config()) as target:
        assert (await target.verify_records()).broken is None
        return [record async for record in target.records()]


async def test_the_proof_of_disposal_says_nothing_of_the_stores(chats: ChatStore, stores: Beside) -> None:
    gone = await chats.chat()
    await chats.chat(state="chatting")
    await chats.purge(wish=BOTH, **STORES)
    found = await records(chats)
    assert [record["kind"] for record in found] == [
        "pass_began",
        "purged",
        "store_purged",
        "store_purged",
        "pass_ended",
    ]
    assert found[1]["body"]["chats"] == [gone]
    assert [record["body"] for record in found[2:4]] == [
        {
            "account": "testcom",
            "store": store,
            "to_date": "2023-08-21",
            "cutoff": "2023-08-21T00:00:00+00:00",
            "state": "finished",
            "rows": 7,
            "at_least": False,
            "kept": {},
            "waiting": [],
            "continued": False,
            "error": None,
            "refused": None,
        }
        for store in BOTH["stores"]
    ]


async def test_what_is_still_to_be_erased_and_what_failed_is_in_the_proof(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Beside, purge: StorePurge, progress: Progress) -> StoreReport:
        del self, progress
        await purge.begin_step({"mark": "m"})
        return StoreReport(
            "finished_with_failures", 3, ("5 old parts",), error="4 rows are left; run it again"
        )

    with monkeypatch.context() as patched:
        patched.setattr(Beside, "purge", fail)
        await chats.purge(wish=CLICKHOUSE, **STORES)
    await chats.purge(wish=CLICKHOUSE, **STORES)
    failed, done = (record["body"] for record in await records(chats) if record["kind"] == "store_purged")
    assert (failed["state"], failed["rows"], failed["waiting"]) == (
        "finished_with_failures",
        3,
        ["5 old parts"],
    )
    assert failed["error"] == "4 rows are left; run it again"
    assert [failed["continued"], done["continued"]] == [False, True]


async def test_a_store_that_was_lost_on_the_way_is_in_the_proof_and_one_that_was_refused_is_not(
    chats: ChatStore, stores: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(self: Beside, purge: StorePurge, progress: Progress) -> StoreReport:
        del self, purge, progress
        raise UnreachableError("lost; try again")

    with monkeypatch.context() as patched:
        patched.setattr(Beside, "purge", lose)
        await chats.purge(wish=CLICKHOUSE, **STORES)
    async with open_chat_database("chats", chats.config()) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", "testcom")))
    await chats.purge(wish=CLICKHOUSE, **STORES)
    (lost,) = (record["body"] for record in await records(chats) if record["kind"] == "store_purged")
    assert (lost["state"], lost["rows"], lost["error"]) == ("interrupted", 0, "lost; try again")


async def test_where_no_record_can_be_written_the_store_is_not_called_done(
    chats: ChatStore, stores: Beside
) -> None:
    async def spoil() -> None:
        await chats.connection.execute("ALTER TABLE retentiond.record ADD CHECK (content !~ 'store_purged')")

    stores.steps = [spoil]
    report = await chats.purge(wish=CLICKHOUSE, **STORES)
    assert report.state == "interrupted"
    assert "violates check constraint" in (report.error or "")
    async with open_chat_database("chats", chats.config()) as target:
        (problem,) = (await target.status()).problems
    assert problem.startswith("testcom: clickhouse is running since ")


async def test_a_batch_whose_commit_was_never_answered_is_in_no_report(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        await chats.chat()
    reach = removal._reach
    counted = []

    def lose_the_second(*told: Any) -> None:
        counted.append(told)
        if len(counted) == 2:
            # It is committed, and the way back is cut before anybody hears of it.
            raise ConnectionResetError("the connection was lost")
        reach(*told)

    monkeypatch.setattr(removal, "_reach", lose_the_second)
    report = await chats.purge(pace={"batch": 1})
    assert (report.state, report.chats, report.not_reached) == ("interrupted", 2, 2)
    assert report.entities["chatmessage"] == 4
    assert len(await chats.chats()) == 2
    ended = (await records(chats))[-1]
    assert (ended["kind"], ended["body"]["removed"]["items"]) == ("pass_ended", 2)
    assert ended["body"]["purges"][0]["entities"]["chatthread"] == 2
