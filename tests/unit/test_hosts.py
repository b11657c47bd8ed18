"""`hosts`: a configuration that several hosts share, and targets that only some of them work on."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from retentiond.config.schema import left_alone_on
from retentiond.model.errors import UnreachableError
from tests.support.command_line import CommandLine
from tests.support.fake_target import FakeTarget
from tests.support.media_target import configure
from tests.support.running_daemon import RunningDaemon, media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

HERE = socket.gethostname()
HOSTS = "    hosts: [{}]\n"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunningDaemon]:
    running = RunningDaemon(tmp_path)
    yield running
    await running.close()


@pytest.mark.parametrize(
    ("hosts", "host", "alone"),
    [
        (None, "media1", False),
        (["media1", "media2"], "MEDIA2", False),
        (["media1"], "media1.example.org", False),
        (["media1.example.org"], "media1.example.org", False),
        (["media1.example.org"], "media1", True),
        (["media1"], "media10", True),
    ],
)
def test_a_target_is_left_alone_on_hosts_that_it_does_not_name(
    tmp_path: Path, hosts: list[str] | None, host: str, alone: bool
) -> None:
    config = configure("postgresql://localhost/x", tmp_path, **({"hosts": hosts} if hosts else {}))
    assert left_alone_on(config.targets["media"], host) is alone


def line_for(tmp_path: Path, hosts: str, *targets: FakeTarget) -> CommandLine:
    return CommandLine(tmp_path, targets or (FakeTarget(),), tail=HOSTS.format(hosts))


@pytest.mark.parametrize(
    "words",
    [
        "plan",
        "once media",
        "audit",
        "delete --media mxc://a/b --yes",
        "quarantine restore media --all",
        "quarantine purge --yes",
        "quarantine accept media --yes",
    ],
)
def test_a_command_leaves_the_target_of_another_host_alone_without_an_error_and_says_so(
    tmp_path: Path, words: str
) -> None:
    line = line_for(tmp_path, "elsewhere")
    outcome = line.type(*words.split())
    assert outcome.status == 0
    assert f"media: skipped on this host, {HERE}; its `hosts` are elsewhere" in outcome.stderr
    assert not line.factory.configs


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ("once", "passes"),
        ("audit", "audits"),
        ("quarantine restore --media mxc://a/b", "restores"),
        ("quarantine purge", "purges"),
    ],
)
def test_as_json_what_was_done_with_a_target_that_is_left_alone_is_nothing(
    tmp_path: Path, words: str, what: str
) -> None:
    outcome = line_for(tmp_path, "elsewhere").type(*words.split(), "--json")
    assert (outcome.status, outcome.document) == (0, {what: []})


def test_wrong_usage_is_wrong_usage_where_the_target_is_left_alone(tmp_path: Path) -> None:
    assert line_for(tmp_path, "elsewhere").type("quarantine", "restore").status == 2


@pytest.mark.parametrize("words", ["status", "hold list", "hold add --media mxc://a/b", "records export"])
def test_what_needs_the_database_alone_is_told_anywhere(tmp_path: Path, words: str) -> None:
    line = line_for(tmp_path, "elsewhere")
    assert line.type(*words.split()).status == 0
    assert "media" in line.factory.configs


def test_a_host_in_charge_works_and_a_missing_directory_is_an_error_there(tmp_path: Path) -> None:
    gone = UnreachableError("the media directory cannot be opened; check that it is mounted")
    line = line_for(tmp_path, f"elsewhere, {HERE}", FakeTarget(unreachable=gone))
    outcome = line.type("once")
    assert outcome.status == 4
    assert "cannot be opened" in outcome.stderr


async def test_the_daemon_leaves_the_target_of_another_host_alone_and_says_so(daemon: RunningDaemon) -> None:
    await daemon.start(mine=media(hosts=[HERE]), theirs=media(hosts=["elsewhere"]))
    await daemon.until(lambda: daemon.stores["mine"].beats)
    [entry] = daemon.entries("target_left_alone")
    assert (entry["target"], entry["host"], entry["hosts"]) == ("theirs", HERE, ["elsewhere"])
    assert daemon.stores["theirs"].configs == []


async def test_a_reload_hands_a_target_over_to_another_host(daemon: RunningDaemon) -> None:
    await daemon.start(media=media())
    await daemon.until(lambda: daemon.stores["media"].beats)
    daemon.configure(media=media(hosts=["elsewhere"]))
    await daemon.reload()
    await daemon.until(lambda: daemon.stores["media"].open == 0)
    assert len(daemon.entries("target_left_alone")) == 1
