"""`check-config --connect` on a real store counts the entries of each policy, and warns of policies without any."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from retentiond.engine.target import NullProgress
from retentiond.model.check import PolicyCount
from tests.support.command_line import RealCommandLine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command_line import Connection
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

POLICIES = [
    {"name": "videos", "match": {"content_type": "video/*"}, "keep": "7d"},
    {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"},
    {"name": "typo", "match": {"origin": "*.matrix.ogr"}, "keep": "30d"},
    {"name": "thumbs", "match": {"origin": "remote"}, "keep": "30d", "remove": "thumbnails"},
    {"name": "none", "match": {"unreferenced": True, "origin": "local"}, "keep": "30d"},
]
QUOTA = [{"name": "all-remote", "match": {"origin": "remote"}, "max_size": "1GiB"}]


async def fill(store: DendriteStore) -> None:
    await store.add(content_type="video/mp4")
    await store.add()
    await store.add(age=timedelta(days=1))


def move_away(media_path: Path) -> None:
    for directory in media_path.iterdir():
        directory.rename(media_path.parent / directory.name)


async def test_each_policy_has_the_entries_that_it_decides_about_and_those_that_a_plan_deletes(
    store: DendriteStore, retention: Retention
) -> None:
    await fill(store)
    async with retention.opened(policies=POLICIES, quota=QUOTA, limits={"max_share": 1.0}) as target:
        check = await target.check()
        assert (await target.status()).ledger is False
    assert list(check.problems) == []
    assert list(check.policies) == [
        PolicyCount("videos", 1, 1),
        PolicyCount("remote", 2, 1),
        PolicyCount("typo", 0, 0),
        PolicyCount("thumbs", 3, 0),
        PolicyCount("none", 0, 0),
        PolicyCount("all-remote", 3, None),
    ]


async def test_what_a_protection_keeps_is_not_counted_as_due(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add()
    await store.add_profile("a", media.key.uri)
    async with retention.opened(limits={"max_share": 1.0}) as target:
        check = await target.check()
        plan = await target.plan(None, NullProgress())
    assert list(check.policies) == [PolicyCount("remote", 2, 1)]
    assert plan.removed["remote"].items == 1


async def test_what_a_refused_plan_did_not_count_is_not_taken_for_none(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    await store.add()
    move_away(media_path)
    async with retention.opened() as target:
        check = await target.check()
    assert check.problems
    assert list(check.policies) == []


def test_a_glob_that_no_entry_has_is_warned_of_with_its_place_and_the_status_stays_0(
    tmp_path: Path, database: str, media_path: Path
) -> None:
    line = RealCommandLine(tmp_path, database=database, media_path=media_path)
    line.keys = {"policies": POLICIES[:3], "limits": {"max_share": 1.0}}

    async def fill_it(store: DendriteStore, _connection: Connection) -> None:
        await fill(store)

    line.arrange(fill_it)
    outcome = line.type("check-config", "--connect")
    assert outcome.status == 0
    (warning,) = [text for text in outcome.stderr.splitlines() if "matches no entry" in text]
    assert warning.startswith(f"{line.config}:1:")
    assert "warning: targets.media.policies[2].match: matches no entry in the database now" in warning
    assert "2 entries now, 1 due" in outcome.stdout
