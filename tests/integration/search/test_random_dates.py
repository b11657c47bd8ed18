"""A store loses a chat's rows only when the database does not have the chat, whatever each of them says of its dates."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from retentiond.demo.chat_show import ACCOUNT
from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.chats import CUTOFF, TO_DATE, ChatStore
from tests.support.stats_table import Stats

if TYPE_CHECKING:
    import asyncpg

    from tests.support.clickhouse_server import ClickHouseServer
    from tests.support.search_index import Chats

# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(600)
_SEEDS = 30 if NIGHTLY else 2
_ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati", "Asia/Kathmandu", "Europe/Moscow")
_DATES = ("Date", "DateTime", "DateTime('Asia/Tokyo')", "DateTime64(3, 'America/New_York')", "DateTime64(6)")


@dataclass(frozen=True)
class Dated:
    """A chat, with the date that each place has of it."""

    chat: int
    in_database: datetime
    in_stats: list[datetime]
    in_search: list[datetime]


def near(chance: Random) -> datetime:
    """Return a moment on either side of the date: by seconds, by hours, or by much."""
    spread = chance.choice([2, 120, 3600, 50_000, 100 * 86_400])
    return CUTOFF + timedelta(seconds=chance.uniform(-spread, spread))


def seen_from_elsewhere(moment: datetime, chance: Random) -> datetime:
    """Return a moment as another host wrote it: by another clock, in another zone than it says, or rounded."""
    off = timedelta(seconds=chance.choice([0, 0, chance.uniform(-5, 5), chance.uniform(-90, 90)]))
    zone = ZoneInfo(chance.choice(_ZONES))
    written = (moment + off).astimezone(zone)
    return written.replace(tzinfo=UTC) if chance.random() < 0.3 else written.astimezone(UTC)


async def dated_chats(store: ChatStore, chance: Random) -> list[Dated]:
    """Fill the database with chats around the date."""
    found = []
    for _ in range(chance.randint(10, 25)):
        began = near(chance)
        chat = await store.chat(
            created=began,
            modified=began,
            messages=(began + timedelta(seconds=chance.uniform(0, 3)),),
            state=chance.choice(["closed", "closed", "chatting"]),
            files=chance.choice([0, 0, 1]),
        )
        copies = [[seen_from_elsewhere(began, chance) for _ in range(chance.randint(1, 3))] for _ in range(2)]
        found.append(Dated(chat, began, *copies))
    return found


@pytest.mark.parametrize("server", ["opensearch"], indirect=True)
@pytest.mark.parametrize("number", range(_SEEDS))
async def test_no_store_loses_a_chat_that_the_database_has_whatever_their_clocks_and_zones_say(
    chats: Chats,
    clickhouse_server: ClickHouseServer | None,
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    number: int,
) -> None:
    chance = Random(f"{SEED} {number}")
    store = ChatStore(database, connection)
    await store.make()
    stats = Stats(
        clickhouse_server.url if clickhouse_server else os.environ["RETENTIOND_TEST_CLICKHOUSE_URL"]
    )
    kind = chance.choice(_DATES)
    await stats.make(date=kind, partition=chance.choice([None, "toYYYYMM(created)"]))
    await chats.make()
    dated = await dated_chats(store, chance)
    lines: list[dict[str, Any]] = []
    for one in dated:
        for moment in one.in_stats:
            written = moment.strftime("%Y-%m-%d" if kind == "Date" else "%Y-%m-%d %H:%M:%S")
            await stats.do(
                f"INSERT INTO TABLE t (account, created, threadid) SELECT '{ACCOUNT}', '{written}', {one.chat}"
            )
        for moment in one.in_search:
            document = {"account": ACCOUNT, "created": moment.isoformat(), "threadid": one.chat}
            lines += [{"index": {}}, document]
    await chats.bulk(lines, parameters="?refresh=true")
    zone = chance.choice(_ZONES)
    given: dict[str, Any] = {
        "wish": {"stores": ("clickhouse", "elasticsearch"), "file_messages": chance.random() < 0.5},
        "timezone": zone,
        "clickhouse": stats.config.model_dump(),
        "elasticsearch": chats.config.model_dump(),
    }
    planned = await store.purge(TO_DATE, dry_run=True, **given)
    before = await stats.left(ACCOUNT), await chats.left(ACCOUNT)
    report = await store.purge(TO_DATE, **given)
    there = await store.chats()
    in_stores = await stats.chats(ACCOUNT), await chats.chats(ACCOUNT)
    said = f"{AGAIN}; number {number}, zone {zone}, column {kind}"
    assert report.state == "finished", said
    for found in in_stores:
        assert there <= found, said
    # What went is what the report, and the plan before it, say.
    gone = before[0] - await stats.left(ACCOUNT), before[1] - await chats.left(ACCOUNT)
    assert tuple(one.rows for one in report.stores.values()) == gone, said
    assert tuple(one.rows for one in planned.stores.values()) == gone, said
    # A chat that is gone from the database stays in a store only with rows that the store dates on or after the day.
    day = datetime(TO_DATE.year, TO_DATE.month, TO_DATE.day, tzinfo=ZoneInfo(zone))
    for one in dated:
        if one.chat not in there and max(one.in_search) < day:
            assert one.chat not in in_stores[1], said
