"""`health`: a heartbeat of a daemon of this host, and of no other, within three minutes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from retentiond.ledger.host import host_name
from retentiond.ledger.leadership import daemons_of, is_daemon_of
from tests.support.command_line import RealCommandLine

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command_line import Connection
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore


@pytest.fixture
def line(tmp_path: Path, database: str, media_path: Path) -> RealCommandLine:
    return RealCommandLine(tmp_path, database=database, media_path=media_path)


@pytest.fixture
def with_ledger(line: RealCommandLine) -> RealCommandLine:
    async def fill(store: DendriteStore, _connection: Connection) -> None:
        await store.add(origin="here.test", user_id="@alice:here.test")

    line.arrange(fill)
    assert line.type("once").status == 0
    return line


def beat(line: RealCommandLine, host: str, ago: str) -> None:
    line.execute(f"INSERT INTO retentiond.daemon VALUES ('{host}', 7, clock_timestamp() - interval '{ago}')")


def test_without_a_daemon_health_fails_before_the_first_pass_and_after_it(
    line: RealCommandLine, with_ledger: RealCommandLine
) -> None:
    for made in (line, with_ledger):
        outcome = made.type("health")
        assert (outcome.status, outcome.stdout) == (1, "")
        assert "no daemon works on it; see the daemon's log" in outcome.stderr


def test_a_heartbeat_of_this_host_is_health_and_an_old_one_is_not(with_ledger: RealCommandLine) -> None:
    beat(with_ledger, host_name(), "170 seconds")
    healthy = with_ledger.type("health")
    assert (healthy.status, healthy.stderr) == (0, "")
    assert healthy.stdout == f"media: the daemon works on this host, {host_name()}\n"
    assert with_ledger.type("--quiet", "health").stdout == ""
    with_ledger.execute("UPDATE retentiond.daemon SET beat_at = beat_at - interval '1 minute'")
    assert with_ledger.type("health").status == 1


def test_a_daemon_of_another_host_is_not_the_health_of_this_one_and_is_named(
    with_ledger: RealCommandLine,
) -> None:
    beat(with_ledger, "3f2a7c", "1 second")
    outcome = with_ledger.type("health")
    assert outcome.status == 1
    assert f"no heartbeat of a daemon on this host, {host_name()}" in outcome.stderr
    assert "the daemon that works on it is on 3f2a7c, pid 7" in outcome.stderr


def test_a_database_that_cannot_be_reached_is_not_health(line: RealCommandLine) -> None:
    line.database = "postgresql://dendrite@127.0.0.1:1/dendrite"
    outcome = line.type("health")
    assert outcome.status == 4
    assert "nothing listens there" in outcome.stderr


def test_a_target_of_another_host_needs_no_daemon_here(line: RealCommandLine) -> None:
    line.keys = {"hosts": ["elsewhere"]}
    assert json.loads(line.text())["targets"]["media"]["hosts"] == ["elsewhere"]
    assert line.type("health").status == 0


async def test_before_there_is_a_ledger_the_lock_of_the_daemon_shows_it(
    retention: Retention, connection: Connection
) -> None:
    async with retention.opened() as target:
        await target.sweep(everything=True)
        daemons = await daemons_of(connection, "media", ledger=False)
    assert [is_daemon_of(daemon, host_name()) for daemon in daemons] == [True]
    assert not is_daemon_of(daemons[0], host_name() + "2")
