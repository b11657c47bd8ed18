"""`once` from cron, without a daemon: what is over goes in the first run after it, and not a run later."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import PassOptions
from retentiond.targets.dendrite_media.passes.steps import MediaSteps
from tests.support.media_target import REMOTE, let_pass
from tests.support.store import COMMON_THUMBNAILS

if TYPE_CHECKING:
    import asyncpg

    from retentiond.model.report import PassReport
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

THUMBNAILS: dict[str, Any] = {"policies": [REMOTE | {"remove": "thumbnails"}]}
DAY = timedelta(days=1)


async def once(retention: Retention, **keys: Any) -> PassReport:
    async with retention.opened(**keys) as target:
        return await target.run_pass(PassOptions(command="once"))


@pytest.mark.parametrize("keys", [{}, THUMBNAILS, {"settle": "30s"}, THUMBNAILS | {"settle": "30s"}])
async def test_the_first_run_after_the_grace_purges(
    connection: Connection, store: DendriteStore, retention: Retention, keys: dict[str, Any]
) -> None:
    await store.add(thumbnails=COMMON_THUMBNAILS)
    await once(retention, **keys)
    assert store.left_of_ours() != []
    await connection.execute("UPDATE retentiond.entry SET looked_at = NULL")
    await let_pass(connection, DAY + timedelta(hours=1))
    for table in ("released_media", "thumbnail_release"):
        await connection.execute(f"UPDATE retentiond.{table} SET grace_until = now() - interval '1 hour'")
    await once(retention, **keys)
    assert store.left_of_ours() == []


async def test_a_grace_that_ends_during_the_run_is_over_at_its_end(
    connection: Connection, store: DendriteStore, retention: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of every day begins some seconds before the grace of a day ago ends."""
    await store.add()
    await once(retention)
    await let_pass(connection, DAY - timedelta(hours=1))
    account = MediaSteps.account

    async def later(self: MediaSteps, report: PassReport) -> None:
        await account(self, report)
        await let_pass(connection, timedelta(hours=1))

    monkeypatch.setattr(MediaSteps, "account", later)
    await once(retention)
    assert store.left_of_ours() == []


@pytest.mark.parametrize("keys", [{}, THUMBNAILS])
async def test_a_purge_by_hand_needs_no_second_run_for_the_second_look(
    connection: Connection, store: DendriteStore, retention: Retention, keys: dict[str, Any]
) -> None:
    await store.add(thumbnails=COMMON_THUMBNAILS)
    await retention.one_pass(**keys)
    await let_pass(connection, timedelta(hours=2))
    async with retention.opened(**keys) as target:
        await target.end_grace()
    assert store.left_of_ours() == []
