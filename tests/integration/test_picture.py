"""The picture of a store counts what is there, and what each policy would take at any age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import NullProgress, PassOptions, Selection
from retentiond.model.errors import RefusedError
from retentiond.model.limits import Headroom
from retentiond.model.report import Tally
from retentiond.model.statistics import PassTotals
from retentiond.report.page import render
from retentiond.report.target_report import collect
from retentiond.targets.dendrite_media.views.statistics import SQL as STATISTICS_SQL
from tests.support.media_target import REMOTE, configure, media_target

if TYPE_CHECKING:
    import asyncpg

    from retentiond.model.statistics import StoreStatistics
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

_LOCAL = {"name": "local", "match": {"origin": "local"}, "keep": "forever"}


async def _statistics(retention: Retention, **keys: object) -> StoreStatistics:
    async with retention.opened(**keys) as target:
        return await target.statistics(NullProgress())


async def test_a_store_is_told_by_server_type_and_age(retention: Retention, store: DendriteStore) -> None:
    await store.add(origin="a.test", age=timedelta(days=3), content=b"1" * 10)
    await store.add(
        origin="a.test", age=timedelta(days=400), content=b"2" * 20, content_type="Video/mp4; x=y"
    )
    await store.add(origin="here.test", user_id="@u:here.test", age=timedelta(days=60), content=b"3" * 5)
    picture = await _statistics(retention)
    assert (picture.total.items, picture.total.bytes) == (3, 35)
    assert [(part.name, part.items, part.bytes) for part in picture.by_origin] == [
        ("a.test", 2, 30),
        ("here.test", 1, 5),
    ]
    assert [(part.name, part.bytes) for part in picture.by_type] == [("video/mp4", 20), ("image/png", 15)]
    assert [(part.name, part.items) for part in picture.by_age] == [
        ("up to a week", 1),
        ("up to three months", 1),
        ("older than that", 1),
    ]


async def test_many_servers_are_the_largest_and_the_others(
    retention: Retention, store: DendriteStore
) -> None:
    for number in range(12):
        await store.add(origin=f"s{number}.test", content=bytes([number]) * (100 - number))
    picture = await _statistics(retention)
    assert picture.by_origin[0].name == "s0.test"
    assert (picture.by_origin[-1].name, picture.by_origin[-1].items) == ("other servers", 3)
    assert sum(part.bytes for part in picture.by_origin) == picture.total.bytes


async def test_a_policy_is_shown_at_every_age_though_it_keeps_for_ever(
    retention: Retention, store: DendriteStore
) -> None:
    for days in (1, 10, 10, 100):
        await store.add(age=timedelta(days=days))
    await store.add(origin="here.test", user_id="@u:here.test", age=timedelta(days=50))
    remote, local = (await _statistics(retention, policies=[REMOTE, _LOCAL])).curves
    assert (remote.policy, remote.keep, local.keep) == ("remote", 30, None)
    assert [remote.older_than(days).items for days in (0, 1, 2, 10, 11, 100, 101)] == [4, 4, 3, 3, 1, 1, 0]
    assert local.older_than(30).items == 1


async def test_what_is_protected_or_restored_is_in_no_curve(
    retention: Retention, store: DendriteStore
) -> None:
    avatar = await store.add()
    await store.add_profile("ann", avatar.uri)
    await store.add()
    (curve,) = (await _statistics(retention)).curves
    assert curve.older_than(0).items == 1


async def test_what_passes_took_and_found_is_told(retention: Retention, store: DendriteStore) -> None:
    media = await store.add()
    await store.add(file=False)
    await store.add(age=timedelta(days=1))
    async with retention.opened() as target:
        await target.run_pass(PassOptions("run"))
        picture = await target.statistics(NullProgress())
    (day,) = picture.freed
    assert (day.items, day.bytes) == (2, len(media.content))
    assert picture.kept == {"not_due": 1}
    assert picture.findings == {"missing_file": 1, "orphan_thumbnail_row": 0}
    assert picture.quarantine.bytes == len(media.content)


async def test_a_picture_changes_nothing(
    retention: Retention,
    store: DendriteStore,
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    await store.add()
    await _statistics(retention)
    assert await connection.fetchval("SELECT to_regnamespace('retentiond')") is None


async def test_a_protection_that_cannot_be_read_is_said_and_not_left_out(
    retention: Retention,
    store: DendriteStore,
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    await store.add()
    await connection.execute("DROP TABLE userapi_profiles")
    with pytest.raises(RefusedError, match="userapi_profiles"):
        await _statistics(retention)


async def test_all_passes_together_and_the_newest_record_are_in_the_report(
    retention: Retention, store: DendriteStore
) -> None:
    media = await store.add()
    await store.add()
    async with retention.opened(settle="0s") as target:
        await target.run_pass(PassOptions("run"))
        await target.restore(Selection(media=media.uri))
        swept = await target.end_grace()
        report = await collect(
            target,
            media_target(configure(retention.database, retention.media_path)),
            datetime.now(UTC),
            NullProgress(),
        )
        newest = await target.verify_records()
    assert report.statistics
    assert report.statistics.totals == PassTotals(
        Tally(2, 2 * len(media.content)), Tally(swept.purged, swept.purged_bytes), 1
    )
    assert report.newest_record == newest.last
    assert newest.last.hash in render([report], datetime.now(UTC), "1")


async def test_the_limits_are_compared_with_what_is_due_now_and_not_with_all_that_ever_comes_due(
    retention: Retention, store: DendriteStore
) -> None:
    avatar = await store.add(age=timedelta(days=40))
    await store.add_profile("ann", avatar.uri)
    for days in (1, 2, 29, 31, 32):
        await store.add(age=timedelta(days=days))
    limits = {"max_share": 0.5, "max_items": 4}
    async with retention.opened(limits=limits) as target:
        statistics = await target.statistics(NullProgress())
        planned = await target.plan(None, NullProgress())
    assert planned.removed_items == 2
    assert statistics.limits == (Headroom("max_share", 2 / 6, 0.5), Headroom("max_items", 2, 4))


async def test_growth_does_not_bring_a_limit_nearer(retention: Retention, store: DendriteStore) -> None:
    async with retention.opened() as target:
        await store.add(age=timedelta(days=1))
        await target.run_pass(PassOptions("run"))
        for _ in range(3):
            await store.add(age=timedelta(days=31))
        statistics = await target.statistics(NullProgress())
    assert [limit.value for limit in statistics.limits] == [0.0, 3]


async def test_rooms_have_their_names_else_their_aliases_and_no_text_of_a_stranger_breaks_them(
    retention: Retention, store: DendriteStore
) -> None:
    rooms: dict[str, tuple[str, dict[str, Any] | str]] = {
        "!named:a.test": ("m.room.name", {"name": "Cats & <dogs>"}),
        "!alias:a.test": ("m.room.canonical_alias", {"alias": "#cats:a.test"}),
        "!number:a.test": ("m.room.name", {"name": 7}),
        "!list:a.test": ("m.room.name", "[1, 2]"),
        "!text:a.test": ("m.room.name", "{" * 50_000),
        "!long:a.test": ("m.room.name", {"name": "x" * 10_000}),
    }
    for room, (kind, content) in rooms.items():
        await store.add_state_event(room, kind, "", content)
    await store.add_state_event("!named:a.test", "m.room.canonical_alias", "", {"alias": "#other:a.test"})
    async with retention.opened() as target:
        names = await target.room_names([*rooms, "!none:a.test", "odd\0"])
    assert names == {
        "!named:a.test": "Cats & <dogs>",
        "!alias:a.test": "#cats:a.test",
        "!long:a.test": "x" * 255,
    }


async def test_rooms_without_a_readable_table_of_state_keep_their_ids(
    retention: Retention, store: DendriteStore, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute("DROP TABLE syncapi_current_room_state")
    async with retention.opened() as target:
        assert await target.room_names(["!named:a.test"]) == {}


async def test_the_names_of_a_few_rooms_are_read_by_the_index(
    retention: Retention, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute(
        "INSERT INTO syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key, headered_event_json)"
        " SELECT '!r' || n % 500, '$' || n, 'm.room.member', '@a:here.test', false, '@u' || n, '{}' FROM generate_series(1, 20000) n;"
        "ANALYZE syncapi_current_room_state"
    )
    plan = await connection.fetch(f"EXPLAIN {STATISTICS_SQL['room_names']}", ["!r1", "!r2"])
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan on syncapi_current_room_state" not in text
    assert "Index Scan" in text


async def test_all_parts_of_the_report_have_the_bytes_of_the_store(
    retention: Retention, store: DendriteStore
) -> None:
    for number in range(30):
        media = await store.add(
            origin=f"s{number % 12}.test", content=bytes([number]) * (50 + number), age=timedelta(days=number)
        )
        await store.add_event(f"!r{number % 3}:a.test", {"url": media.uri})
    await store.add(content=bytes([3]) * 53)
    async with retention.opened() as target:
        report = await collect(
            target,
            media_target(configure(retention.database, retention.media_path)),
            datetime.now(UTC),
            NullProgress(),
        )
        separately = {by: await target.usage(by, 1000, NullProgress()) for by in target.divisions}
    assert report.statistics
    total = report.statistics.total
    assert set(report.usage) == set(target.divisions)
    for by, rows in report.usage.items():
        assert list(rows) == separately[by], by
        assert sum(row.bytes for row in rows) == total.bytes, by
    page = render([report], datetime.now(UTC), "1")
    assert f'<data value="{total.bytes}">' in page
