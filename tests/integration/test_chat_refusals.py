"""Chats that the database does not let go: each is named, the others go, and the search for them is bounded."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import asyncpg
import pytest
import structlog
from rich.console import Console

from retentiond.engine.target import PassOptions
from retentiond.targets.chat_database import batch, removal
from retentiond.targets.chat_database.catalogue import read_catalogue
from retentiond.targets.chat_database.layout import read_layout
from retentiond.terminal.purge import show_purge
from tests.support.chats import OLD, ChatStore

if TYPE_CHECKING:
    from retentiond.targets.chat_database.batch import Page, Removed


async def refuse(chats: ChatStore, *refused: int, how: str = "RAISE 'evidence'") -> None:
    """Let a trigger refuse these chats, or all where none is named."""
    among = f"WHEN (old.threadid = ANY('{{{','.join(map(str, refused))}}}'))" if refused else ""
    await chats.connection.execute(
        f"CREATE FUNCTION pro.keep_evidence() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {how}; END$$;"
        f'CREATE TRIGGER "Evidence" BEFORE DELETE ON pro.chatrate FOR EACH ROW {among} '
        "EXECUTE FUNCTION pro.keep_evidence()"
    )


async def many(chats: ChatStore, number: int) -> list[int]:
    return [await chats.chat(messages=(OLD,)) for _ in range(number)]


async def test_one_chat_that_a_trigger_refuses_holds_back_its_whole_batch(chats: ChatStore) -> None:
    ids = await many(chats, 40)
    await refuse(chats, ids[17])
    with structlog.testing.capture_logs() as log:
        report = await chats.purge()
    assert (report.state, report.exit_status, report.chats) == ("finished_with_failures", 1, 39)
    assert (report.failed, report.not_reached) == ({"database_refused": 1}, 0)
    assert await chats.chats() == {ids[17]}
    assert await chats.torn() == set()
    told = {
        "chat": ids[17],
        "reason": "database_refused",
        "table": "pro.chatrate",
        "trigger": "Evidence",
        "error": "evidence",
    }
    assert report.as_json()["failures"] == [told]
    (entry,) = [entry for entry in log if entry["event"] == "item_failed"]
    assert told.items() <= entry.items()
    assert entry["account"] == "testcom"


async def test_a_schedule_does_not_name_the_chat_that_the_database_refuses(chats: ChatStore) -> None:
    ids = await many(chats, 5)
    await refuse(chats, ids[2])
    report = await chats.run_pass(accounts={"testcom": {"schema": "pro", "keep": "400d"}})
    (failure,) = report.as_json()["purges"][0]["failures"]
    assert (failure["chat"], failure["trigger"]) == (ids[2], "Evidence")
    assert json.dumps(report.as_json())


async def test_the_constraint_that_keeps_one_chat_is_not_named(chats: ChatStore) -> None:
    ids = await many(chats, 9)
    # A trigger writes what it deletes into a table of its own, of which no layout knows.
    await chats.connection.execute(
        "CREATE SCHEMA archive; CREATE TABLE archive.rating (chat bigint);"
        "CREATE FUNCTION archive.move() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO archive.rating VALUES (old.threadid); RETURN old; END$$;"
        "CREATE TRIGGER move BEFORE DELETE ON pro.chatrate FOR EACH ROW EXECUTE FUNCTION archive.move();"
        f"ALTER TABLE archive.rating ADD CONSTRAINT not_this_one CHECK (chat <> {ids[4]})"
    )
    report = await chats.purge()
    assert report.chats == 8
    (failure,) = report.failures
    assert (failure.row, failure.table, failure.constraint) == (ids[4], "archive.rating", "not_this_one")
    assert "hello" not in failure.error


async def test_rows_that_one_chat_holds_back_in_silence_hold_back_all(chats: ChatStore) -> None:
    ids = await many(chats, 9)
    await refuse(chats, ids[3], how="RETURN NULL")
    report = await chats.purge()
    assert (report.chats, report.failed) == (8, {"miscount": 1})
    assert [(one.row, one.table) for one in report.failures] == [(ids[3], "pro.chatrate")]
    assert await chats.torn() == set()


@pytest.mark.parametrize("code", ["insufficient_privilege", "lock_not_available", "disk_full"])
async def test_a_trigger_may_raise_with_any_code_and_is_about_its_chat(chats: ChatStore, code: str) -> None:
    # A right that a trigger speaks of is not one that this role lacks: it ended the whole pass.
    ids = await many(chats, 5)
    await refuse(chats, ids[0], how=f"RAISE {code} USING MESSAGE = 'evidence'")
    report = await chats.purge()
    assert (report.state, report.chats) == ("finished_with_failures", 4)
    assert [(one.row, one.error) for one in report.failures] == [(ids[0], "evidence")]


async def test_a_row_of_statistics_that_is_refused_keeps_the_others(chats: ChatStore) -> None:
    rows = [await chats.statistic(OLD, OLD) for _ in range(6)]
    await chats.connection.execute(
        "CREATE FUNCTION pro.keep() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no'; END$$;"
        f"CREATE TRIGGER keep BEFORE DELETE ON pro.chatstats FOR EACH ROW WHEN (old.chatstatsid = {rows[1]}) "
        "EXECUTE FUNCTION pro.keep()"
    )
    report = await chats.purge(wish={"stats": True})
    assert report.entities["chatstats"] == 5
    (told,) = report.as_json()["failures"]
    assert (told["entity"], told["row"], told["trigger"]) == ("chatstats", rows[1], "keep")


async def test_what_is_refused_of_every_chat_is_sought_without_end(
    chats: ChatStore, sizes: list[int]
) -> None:
    await many(chats, 200)
    await refuse(chats)
    before = await chats.counts()
    report = await chats.purge(pace={"batch": 20})
    assert (report.state, report.chats, report.failed.total()) == ("finished_with_failures", 0, 120)
    # Three batches from either end, of which the first are divided.
    assert len(sizes) <= 100
    assert await chats.counts() == before


@pytest.mark.parametrize(
    "cause",
    [
        asyncpg.UndefinedTableError("a function looks for a table that is not there"),
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        asyncpg.SerializationError("could not serialize access"),
    ],
)
async def test_a_cause_that_is_not_about_a_chat_is_sought_in_every_half(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, cause: asyncpg.PostgresError
) -> None:
    monkeypatch.setattr(removal, "TRIES", 2)
    await many(chats, 8)
    tried: list[int] = []

    async def fail(_self: batch.Batch, page: Page) -> Removed:
        tried.append(len(page))
        raise cause

    monkeypatch.setattr(batch.Batch, "remove", fail)
    report = await chats.purge()
    assert set(tried) == {8}
    assert (report.failed.total(), report.failures) == (8, [])


@pytest.mark.parametrize("cause", [asyncpg.DiskFullError("no space"), ConnectionResetError("lost")])
async def test_a_lost_server_or_a_full_disk_ends_the_pass_at_the_first_batch(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, cause: Exception
) -> None:
    await many(chats, 8)
    tried: list[int] = []

    async def fail(_self: batch.Batch, page: Page) -> Removed:
        tried.append(len(page))
        raise cause

    monkeypatch.setattr(batch.Batch, "remove", fail)
    report = await chats.purge(pace={"batch": 4})
    assert (tried, report.state, report.not_reached) == ([4], "interrupted", 8)


async def test_refused_chats_that_pile_up_at_the_beginning_keep_newer_ones_from_ever_being_reached(
    chats: ChatStore,
) -> None:
    refused = await many(chats, 60)
    new = await many(chats, 10)
    await refuse(chats, *refused)
    report = await chats.purge(pace={"batch": 8})
    assert report.chats == len(new)
    assert await chats.chats() == set(refused)


async def test_chats_behind_many_refused_ones_of_the_same_batch_stay_for_good(chats: ChatStore) -> None:
    ids = await many(chats, 70)
    await refuse(chats, *ids[:25], *ids[40:66])
    report = await chats.purge()
    assert await chats.chats() == {*ids[:25], *ids[40:66]}
    assert (report.chats, report.failed) == (19, {"database_refused": 51})
    # One more failed than are named.
    assert len(report.failures) == 50


async def test_a_stop_is_heard_between_two_halves(chats: ChatStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = await many(chats, 16)
    await refuse(chats, ids[9])
    order = PassOptions("purge-chats")
    work = batch.Batch.remove

    async def stop_after(self: batch.Batch, page: Page) -> Removed:
        removed = await work(self, page)
        order.stop.ask()
        return removed

    monkeypatch.setattr(batch.Batch, "remove", stop_after)
    report = await chats.purge(order=order)
    assert (report.state, report.chats, report.not_reached) == ("interrupted", 8, 8)
    assert not report.failed


async def test_people_read_which_chat_failed_and_why(chats: ChatStore) -> None:
    ids = await many(chats, 4)
    await refuse(chats, ids[1])
    report = await chats.purge()
    out = io.StringIO()
    show_purge(Console(file=out, width=200), report, ())
    assert f"chat {ids[1]} (table pro.chatrate, trigger Evidence): evidence" in out.getvalue()


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_trigger_that_comes_up_after_the_tables_were_read_tears_no_chat(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, *, guarded: bool
) -> None:
    """Without a trigger no batch counts what it deletes: one that came later was seen by foreign keys alone."""
    ids = await many(chats, 3)
    if not guarded:
        await chats.connection.execute("ALTER TABLE pro.chatrate DROP CONSTRAINT chatrate_threadid_fkey")
    begun: list[Page] = []
    remove = batch.Batch.remove

    async def come_up(self: batch.Batch, page: Page) -> Removed:
        if not begun:
            begun.append(page)
            assert not self._tree.counts_deletions
            await refuse(chats, ids[1], how="RETURN NULL")
        return await remove(self, page)

    monkeypatch.setattr(batch.Batch, "remove", come_up)
    report = await chats.purge()
    assert (report.state, report.chats, report.entities["chatrate"]) == ("finished_with_failures", 2, 2)
    assert [one.row for one in report.failures] == [ids[1]]
    assert await chats.chats() == {ids[1]}
    assert await chats.torn() == set()


async def test_a_session_that_a_trigger_of_later_holds_back_is_left_without_its_chat(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await chats.session()
    chat = await chats.chat(session=session)
    begun: list[Page] = []
    remove = batch.Batch.remove

    async def come_up(self: batch.Batch, page: Page) -> Removed:
        if not begun:
            begun.append(page)
            await chats.swallow_deletes("chatvisitsession")
        return await remove(self, page)

    monkeypatch.setattr(batch.Batch, "remove", come_up)
    report = await chats.purge()
    assert report.failed == {"miscount": 1}
    assert (await chats.chats(), await chats.sessions()) == ({chat}, {session})


@pytest.mark.parametrize(
    "seen_by",
    [
        "CREATE TRIGGER t BEFORE DELETE ON pro.chatrate FOR EACH ROW EXECUTE FUNCTION pro.f()",
        (
            "CREATE TRIGGER t AFTER DELETE OR UPDATE ON pro.chatrate FOR EACH STATEMENT EXECUTE FUNCTION pro.f();"
            "ALTER TABLE pro.chatrate DISABLE TRIGGER t"
        ),
        (
            "CREATE TABLE pro.heir () INHERITS (pro.chatrate);"
            "CREATE TRIGGER t BEFORE DELETE ON pro.heir FOR EACH ROW EXECUTE FUNCTION pro.f()"
        ),
        "CREATE RULE r AS ON DELETE TO pro.chatvisitsession DO INSTEAD NOTHING",
    ],
    ids=["trigger", "disabled", "of an heir", "rule"],
)
async def test_a_table_whose_deletions_run_code_is_not_taken_for_one_without(
    chats: ChatStore, seen_by: str
) -> None:
    await chats.connection.execute(
        "CREATE FUNCTION pro.f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN old; END$$"
    )
    layout = read_layout("webim")
    of_updates = "CREATE TRIGGER u BEFORE UPDATE ON pro.chatrate FOR EACH ROW EXECUTE FUNCTION pro.f()"
    await chats.connection.execute(of_updates)
    assert not (await read_catalogue(chats.connection, layout, "pro")).deletes_run_code
    await chats.connection.execute(seen_by)
    assert (await read_catalogue(chats.connection, layout, "pro")).deletes_run_code
