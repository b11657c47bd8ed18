"""What other ages would free, on a real store."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from retentiond.engine.target import NullProgress
from tests.support.media_target import REMOTE

if TYPE_CHECKING:
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

FOREVER = {"name": "local", "match": {"origin": "local"}, "keep": "forever"}


async def test_another_age_counts_for_every_policy_but_those_that_keep_for_ever(
    store: DendriteStore, retention: Retention
) -> None:
    for days in (10, 40, 100):
        await store.add(age=timedelta(days=days))
    await store.add(age=timedelta(days=900), origin="here.test", user_id="@ann:here.test")
    protected = await store.add(age=timedelta(days=100))
    await store.add_profile("ann", protected.uri)
    async with retention.opened(policies=[REMOTE, FOREVER]) as target:
        plans = {
            days: await target.plan(None, NullProgress(), keep=timedelta(days=days))
            for days in (1, 20, 50, 200)
        }
        assert (await target.plan(None, NullProgress())).removed_items == 2
    assert {days: plan.removed_items for days, plan in plans.items()} == {1: 3, 20: 2, 50: 1, 200: 0}
    assert plans[1].removed_bytes == 3 * 192
    assert plans[1].kept == {"not_due": 1, "profile_avatars": 1}
