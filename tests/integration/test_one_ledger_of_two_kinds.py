"""Media and rooms of one dendrite share a database, and so a ledger: neither takes the other's passes for its own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import AuditOptions, NullProgress, PassOptions, Selection
from tests.support.rooms_store import GONE, STAYS

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from tests.support.dendrite_admin import RecordedDendrite
    from tests.support.media_target import Retention
    from tests.support.room_target import RoomRetention
    from tests.support.rooms_store import RoomsStore
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

OLD, YOUNG = timedelta(days=90), timedelta(days=1)


@pytest.fixture
async def purged(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention, store: DendriteStore
) -> None:
    """Rooms were purged before the media target's first pass."""
    await store.add(origin="there.test", age=OLD)
    await store.add(origin="there.test", age=YOUNG)
    assert (await room_retention.one_pass()).removed_items == 3


@pytest.mark.usefixtures("purged")
async def test_each_command_on_media_works_before_their_first_pass_in_a_ledger_that_rooms_made(
    retention: Retention,
) -> None:
    async with retention.opened() as target:
        assert (await target.plan(None, NullProgress())).removed_items == 1
        assert not (await target.status()).ledger
        assert (await target.audit(AuditOptions("audit"))).error is None
        assert (await target.statistics(NullProgress())).total.items == 2
        assert not await target.take_sample("sample", NullProgress())
        assert [one async for one in target.released()] == []
        assert (await target.sweep(everything=True)).refused is None
        assert (await target.accept(yes=False)).refused == []
        assert [one["kind"] async for one in target.records()].count("room_purged") == 3


@pytest.mark.usefixtures("purged")
async def test_the_first_pass_over_media_is_known_as_the_first_although_rooms_were_purged(
    retention: Retention,
) -> None:
    async with retention.opened(limits={"max_share": 0.1}) as target:
        report = await target.run_pass(PassOptions("run"))
        assert report.refused is not None
        assert "this is the first pass over this store" in report.refused.hint
        assert (await target.run_pass(PassOptions("once", over_limits=True))).removed_items == 1
        assert len((await target.restore(Selection())).restored) == 1


async def test_the_first_pass_over_rooms_waits_for_a_confirmation_although_media_were_deleted(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    retention: Retention,
    store: DendriteStore,
) -> None:
    await store.add(origin="there.test", age=OLD)
    assert (await retention.one_pass()).removed_items == 1
    async with room_retention.opened() as target:
        report = await target.run_pass(PassOptions("run"))
    assert report.refused is not None
    assert report.refused.limit == "first_pass"
    assert await rooms.rooms() == {*GONE, STAYS}


async def test_a_database_from_a_backup_is_seen_although_rooms_were_purged_since(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    retention: Retention,
    store: DendriteStore,
    connection: Connection,
    media_path: Path,
) -> None:
    """The numbers of passes are those of the ledger: passes over rooms caught up with the mark on the disk."""
    for _ in range(2):
        await store.add(origin="there.test", age=OLD)
        assert (await retention.one_pass()).removed_items == 1
    # The backup is of before the second pass.
    await connection.execute(
        "DELETE FROM retentiond.pass WHERE pass_id = 2; UPDATE retentiond.store SET last_pass = 1"
    )
    assert (await room_retention.one_pass()).removed_items == 3
    report = await retention.one_pass()
    assert report.refused is not None
    assert report.refused.limit == "restored_database"
    async with room_retention.opened() as of_rooms:
        await of_rooms.accept(yes=True)
    report = await retention.one_pass()
    assert report.refused is not None
    async with retention.opened() as target:
        await target.accept(yes=True)
    report = await retention.one_pass()
    assert (report.refused, report.pass_id) == (None, 3)
