"""The backlog tells of what is due and does not go, and of nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from retentiond.engine.target import PassOptions
from retentiond.model.errors import UnreachableError
from retentiond.targets.dendrite_media.quarantine.removal import Removal

if TYPE_CHECKING:
    import pytest

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore


async def test_what_a_limit_holds_back_is_in_the_backlog_since_it_is_due(
    retention: Retention, store: DendriteStore
) -> None:
    oldest = await store.add(age=timedelta(days=100))
    await store.add(age=timedelta(days=40))
    async with retention.opened(limits={"max_share": 0.5}) as target:
        assert (await target.status()).backlog is None
        report = await target.run_pass(PassOptions("run"))
        assert report.refused is not None
        backlog = (await target.status()).backlog
    assert backlog is not None
    assert (backlog.items, backlog.bytes) == (2, 2 * len(oldest.content))
    assert backlog.since is not None
    assert abs(backlog.since - (datetime.now(UTC) - timedelta(days=70))) < timedelta(hours=1)


async def test_what_a_pass_took_is_no_backlog_any_more(retention: Retention, store: DendriteStore) -> None:
    await store.add()
    async with retention.opened() as target:
        await target.run_pass(PassOptions("run"))
        backlog = (await target.status()).backlog
    assert backlog is not None
    assert (backlog.items, backlog.bytes, backlog.since) == (0, 0, None)


async def test_what_is_not_due_or_protected_is_no_backlog(retention: Retention, store: DendriteStore) -> None:
    await store.add(age=timedelta(days=1))
    avatar = await store.add()
    await store.add_profile("ann", avatar.uri)
    async with retention.opened() as target:
        await target.run_pass(PassOptions("run"))
        backlog = (await target.status()).backlog
    assert backlog is not None
    assert backlog.items == 0


async def test_a_pass_that_was_lost_leaves_its_backlog_to_be_seen(
    retention: Retention, store: DendriteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add()

    async def fail(self: Removal) -> None:
        raise UnreachableError("the disk is gone")

    monkeypatch.setattr(Removal, "run", fail)
    async with retention.opened() as target:
        report = await target.run_pass(PassOptions("run"))
        backlog = (await target.status()).backlog
    assert report.state == "interrupted"
    assert backlog is not None
    assert backlog.items == 1
