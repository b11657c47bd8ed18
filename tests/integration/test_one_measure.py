"""A set of due items has one size, wherever it is shown: the bytes that leave the media tree, thumbnails too."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from retentiond.adapters.metrics import Metrics
from retentiond.engine.target import NullProgress, PassOptions
from tests.support.chance import AGAIN, SEED
from tests.support.media_target import REMOTE, Retention
from tests.support.store import COMMON_THUMBNAILS, DendriteStore

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.targets.dendrite_media.target import DendriteMedia
    from tests.support.database import DatabaseServer

_DAYS = timedelta(days=1)
_POLICIES = [
    {"name": "video", "match": {"origin": "remote", "content_type": "video/*"}, "keep": "10d"},
    {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
    {"name": "bots", "match": {"origin": "local", "user": "@bot-*"}, "keep": "60d"},
    {"name": "local", "match": {"origin": "local"}, "keep": "forever"},
]


async def _fill(store: DendriteStore, chance: random.Random) -> None:
    """Add media that share contents across origins, policies and ages, with thumbnails, some of them protected."""
    contents = [chance.randbytes(chance.randrange(1, 5000)) for _ in range(20)]
    for _ in range(60):
        local = chance.random() < 0.3
        media = await store.add(
            origin="here.test" if local else chance.choice(["a.test", "b.test"]),
            user_id=chance.choice(["@bot-x:here.test", "@ann:here.test"]) if local else "",
            content=chance.choice(contents),
            content_type=chance.choice(["video/mp4", "image/png"]),
            age=chance.choice([1, 9, 20, 40, 90]) * _DAYS,
            thumbnails=[thumbnail for thumbnail in COMMON_THUMBNAILS if chance.random() < 0.4],
        )
        if chance.random() < 0.1:
            await store.add_profile(f"user{media.key.media_id}", media.uri)


async def _sizes(target: DendriteMedia) -> dict[str, tuple[int, int]]:
    """Return the items and bytes that each view of a store with a backlog calls due."""
    plan = await target.plan(None, NullProgress())
    curves = (await target.statistics(NullProgress())).curves
    now = [curve.older_than(curve.keep) for curve in curves if curve.keep is not None]
    status = await target.status()
    assert status.backlog is not None
    metrics = Metrics()
    metrics.stands(status)
    measured = [
        metrics.registry.get_sample_value(f"retentiond_overdue_{what}", {"target": "media"})
        for what in ("items", "bytes")
    ]
    return {
        "plan": (plan.removed_items, plan.removed_bytes),
        "report": (sum(tally.items for tally in now), sum(tally.bytes for tally in now)),
        "status": (status.backlog.items, status.backlog.bytes),
        "metrics": (int(measured[0] or 0), int(measured[1] or 0)),
    }


@pytest.mark.parametrize("run", range(3))
async def test_plan_report_status_metrics_and_pass_agree_on_what_is_due(
    retention: Retention, store: DendriteStore, run: int
) -> None:
    await _fill(store, random.Random(f"{SEED} {run}"))
    async with retention.opened(policies=_POLICIES, limits={"max_share": 0.0}) as target:
        assert (await target.run_pass(PassOptions("run"))).refused is not None
        sizes = await _sizes(target)
        assert len(set(sizes.values())) == 1, (sizes, AGAIN)
        taken = await target.run_pass(PassOptions("once", over_limits=True))
        assert (taken.removed_items, taken.removed_bytes) == sizes["plan"], AGAIN
        left = (await target.status()).backlog
    assert left is not None
    assert (left.items, left.bytes, left.since) == (0, 0, None)


async def test_a_plan_for_another_age_and_the_report_s_slider_agree(
    retention: Retention, store: DendriteStore
) -> None:
    await _fill(store, random.Random(SEED))
    async with retention.opened() as target:
        (curve,) = (await target.statistics(NullProgress())).curves
        for days in (0, 7, 15, 30, 60, 365):
            plan = await target.plan(None, NullProgress(), keep=days * _DAYS)
            tally = curve.older_than(days)
            assert (plan.removed_items, plan.removed_bytes) == (tally.items, tally.bytes), AGAIN


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII"])
async def test_rows_that_the_server_leaves_to_python_have_the_same_size_in_the_report(
    postgres: DatabaseServer, media_path: Path, encoding: str
) -> None:
    dsn = await postgres.make(f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'")
    connection = await asyncpg.connect(dsn)
    await _fill(DendriteStore(connection, media_path), random.Random(SEED))
    # One age for all: what is shared by rows of several policies is freed with the newest of them at any age.
    local = {"name": "local", "match": {"origin": "local"}, "keep": "30d"}
    # A pattern with a letter beyond ASCII matches no media here, and only Python can tell.
    for odd in ({"origin": "remote"}, {"origin": "*.test"}, {"uploaded_before": "2100-01-01"}):
        left = {"name": "odd", "match": {**odd, "content_type": "vidéo/*"}, "keep": "30d"}
        async with Retention(dsn, media_path).opened(policies=[left, REMOTE, local]) as target:
            curves = (await target.statistics(NullProgress())).curves
            for days in (0, 15, 60):
                plan = await target.plan(None, NullProgress(), keep=days * _DAYS)
                parts = [curve.older_than(days) for curve in curves]
                due = (sum(part.items for part in parts), sum(part.bytes for part in parts))
                assert (plan.removed_items, plan.removed_bytes) == due, (odd, days, AGAIN)
    await connection.close()
    await postgres.drop(dsn)


async def test_what_a_pass_left_keeps_its_size_beside_large_thumbnails_that_went(
    retention: Retention, store: DendriteStore, media_path: Path
) -> None:
    goes = await store.add(content=b"small", thumbnails=COMMON_THUMBNAILS, age=100 * _DAYS)
    stays = await store.add(content=b"larger content", age=50 * _DAYS)
    name = stays.base64hash
    blob = media_path / name[0] / name[1] / name[2:]
    blob.rename(media_path.parent / "elsewhere")
    blob.symlink_to(media_path.parent / "elsewhere")
    async with retention.opened() as target:
        report = await target.run_pass(PassOptions("run"))
        backlog = (await target.status()).backlog
    assert (report.removed_items, report.kept["unsafe_path"]) == (1, 1)
    assert report.removed_bytes > len(goes.content)
    assert backlog is not None
    assert (backlog.items, backlog.bytes) == (1, len(stays.content))


async def test_a_store_s_size_counts_what_rows_share_once_and_thumbnails_too(
    retention: Retention, store: DendriteStore
) -> None:
    await _fill(store, random.Random(SEED))
    async with retention.opened() as target:
        picture = await target.statistics(NullProgress())
    on_disk = sum(len(content) for content in store.files().values())
    assert picture.total.bytes == on_disk, AGAIN
    for slices in (picture.by_origin, picture.by_type, picture.by_age):
        assert sum(part.bytes for part in slices) == on_disk


async def test_a_policy_that_keeps_for_no_time_has_a_backlog_and_a_report(
    retention: Retention, store: DendriteStore
) -> None:
    media = await store.add()
    at_once = [{"name": "remote", "match": {"origin": "remote"}, "keep": "0s"}]
    async with retention.opened(policies=at_once, limits={"max_share": 0.0}) as target:
        report = await target.run_pass(PassOptions("run"))
        backlog = (await target.status()).backlog
        (curve,) = (await target.statistics(NullProgress())).curves
    assert (report.state, report.error) == ("refused", None)
    assert backlog is not None
    assert (backlog.items, backlog.bytes) == (1, len(media.content))
    assert curve.older_than(0).items == 1


@pytest.mark.parametrize("run", range(2))
async def test_usage_sample_and_a_plan_of_everything_have_the_size_of_the_store(
    retention: Retention, store: DendriteStore, run: int
) -> None:
    await _fill(store, random.Random(f"{SEED} usage {run}"))
    everything = [{"name": "all", "match": {"uploaded_before": "2100-01-01"}, "keep": "0s"}]
    async with retention.opened(policies=everything, protect=[]) as target:
        plan = await target.plan(None, NullProgress())
        total = (await target.statistics(NullProgress())).total
        sums = [
            (sum(row.items for row in rows), sum(row.bytes for row in rows))
            for by in target.divisions
            for top in (2, 1000)
            for rows in [await target.usage(by, top, NullProgress())]
        ]
        # The pass of a limit makes the ledger, and takes nothing.
        async with retention.opened(policies=everything, limits={"max_share": 0.0}) as refusing:
            await refusing.run_pass(PassOptions("run"))
        assert await target.take_sample("once", NullProgress())
        (sample,) = await target.samples()
    assert {*sums, (total.items, total.bytes)} == {(plan.removed_items, plan.removed_bytes)}, AGAIN
    assert (sample.stored.items, sample.stored.bytes) == (total.items, total.bytes)
    assert sum(tally.bytes for tally in sample.classes.values()) == total.bytes
    for rows in sample.largest.values():
        assert sum(row.bytes for row in rows) == total.bytes


async def test_what_lies_in_quarantine_has_the_size_that_the_pass_took(
    retention: Retention, store: DendriteStore
) -> None:
    for number in range(3):
        await store.add(thumbnails=COMMON_THUMBNAILS[:number])
    async with retention.opened() as target:
        report = await target.run_pass(PassOptions("run"))
        listed = sum([item.bytes async for item in target.released()])
        quarantine = (await target.status()).quarantine
        (day,) = (await target.statistics(NullProgress())).freed
    assert quarantine is not None
    assert listed == quarantine.bytes == report.removed_bytes == day.bytes > 0


async def test_sizes_that_cannot_be_right_refuse_nothing(retention: Retention, store: DendriteStore) -> None:
    for _ in range(3):
        await store.add(size=2**63 - 1)
    await store.add(size=-(2**63))
    async with retention.opened(limits={"max_share": 0.0}) as target:
        await target.run_pass(PassOptions("run"))
        backlog = (await target.status()).backlog
        picture = await target.statistics(NullProgress())
    assert backlog is not None
    assert (backlog.items, backlog.bytes, picture.total.bytes) == (4, 2**63 - 1, 2**63 - 1)
