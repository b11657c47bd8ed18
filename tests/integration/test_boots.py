"""A machine may start with any time; what its clock says after a boot ends no time that is waited for."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.adapters.postgres import connection_to
from retentiond.engine.target import NullProgress
from retentiond.ledger import clocks
from retentiond.ledger.clocks import note_clock
from retentiond.ledger.host import HostClock
from retentiond.model.errors import RefusedError
from tests.support.media_target import let_pass

if TYPE_CHECKING:
    import asyncpg

    from retentiond.adapters.postgres import Conn
    from retentiond.ledger.clocks import Gap
    from tests.support.dendrite_admin import RecordedDendrite
    from tests.support.media_target import Retention
    from tests.support.room_target import RoomRetention
    from tests.support.rooms_store import RoomsStore
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
OLD = 90 * DAY
LATER = {"grace": "10d", "settle": "0s"}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


class Machine:
    """This machine, which can start again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._boots = 0

    async def boot(self, connection: Connection, *, off: timedelta) -> None:
        """Let the machine have started a minute ago, by its clock so long after the last note."""
        self._boots += 1
        await connection.execute(
            "UPDATE retentiond.host_clock SET boot_id = 'before ' || $1, seen_at = clock_timestamp() - $2::interval",
            str(self._boots),
            off + MINUTE,
        )
        read = HostClock(f"boot {self._boots}", time.time() - 60)
        self._monkeypatch.setattr(clocks, "read_clock", lambda: read)


async def reasons(retention: RoomRetention) -> dict[str, int]:
    async with retention.opened() as target:
        return dict((await target.plan(None, NullProgress())).kept)


async def ages(rooms: RoomsStore) -> set[int]:
    """Return the ages of the first looks, in days."""
    rows = await rooms.connection.fetch(
        "SELECT extract(day FROM clock_timestamp() - first_seen)::int AS days FROM retentiond.room_empty"
    )
    return {row["days"] for row in rows}


async def test_a_machine_that_starts_with_a_clock_far_ahead_purges_no_room_until_the_clock_is_accepted(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention, machine: Machine
) -> None:
    await rooms.see_empty(age=400 * DAY)
    await machine.boot(rooms.connection, off=399 * DAY)
    report = await room_retention.one_pass()
    assert report.refused is not None
    assert (report.refused.limit, report.refused.value) == ("clock_leapt", "399 days")
    async with room_retention.opened() as target:
        with pytest.raises(RefusedError, match="clock_leapt"):
            await target.sweep(everything=True)
        assert [one.limit for one in (await target.accept(yes=True)).refused] == ["clock_leapt"]
    # What the clock said before is not known to be true.
    assert await ages(rooms) == {0}
    assert (await room_retention.one_pass()).kept["not_due"] == 3
    assert not dendrite.purges


@pytest.mark.parametrize("days", [10, 31])
async def test_a_cool_off_goes_on_after_a_boot_where_it_was_at_the_last_note(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention, machine: Machine, days: int
) -> None:
    """The policy keeps rooms for 30 days."""
    await rooms.see_empty(age=(20 + days) * DAY + MINUTE)
    await machine.boot(rooms.connection, off=days * DAY)
    assert (await reasons(room_retention))["not_due"] == 3
    for _ in range(2):
        assert (await room_retention.one_pass()).kept["not_due"] == 3
        assert await ages(rooms) == {20}
    await rooms.connection.execute(
        "UPDATE retentiond.room_empty SET first_seen = first_seen - $1::interval", days * DAY
    )
    assert (await room_retention.one_pass()).removed_items == 3


async def test_the_hourly_sweep_after_a_boot_puts_cool_offs_off_once(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention, machine: Machine
) -> None:
    await rooms.see_empty(age=20 * DAY)
    await machine.boot(rooms.connection, off=5 * DAY)
    async with room_retention.opened() as target:
        for _ in range(2):
            await target.sweep(everything=True)
            assert await ages(rooms) == {15}


async def test_a_grace_goes_on_after_a_boot_where_it_was_at_the_last_note(
    retention: Retention, store: DendriteStore, connection: Connection, machine: Machine
) -> None:
    await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    # Five days later the machine goes off, for 20 days as its clock says: nobody knows.
    await let_pass(connection, 25 * DAY)
    await machine.boot(connection, off=20 * DAY)
    async with retention.opened() as target:
        for _ in range(2):
            assert (await target.sweep(everything=True)).purged == 0
            left = await connection.fetchval(
                "SELECT grace_until - clock_timestamp() FROM retentiond.released_media"
            )
            assert 5 * DAY - MINUTE < left <= 5 * DAY + MINUTE
        # An administrator need not wait.
        assert (await target.end_grace()).purged == 1


async def test_a_grace_that_was_over_before_the_machine_went_off_is_over_after_its_boot(
    retention: Retention, store: DendriteStore, connection: Connection, machine: Machine
) -> None:
    await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    await let_pass(connection, 40 * DAY)
    await machine.boot(connection, off=20 * DAY)
    async with retention.opened() as target:
        assert (await target.sweep(everything=True)).purged == 1


async def test_a_purge_by_hand_right_after_a_boot_ends_the_grace_that_was_put_off(
    retention: Retention, store: DendriteStore, connection: Connection, machine: Machine
) -> None:
    await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    await let_pass(connection, 5 * DAY)
    await machine.boot(connection, off=3 * DAY)
    async with retention.opened() as target:
        assert (await target.end_grace()).purged == 1


async def test_a_clock_that_one_target_accepted_is_not_accepted_for_another(
    rooms: RoomsStore,
    room_retention: RoomRetention,
    retention: Retention,
    store: DendriteStore,
    machine: Machine,
) -> None:
    """Both use one ledger, and each waits for times of its own."""
    await store.add(origin="there.test", age=DAY)
    assert (await retention.one_pass()).refused is None
    await rooms.see_empty(age=60 * DAY)
    await machine.boot(rooms.connection, off=50 * DAY)
    async with retention.opened() as target:
        await target.accept(yes=True)
    assert (await retention.one_pass()).refused is None
    report = await room_retention.one_pass()
    assert report.refused is not None
    assert report.refused.limit == "clock_leapt"


async def test_two_that_find_a_gap_at_once_put_off_once(
    rooms: RoomsStore, database: str, machine: Machine
) -> None:
    await machine.boot(rooms.connection, off=5 * DAY)
    found: list[Gap] = []

    async def put_off(_connection: Conn, gap: Gap) -> None:
        found.append(gap)

    async def note() -> None:
        async with connection_to(database) as connection:
            await note_clock(connection, "rooms", put_off)

    await asyncio.gather(*(note() for _ in range(4)))
    assert len(found) == 1


async def test_a_target_that_comes_later_is_not_refused_for_a_gap_that_it_did_not_see(
    rooms: RoomsStore,
    dendrite: RecordedDendrite,
    room_retention: RoomRetention,
    retention: Retention,
    store: DendriteStore,
    machine: Machine,
) -> None:
    await machine.boot(rooms.connection, off=50 * DAY)
    async with room_retention.opened() as target:
        await target.accept(yes=True)
    await store.add(origin="there.test", age=OLD)
    assert (await retention.one_pass()).refused is None


async def test_the_notes_of_an_older_ledger_are_those_of_each_target(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention, machine: Machine
) -> None:
    await rooms.see_empty(age=20 * DAY)
    await rooms.connection.execute("UPDATE retentiond.host_clock SET target = ''")
    await machine.boot(rooms.connection, off=5 * DAY)
    async with room_retention.opened() as target:
        await target.sweep(everything=True)
    assert await ages(rooms) == {15}


async def test_an_accepted_trouble_with_dendrite_accepts_no_clock(
    rooms: RoomsStore, dendrite: RecordedDendrite, room_retention: RoomRetention, machine: Machine
) -> None:
    """The note that the acceptance wrote would have hidden the gap."""
    await rooms.see_empty(age=35 * DAY)
    await machine.boot(rooms.connection, off=10 * DAY)
    await rooms.connection.execute(
        "INSERT INTO retentiond.room_trouble VALUES ('rooms', 'dendrite_down', '!a:there.test', '', now())"
    )
    async with room_retention.opened() as target:
        assert [one.limit for one in (await target.accept(yes=True)).refused] == ["dendrite_trouble"]
    assert (await room_retention.one_pass()).kept["not_due"] == 3
    assert await ages(rooms) == {25}


async def test_after_notes_of_the_future_each_grace_begins_anew(
    retention: Retention, store: DendriteStore, connection: Connection, machine: Machine
) -> None:
    await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    await let_pass(connection, 11 * DAY)
    await machine.boot(connection, off=-400 * DAY)
    async with retention.opened() as target:
        assert (await target.sweep(everything=True)).purged == 0
    left = await connection.fetchval("SELECT grace_until - clock_timestamp() FROM retentiond.released_media")
    assert 10 * DAY - MINUTE < left <= 10 * DAY


async def test_the_grace_of_an_entry_without_a_row_is_put_off_too(
    retention: Retention, store: DendriteStore, connection: Connection, machine: Machine
) -> None:
    await store.add(origin="there.test", age=OLD)
    await retention.one_pass(**LATER)
    await connection.execute(
        "DELETE FROM retentiond.released_media;"
        " UPDATE retentiond.entry SET grace_until = clock_timestamp() + interval '10 days'"
    )
    await let_pass(connection, 25 * DAY)
    await machine.boot(connection, off=20 * DAY)
    async with retention.opened() as target:
        for _ in range(2):
            assert (await target.sweep(everything=True)).purged == 0
            left = await connection.fetchval("SELECT grace_until - clock_timestamp() FROM retentiond.entry")
            assert 5 * DAY - MINUTE < left <= 5 * DAY + MINUTE
