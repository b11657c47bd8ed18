"""Orphans drawn at random, with the truth of each kept beside: exactly those that are due go."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database import orphan_batch, orphan_removal
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.chats import CUTOFF, OLD, ChatStore

if TYPE_CHECKING:
    import asyncpg

_SEEDS = 30 if NIGHTLY else 3
_OTHERS = ("chatthreadhistory", "chatrate", "surveylaunch", "surveyanswer", "thread_category")
_FILE = 13


@dataclass
class Truth:
    """The messages, each with its date and kind, by the chat that they name; which chats are missing, and which are held."""

    messages: dict[int | None, list[tuple[int, datetime | None, int]]] = field(default_factory=dict)
    missing: set[int] = field(default_factory=set)
    held: set[int] = field(default_factory=set)

    def due(self, chat: int) -> bool:
        dates = [created for _, created, _ in self.messages[chat]]
        return chat in self.missing - self.held and bool(dates) and all(map(_is_old, dates))

    def messages_left(self, *, file_messages: bool) -> set[int]:
        left = set()
        for chat, messages in self.messages.items():
            for message, created, kind in messages:
                due = _is_old(created) if not chat else self.due(chat)
                if not due or (kind == _FILE and not file_messages):
                    left.add(message)
        return left


def _is_old(created: datetime | None) -> bool:
    return created is not None and datetime(2000, 1, 1, tzinfo=UTC) <= created < CUTOFF


def _some_date(chance: Random) -> datetime | None:
    near = CUTOFF + timedelta(seconds=chance.uniform(-2, 2))
    odd = chance.choice([None, near, CUTOFF, CUTOFF + timedelta(days=9), OLD.replace(year=1999)])
    return odd if chance.random() < 0.15 else OLD + timedelta(hours=chance.uniform(0, 9000))


async def _fill(store: ChatStore, chance: Random) -> Truth:
    truth = Truth()
    for _ in range(chance.randint(10, 40)):
        chat = await store.chat(state="chatting", messages=())
        truth.messages[chat] = []
        if chance.random() < 0.7:
            truth.missing.add(chat)
            await store.connection.execute("DELETE FROM pro.chatthread WHERE threadid = $1", chat)
        if chance.random() < 0.2:
            truth.held.add(chat)
    named: list[int | None] = [*truth.messages, 0, None]
    for name in named:
        truth.messages.setdefault(name, [])
        for _ in range(chance.randint(0, 6)):
            created, kind = _some_date(chance), chance.choice([1, 1, 2, _FILE])
            truth.messages[name].append((await store.message(name, created, kind), created, kind))
    return truth


@pytest.mark.parametrize("number", range(_SEEDS))
async def test_exactly_the_orphans_that_are_due_go_whatever_the_batches_are(
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    chance = Random(f"{SEED} {number}")
    store = ChatStore(database, connection)
    await store.make()
    for table in ("chatmessage", "chatthreadhistory", "surveylaunch", "thread_category", "chatrate"):
        await connection.execute(f"ALTER TABLE pro.{table} DROP CONSTRAINT {table}_threadid_fkey")
    await connection.execute("ALTER TABLE pro.chatmessage ALTER COLUMN threadid DROP NOT NULL")
    await store.chat(state="chatting")
    truth = await _fill(store, chance)
    async with open_chat_database("chats", store.config()) as target:
        for chat in truth.held:
            hold = HoldSubject("account", "testcom", Narrowing(chat=str(chat)))
            await target.holds.add(HoldRequest(hold))
    most = chance.choice([1, 3, 10_000])
    for module in (orphan_batch, orphan_removal):
        monkeypatch.setattr(module, "MOST_ROWS", most)
    files = chance.random() < 0.5
    wish, pace = {"orphans": True, "file_messages": files}, {"batch": chance.choice([1, 2, 7, 1000])}
    before = await store.counts()
    planned = await store.purge(dry_run=True, wish=wish, pace=pace)
    report = await store.purge(wish=wish, pace=pace)
    after = await store.counts()
    assert planned.orphans.found is not None, AGAIN
    assert planned.orphans.found.due == report.orphans.removed, AGAIN
    assert {table: before[table] - after[table] for table in before} == {
        table: report.orphans.removed[table] for table in before
    }, AGAIN
    messages = await store.ids("chatmessage", "messageid")
    expected = truth.messages_left(file_messages=files)
    of_first = messages - {message for several in truth.messages.values() for message, _, _ in several}
    assert (messages, len(of_first)) == (expected | of_first, 2), AGAIN
    due = sum(truth.due(chat) for chat in truth.missing)
    assert {table: before[table] - after[table] for table in _OTHERS} == dict.fromkeys(_OTHERS, due), AGAIN
