"""A proxy's access log tells what was asked for, where the file system does not."""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import NullProgress, PassOptions
from tests.support.media_target import REMOTE

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore, StoredMedia


class ProxyLog:
    """An nginx log that is written line by line, each as if so many days ago."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: dict[str, Any] = {
            "policies": [REMOTE | {"since": "accessed"}],
            "access_log": {"path": str(path), "format": "nginx"},
        }

    def line(self, uri: str, days_ago: float) -> None:
        at = datetime.now(UTC) - timedelta(days=days_ago)
        with self.path.open("a") as file:
            file.write(f'1.2.3.4 - - [{at:%d/%b/%Y:%H:%M:%S +0000}] "GET {uri} HTTP/2.0" 200 9 "-" "x"\n')

    def begin(self, days_ago: int = 60) -> None:
        """Show somebody asking for media once a day since then."""
        for day in range(days_ago, -1, -1):
            self.line("/_matrix/client/v1/media/download/there.test/another", day)

    def ask(self, media: StoredMedia, days_ago: float) -> None:
        uri = f"/_matrix/client/v1/media/download/{media.key.media_origin}/{media.key.media_id}"
        self.line(uri, days_ago)


@pytest.fixture
def log(tmp_path: Path) -> ProxyLog:
    return ProxyLog(tmp_path / "access.log")


@pytest.mark.usefixtures("noatime")
async def test_without_atime_what_the_log_names_stays_and_the_rest_goes(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    asked, asked_long_ago, never = await store.add(), await store.add(), await store.add()
    log.begin()
    log.ask(asked_long_ago, 40)
    log.ask(asked, 10)
    plan, items = await retention.one_plan(**log.keys)
    report = await retention.one_pass(**log.keys)
    assert set(await store.rows()) == {asked.key}
    assert dict(plan.kept) == dict(report.kept) == {"not_due": 1}
    assert {item.media for item in items if item.action == "remove"} == {asked_long_ago.uri, never.uri}
    assert report.remarks == []


@pytest.mark.usefixtures("noatime")
async def test_before_the_log_began_anything_may_have_been_asked_for(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    await store.add()
    log.begin(days_ago=20)
    plan, _ = await retention.one_plan(**log.keys)
    assert plan.removed_items == 0
    assert (await retention.one_pass(**log.keys)).removed_items == 0


@pytest.mark.usefixtures("noatime")
async def test_after_a_gap_the_record_begins_anew(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    log.begin()
    await retention.one_pass(**log.keys)
    await store.add()
    log.path.unlink()
    log.begin(days_ago=5)
    plan, _ = await retention.one_plan(**log.keys)
    report = await retention.one_pass(**log.keys)
    assert (plan.removed_items, report.removed_items) == (0, 0)
    # Else it would look like a store of which everything was asked for.
    assert plan.remarks == report.remarks
    assert [remark.partition(" only since ")[0] for remark in plan.remarks] == [f"{log.path} is complete"]


async def test_the_newest_of_access_time_and_log_counts(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    by_log, by_atime, neither = await store.add(), await store.add(), await store.add()
    for media, days in ((by_log, 90), (by_atime, 3), (neither, 90)):
        path = store.path_of(media.base64hash) / "file"
        os.utime(path, (time.time() - days * 86400,) * 2)
    log.begin(days_ago=20)
    log.ask(by_log, 3)
    await retention.one_pass(**log.keys)
    assert set(await store.rows()) == {by_log.key, by_atime.key}


@pytest.mark.usefixtures("noatime")
async def test_what_was_asked_for_is_known_after_the_log_is_gone_and_across_its_rotation(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    first, second, never = await store.add(), await store.add(), await store.add()
    log.begin()
    log.ask(first, 10)
    limits = {"limits": {"max_items": 1, "max_share": 1.0, "max_missing_files": 1.0}}
    async with retention.opened(**log.keys | limits) as target:
        refused = await target.plan(None, NullProgress())
        assert refused.refused
    await retention.one_pass(**log.keys | limits)
    log.ask(second, 9)
    old = log.path.rename(log.path.with_name("access.log.1"))
    os.utime(old, (time.time() - 60,) * 2)
    log.begin(days_ago=1)
    async with retention.opened(**log.keys) as target:
        await target.sweep(everything=False)
    old.unlink()
    await retention.one_pass(**log.keys)
    assert set(await store.rows()) == {first.key, second.key}
    assert never.key not in await store.rows()


async def test_a_plan_leaves_no_trace_of_the_log(
    connection: asyncpg.Connection[asyncpg.Record],
    store: DendriteStore,
    retention: Retention,
    log: ProxyLog,
) -> None:
    await retention.one_pass()
    log.begin()
    log.ask(await store.add(), 1)
    await retention.one_plan(**log.keys)
    for table in ("access", "access_log"):
        assert await connection.fetchval(f"SELECT count(*) FROM retentiond.{table}") == 0


async def test_the_ledger_takes_no_times_of_media_that_nobody_has(
    connection: asyncpg.Connection[asyncpg.Record],
    store: DendriteStore,
    retention: Retention,
    log: ProxyLog,
) -> None:
    there = await store.add(age=timedelta(days=1))
    log.begin()
    log.ask(there, -100)
    for number in range(10):
        log.line(f"/_matrix/client/v1/media/download/there.test/invented{number}", 1)
    async with retention.opened(**log.keys) as target:
        await target.run_pass(PassOptions(command="run"))
        log.line("/_matrix/client/v1/media/download/there.test/invented", 1)
        await target.sweep(everything=False)
    rows = await connection.fetch(
        "SELECT media_id, accessed_at <= now() AS believable FROM retentiond.access"
    )
    assert [tuple(row) for row in rows] == [(there.key.media_id, True)]
    await connection.execute("DELETE FROM mediaapi_media_repository")
    await retention.one_pass(**log.keys)
    assert await connection.fetchval("SELECT count(*) FROM retentiond.access") == 0


async def test_a_log_that_cannot_be_read_refuses_the_pass(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    media = await store.add()
    plan, _ = await retention.one_plan(**log.keys)
    report = await retention.one_pass(**log.keys)
    assert plan.refused
    assert report.refused
    assert plan.refused.limit == report.refused.limit == "access_log_unreadable"
    assert media.key in await store.rows()


@pytest.mark.usefixtures("noatime")
async def test_a_log_that_no_media_are_asked_for_in_is_not_taken_for_a_store_that_nobody_wants(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    media = await store.add()
    for day in range(60, -1, -1):
        log.line("/_matrix/client/v3/sync", day)
    plan, _ = await retention.one_plan(**log.keys)
    report = await retention.one_pass(**log.keys)
    assert media.key in await store.rows()
    assert plan.removed_items == 0
    assert [str(log.path) in remark for remark in plan.remarks + report.remarks] == [True, True]


@pytest.mark.usefixtures("noatime")
async def test_a_log_that_is_written_to_no_more_keeps_all_until_it_has_told_enough_anew(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    media = await store.add()
    for day in range(60, 4, -1):
        log.line("/_matrix/client/v1/media/download/there.test/another", day)
    plan, _ = await retention.one_plan(**log.keys)
    await retention.one_pass(**log.keys)
    assert plan.removed_items == 0
    log.begin(days_ago=1)
    await retention.one_pass(**log.keys)
    assert media.key in await store.rows()


@pytest.mark.usefixtures("noatime")
async def test_what_other_servers_ask_for_by_its_id_alone_stays(
    store: DendriteStore, retention: Retention, log: ProxyLog
) -> None:
    ours, theirs, of_nobody = [
        await store.add(media_id=media_id, origin=origin, user_id=user)
        for media_id, origin, user in (
            ("id", "Here.test", "@ann:here.test"), ("id", "there.test", ""), ("preview", "Here.test", "")
        )
    ]  # fmt: skip
    log.begin()
    log.line("/_matrix/federation/v1/media/download/id", 3)
    log.line("/_matrix/federation/v1/media/download/preview", 3)
    log.line("/_matrix/client/v1/media/download/Here.test/id", 40)
    every = {"name": "local", "match": {"origin": "local"}, "keep": "30d", "since": "accessed"}
    keys = log.keys | {"policies": [*log.keys["policies"], every]}
    await retention.one_pass(**keys)
    assert set(await store.rows()) == {ours.key, of_nobody.key}
    assert theirs.key not in await store.rows()


def on_host(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)


@pytest.mark.usefixtures("noatime")
async def test_a_container_that_is_made_anew_under_another_name_goes_on_with_the_record(
    store: DendriteStore, retention: Retention, log: ProxyLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, *never = [await store.add() for _ in range(3)]
    log.begin()
    log.ask(asked, 10)
    refused = {"limits": {"max_items": 1, "max_share": 1.0, "max_missing_files": 1.0}}
    for upgrade in range(3):
        on_host(monkeypatch, f"container-{upgrade}")
        assert (await retention.one_pass(**log.keys | refused)).refused
        # The day's log is rotated away after each upgrade, so that the record is all that is left of it.
        old = log.path.rename(log.path.with_name("access.log.1"))
        os.utime(old, (time.time() - 60,) * 2)
        log.begin(days_ago=0)
        async with retention.opened(**log.keys) as target:
            await target.sweep(everything=False)
        old.unlink()
    on_host(monkeypatch, "container-3")
    report = await retention.one_pass(**log.keys)
    assert report.remarks == []
    assert set(await store.rows()) == {asked.key}
    assert report.removed_items == len(never)


@pytest.mark.usefixtures("noatime")
async def test_two_hosts_with_logs_of_one_path_are_told_apart_and_what_either_cannot_tell_keeps(
    store: DendriteStore,
    retention: Retention,
    log: ProxyLog,
    monkeypatch: pytest.MonkeyPatch,
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    on_host(monkeypatch, "one")
    log.begin()
    await retention.one_pass(**log.keys)
    await store.add()
    first = log.path.rename(log.path.with_name("of-one"))
    # The other host's proxy has written for five days only: before that, anything may have been asked for there.
    on_host(monkeypatch, "other")
    log.begin(days_ago=5)
    assert (await retention.one_pass(**log.keys)).removed_items == 0
    other = log.path.rename(log.path.with_name("of-other"))
    on_host(monkeypatch, "one")
    first.rename(log.path)
    report = await retention.one_pass(**log.keys)
    assert report.removed_items == 0
    assert [" only since " in remark for remark in report.remarks] == [True]
    logs = await connection.fetch("SELECT host FROM retentiond.access_log ORDER BY host")
    assert [row["host"] for row in logs] == ["one", "other"]
    # Nor is anything taken by one alone while nobody reads the other.
    await connection.execute(
        "UPDATE retentiond.access_log SET read_at = now() - interval '2 days' WHERE host = 'other'"
    )
    report = await retention.one_pass(**log.keys)
    assert report.removed_items == 0
    assert ["other:" in remark for remark in report.remarks] == [True]
    # A host that is gone for good is forgotten.
    await connection.execute(
        "UPDATE retentiond.access_log SET read_at = now() - interval '31 days' WHERE host = 'other'"
    )
    log.line("/", 0)
    assert (await retention.one_pass(**log.keys)).removed_items == 1
    assert other.exists()
