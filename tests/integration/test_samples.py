"""Daily samples: what the ledger remembers of a store, once a day for each target."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import asyncpg
import pytest

from retentiond.engine.target import NullProgress, PassOptions, Selection
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import BusyError
from retentiond.model.report import Tally
from retentiond.model.usage import NOT_KNOWN, UsageRow
from retentiond.targets.dendrite_media.database.rows import SCHEMA
from retentiond.targets.dendrite_media.views import usage as usages
from tests.support.media_target import let_pass
from tests.support.store import COMMON_THUMBNAILS

if TYPE_CHECKING:
    from retentiond.model.usage import Sample
    from retentiond.targets.dendrite_media.target import DendriteMedia
    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

_ROOM, _SENDER = "!room:there.test", "@bob:there.test"


async def sample(target: DendriteMedia) -> Sample:
    """Take the sample of today, and return it."""
    assert await target.take_sample("once", NullProgress())
    return (await target.samples())[-1]


async def a_day_passes(connection: Connection) -> None:
    await connection.execute("UPDATE retentiond.sample SET day = day - 1, at = at - interval '1 day'")


async def test_a_sample_has_what_is_stored_by_class_server_user_and_room(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add(
        origin="here.test", user_id="@ann:here.test", content=b"local", thumbnails=COMMON_THUMBNAILS
    )
    shown = await store.add(content=b"remote one")
    await store.add(content=b"remote one", age=timedelta(days=1))
    await store.add(origin="far.test", content=b"remote two!")
    await store.add_event(_ROOM, {"url": shown.uri}, sender=_SENDER)
    await Ledger().make(connection, SCHEMA)
    on_disk = sum(len(content) for content in store.files().values())
    local = on_disk - len(b"remote one") - len(b"remote two!")
    async with retention.opened() as target:
        taken = await sample(target)
    assert taken.stored == Tally(4, on_disk)
    assert taken.classes == {"local": Tally(1, local), "remote": Tally(3, on_disk - local)}
    assert taken.largest == {
        "server": (
            UsageRow("here.test", 1, local),
            UsageRow("far.test", 1, 11),
            UsageRow("there.test", 2, 10),
        ),
        "user": (UsageRow("@ann:here.test", 1, local), UsageRow(NOT_KNOWN, 2, 11), UsageRow(_SENDER, 1, 10)),
        "room": (UsageRow(NOT_KNOWN, 3, local + 11), UsageRow(_ROOM, 1, 10)),
    }
    assert taken.free_bytes
    assert taken.database_bytes > 0
    assert (taken.taken, taken.purged, taken.restored) == (Tally(), Tally(), 0)


async def test_a_store_without_a_ledger_has_no_samples_and_gets_no_ledger_by_asking(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    async with retention.opened() as target:
        assert not await target.take_sample("once", NullProgress())
        assert await target.samples() == []
    assert not await Ledger().exists(connection)


async def test_a_day_has_one_sample_even_by_two_hosts_at_once(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    await Ledger().make(connection, SCHEMA)
    async with retention.opened() as one, retention.opened() as two:
        taken = await asyncio.gather(
            *(target.take_sample("once", NullProgress()) for target in (one, two, one))
        )
        assert sum(taken) == 1
        await store.add()
        assert not await one.take_sample("once", NullProgress())
        assert [found.stored.items for found in await two.samples()] == [1]
        await a_day_passes(connection)
        assert [found.stored.items for found in (*await one.samples(), await sample(two))] == [1, 2]


async def test_a_daemon_beside_another_leaves_the_sample_to_it(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    await Ledger().make(connection, SCHEMA)
    async with retention.opened() as first, retention.opened() as second:
        assert await first.take_sample("run", NullProgress())
        await a_day_passes(connection)
        with pytest.raises(BusyError):
            await second.take_sample("run", NullProgress())
        assert len(await second.samples()) == 1


async def test_a_sample_counts_what_passes_took_purged_and_restored_since_the_one_before(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    for _ in range(3):
        await store.add(thumbnails=COMMON_THUMBNAILS)
    await Ledger().make(connection, SCHEMA)
    async with retention.opened() as target:
        await sample(target)
        await a_day_passes(connection)
        report = await target.run_pass(PassOptions("run"))
        first = await sample(target)
        await a_day_passes(connection)
        await let_pass(connection, timedelta(days=2))
        purged = await target.sweep(everything=True)
        kept = await store.add()
        await target.run_pass(PassOptions("run"))
        await target.restore(Selection(media=kept.uri))
        second = await sample(target)
        days = await target.samples()
    assert first.taken == Tally(3, report.removed_bytes)
    assert first.stored == Tally(0, 0)
    assert (first.purged, first.restored) == (Tally(), 0)
    assert second.taken == Tally(1, len(kept.content))
    assert second.purged.items == purged.purged == 3
    assert second.purged.bytes == report.removed_bytes
    assert second.restored == 1
    assert second.stored.items == 1
    # The first of all has nothing before it, and the days follow each other.
    assert [found.taken.items for found in days] == [0, 3, 1]
    assert [(later.day - earlier.day).days for earlier, later in pairwise(days)] == [1, 1]


async def test_a_ledger_from_a_backup_has_no_negative_differences(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    async with retention.opened() as target:
        await target.run_pass(PassOptions("run"))
        await sample(target)
        await a_day_passes(connection)
        await connection.execute("DELETE FROM retentiond.pass")
        assert (await sample(target)).taken == Tally(0, 0)


async def test_a_day_that_a_wrong_clock_made_is_not_the_newest_until_it_comes(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    await Ledger().make(connection, SCHEMA)
    async with retention.opened() as target:
        await sample(target)
        await connection.execute("UPDATE retentiond.sample SET day = '2099-01-01', items = 7")
        assert (await sample(target)).stored.items == 1
        assert [found.stored.items for found in await target.samples(1)] == [1]


async def test_a_pass_removes_samples_that_are_older_than_records_are_kept(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    await Ledger().make(connection, SCHEMA)
    async with retention.opened() as target:
        for _ in range(4):
            await sample(target)
            await a_day_passes(connection)
        days = [found.day for found in await target.samples()]
        await target.run_pass(PassOptions("run"))
        assert [found.day for found in await target.samples()] == days
        # Of another target, which the configuration has no more, too.
        await connection.execute("UPDATE retentiond.sample SET target = 'former' WHERE day = $1", days[0])
        await target.run_pass(PassOptions("run", keep_records=timedelta(days=2)))
        assert [found.day for found in await target.samples()] == days[2:]
    assert await connection.fetchval("SELECT count(*) FROM retentiond.sample") == 2


async def test_a_refused_pass_removes_no_samples(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    """The refusal may be for the clock, by which every sample is old."""
    await store.add()
    await Ledger().make(connection, SCHEMA)
    async with retention.opened(limits={"max_share": 0.0}) as target:
        await sample(target)
        await a_day_passes(connection)
        report = await target.run_pass(PassOptions("run", keep_records=timedelta(0)))
        assert report.refused is not None
        assert len(await target.samples()) == 1


async def test_events_that_are_too_many_or_cannot_be_read_leave_a_sample_without_rooms(
    retention: Retention, store: DendriteStore, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    media = await store.add()
    await store.add_event(_ROOM, {"url": media.uri}, sender=_SENDER)
    await Ledger().make(connection, SCHEMA)
    async with retention.opened() as target:
        with monkeypatch.context() as smaller:
            smaller.setattr(usages, "MOST_EVENTS", 1)
            few = await sample(target)
        await a_day_passes(connection)
        assert "room" in (await sample(target)).largest
        await a_day_passes(connection)
        await connection.execute("ALTER TABLE syncapi_output_room_events RENAME TO elsewhere")
        unread = await sample(target)
    for found in (few, unread):
        assert found.stored.items == 1
        assert list(found.largest) == ["server", "user"]
        assert [row.key for row in found.largest["user"]] == [NOT_KNOWN]


async def test_events_of_another_database_that_cannot_be_read_leave_a_sample_without_rooms(
    retention: Retention, store: DendriteStore, connection: Connection, postgres: DatabaseServer
) -> None:
    await store.add()
    await Ledger().make(connection, SCHEMA)
    url = await postgres.clone()
    try:
        elsewhere = await asyncpg.connect(url)
        await elsewhere.execute("ALTER TABLE syncapi_output_room_events RENAME TO elsewhere")
        await elsewhere.close()
        async with retention.opened(databases={"sync_api": url}) as target:
            taken = await sample(target)
    finally:
        await postgres.drop(url)
    assert (taken.stored.items, list(taken.largest)) == (1, ["server", "user"])


async def test_a_sample_of_a_store_with_thousands_of_long_names_is_bounded(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await connection.execute(
        "INSERT INTO mediaapi_media_repository SELECT 'm' || n, repeat(md5(n::text), 60), 'image/png', n, 1, '',"
        " md5(n::text) || repeat('A', 11), '@' || repeat(md5(n::text), 60) FROM generate_series(1, 500) n"
    )
    await Ledger().make(connection, SCHEMA)
    async with retention.opened(server_name=None) as target:
        taken = await sample(target)
    assert [len(taken.largest[by]) for by in ("server", "user", "room")] == [100, 100, 1]
    assert taken.stored.items == 500
    assert await connection.fetchval("SELECT pg_column_size(largest) FROM retentiond.sample") < 100_000
