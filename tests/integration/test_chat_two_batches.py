"""Two batches of chats at once, on two connections: everything is as if one had come after the other."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database import removal
from retentiond.targets.chat_database.batch import Batch, ChangedError
from retentiond.targets.chat_database.removal import Removal
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.chats import CUTOFF, OLD, ChatStore
from tests.support.two_batches import at_statement, take_two_at_once

if TYPE_CHECKING:
    from retentiond.targets.chat_database.batch import Page

_SEEDS = 30 if NIGHTLY else 3
_MOST_STATEMENTS = 60


async def recorded(chats: ChatStore) -> tuple[Counter[str], list[int]]:
    """Return the rows by table, and the chats, that the proof of disposal has; its chain is whole."""
    rows, gone = Counter[str](), list[int]()
    async with open_chat_database("chats", chats.config()) as target:
        assert (await target.verify_records()).broken is None
        async for one in target.records():
            if one["kind"] == "purged":
                rows.update(one["body"]["rows"])
                gone += one["body"]["chats"]
    return +rows, gone


async def test_a_session_of_chats_in_both_batches_goes_with_the_last_of_them(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of two batches sees the chats of the other until that is committed, and left what both named."""
    session = await chats.session()
    for _ in range(4):
        await chats.chat(session=session)
    take_two_at_once(monkeypatch, 2)
    both = asyncio.Barrier(2)
    take = Batch._delete_rows

    async def meet(self: Batch, going: Any, **how: Any) -> None:
        await take(self, going, **how)
        if going:
            async with asyncio.timeout(60):
                await both.wait()

    monkeypatch.setattr(Batch, "_delete_rows", meet)
    report = await chats.purge()
    assert (report.state, report.chats, report.entities["chatvisitsession"]) == ("finished", 4, 1)
    assert (await chats.chats(), await chats.sessions()) == (set(), set())


async def test_a_batch_beside_one_whose_commit_is_unknown_is_not_committed_without_its_counts(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        await chats.chat()
    take_two_at_once(monkeypatch, 2)

    def lose(*_told: Any) -> None:
        raise ConnectionResetError("the connection was lost")

    monkeypatch.setattr(removal, "_reach", lose)
    report = await chats.purge()
    assert (report.state, report.chats, report.entities["chatmessage"]) == ("interrupted", 2, 4)
    assert len(await chats.chats()) == 2
    rows, gone = await recorded(chats)
    assert (rows["chatmessage"], len(gone)) == (4, 2)


async def test_what_stands_in_the_way_of_one_of_two_batches_is_met_alone(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    ids = [await chats.chat() for _ in range(4)]
    take_two_at_once(monkeypatch, 2)
    look, refusals = Batch._judge_again, 2

    async def refuse(self: Batch, page: Page) -> Any:
        nonlocal refusals
        if refusals and page[0][0] == ids[2]:
            refusals -= 1
            raise ChangedError("in the way")
        return await look(self, page)

    monkeypatch.setattr(Batch, "_judge_again", refuse)
    report = await chats.purge()
    assert (report.state, report.chats, sizes) == ("finished", 4, [2, 2, 2, 2])
    assert (report.failed.total(), await chats.chats()) == (0, set())


async def test_without_a_second_connection_one_batch_comes_after_the_other(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    for _ in range(8):
        await chats.chat()
    take_two_at_once(monkeypatch, 2)
    two = Removal._delete_two

    asked = 0

    async def refuse_connections(self: Removal, *given: Any) -> Any:
        def acquire() -> Any:
            nonlocal asked
            asked += 1
            raise UnreachableError("too many connections; close some")

        with monkeypatch.context() as patch:
            patch.setattr(type(self._context.pool), "acquire", lambda _pool: acquire())
            return await two(self, *given)

    monkeypatch.setattr(Removal, "_delete_two", refuse_connections)
    report = await chats.purge()
    assert (report.state, report.chats, sizes) == ("finished", 8, [2, 2, 2, 2])
    assert asked == 1


async def test_a_trigger_that_came_meanwhile_holds_nothing_back_in_silence_from_the_second_of_two_batches(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of two batches found the trigger, and the second one committed rows that it had not counted."""
    for _ in range(4):
        await chats.chat(files=1)
    take_two_at_once(monkeypatch, 2)
    both = asyncio.Barrier(2)
    two, take = Removal._delete_two, Batch._delete_rows

    async def with_trigger(self: Removal, *given: Any) -> Any:
        await chats.swallow_deletes("chatthreadhistory")
        return await two(self, *given)

    async def meet(self: Batch, going: Any, **how: Any) -> None:
        await take(self, going, **how)
        if going and not self._tree.counts_deletions:
            async with asyncio.timeout(60):
                await both.wait()

    monkeypatch.setattr(Removal, "_delete_two", with_trigger)
    monkeypatch.setattr(Batch, "_delete_rows", meet)
    report = await chats.purge(wish={"file_messages": False})
    assert (report.state, report.failed) == ("finished_with_failures", {"miscount": 4})
    assert (report.entities["chatmessage"], (await chats.counts())["chatmessage"]) == (0, 12)


_NO_GUARD = {
    "no foreign key": "ALTER TABLE pro.chatrate DROP CONSTRAINT chatrate_threadid_fkey",
    "a foreign key that is switched off": "ALTER TABLE pro.chatrate DISABLE TRIGGER ALL",
    "a foreign key that is not enforced": "ALTER TABLE pro.chatrate ALTER CONSTRAINT chatrate_threadid_fkey NOT ENFORCED",
}
_FIRST_WITH_NOT_ENFORCED = 18


@pytest.mark.parametrize("why", ["trigger", *_NO_GUARD])
async def test_where_batches_could_wait_for_each_other_they_come_one_after_the_other(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, sizes: list[int], why: str
) -> None:
    for _ in range(4):
        await chats.chat()
    if why == "trigger":
        await chats.refuse_deletes("chatrate", 0, "never")
    else:
        if "enforced" in why and chats.connection.get_server_version().major < _FIRST_WITH_NOT_ENFORCED:
            pytest.skip("every foreign key of this server is enforced")
        await chats.connection.execute(_NO_GUARD[why])
    take_two_at_once(monkeypatch, 2)

    async def two(*_given: Any) -> Any:
        raise AssertionError("two at once")

    monkeypatch.setattr(Removal, "_delete_two", two)
    report = await chats.purge()
    assert (report.state, report.chats, sizes) == ("finished", 4, [2, 2])


class Drawn:
    """Chats drawn at random, with what must be there of them at any time."""

    def __init__(self, chats: ChatStore, chance: Random) -> None:
        self.chats = chats
        self.chance = chance
        self.due: set[int] = set()
        self.of_session: dict[int, set[int]] = {}
        self.before: dict[str, int] = {}

    async def fill(self) -> None:
        """Make chats that share sessions across all batches; some of them stay."""
        for _ in range(self.chance.randint(2, 9)):
            self.of_session[await self.chats.session()] = set()
        for _ in range(self.chance.randint(12, 30)):
            session = self.chance.choice([None, *self.of_session])
            stays = self.chance.random() < 0.2
            chat = await self.chats.chat(
                session=session,
                state="chatting" if stays else "closed",
                messages=tuple(OLD for _ in range(self.chance.randint(1, 3))),
                created=self.chance.choice([OLD, CUTOFF]) if stays else OLD,
            )
            if session is not None:
                self.of_session[session].add(chat)
            if not stays:
                self.due.add(chat)
        self.before = await self.chats.counts()

    async def check(self, said: str) -> None:
        """Compare what is there with what must be, and what went with what is on record."""
        there = await self.chats.chats()
        rows, gone = await recorded(self.chats)
        assert len(gone) == len(set(gone)), said
        assert set(gone) == self.due - there, said
        assert await self.chats.torn() == set(), said
        sessions = {one for one, named in self.of_session.items() if not named or named & there}
        assert await self.chats.sessions() == sessions, said
        after = await self.chats.counts()
        went = {table: count - after[table] for table, count in self.before.items() if count - after[table]}
        assert dict(rows) == went, said


@pytest.mark.parametrize("number", range(_SEEDS))
async def test_killed_at_any_statement_of_two_batches_it_has_counted_exactly_what_went(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    chance = Random(f"{SEED} {number}")
    said = f"{AGAIN}; number {number}"
    drawn = Drawn(chats, chance)
    await drawn.fill()
    for _ in range(chance.randint(1, 3)):
        size, statement = chance.randint(1, 5), chance.randint(1, _MOST_STATEMENTS)
        if chance.random() < 0.5:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.two_batches", chats.dsn, str(size), str(statement)),
                stdout=asyncio.subprocess.DEVNULL,
            )
            assert await process.wait() in {0, -signal.SIGKILL}, said
        else:
            before = len(await chats.chats())
            with monkeypatch.context() as patch:
                take_two_at_once(patch, size)
                at_statement(patch, statement, lambda: end_one(chats))
                report = await chats.purge()
            assert report.state in {"finished", "interrupted"}, said
            assert report.chats == before - len(await chats.chats()), said
        await gone_quiet(chats)
        await drawn.check(said)
    with monkeypatch.context() as patch:
        take_two_at_once(patch, chance.randint(1, 5))
        report = await chats.purge()
    assert report.state == "finished", said
    assert drawn.due & await chats.chats() == set(), said
    await drawn.check(said)


async def end_one(chats: ChatStore) -> None:
    """End a connection of a batch that is under way."""
    await chats.connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'retentiond' "
        "AND datname = current_database() AND xact_start IS NOT NULL ORDER BY random() LIMIT 1"
    )


async def gone_quiet(chats: ChatStore) -> None:
    """Wait until the server has ended what was under way."""
    while await chats.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'retentiond' AND datname = current_database()"
    ):
        await asyncio.sleep(0.05)
