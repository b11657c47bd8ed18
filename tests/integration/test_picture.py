"""The picture of a store counts what is there, and what each policy would take at any age."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from retentiond.engine.target import NullProgress, PassOptions
from retentiond.model.errors import RefusedError
from tests.support.media_target import REMOTE

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
