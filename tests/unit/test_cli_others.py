"""How the daemon and the demo are started, and how sizes, ages and policies are said."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.config.policies import MatchConfig, PolicyConfig, QuotaConfig
from retentiond.config.schedule import Schedule
from retentiond.demo.options import DemoOptions
from retentiond.terminal.words import (
    age_in_words,
    count_in_words,
    policy_in_words,
    quota_in_words,
    schedule_in_words,
    size_in_words,
)
from tests.support.command_line import CommandLine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rich.console import Console


@pytest.mark.parametrize("status", [0, 1, 2])
def test_run_is_the_daemon_with_its_exit_status(tmp_path: Path, status: int) -> None:
    started: list[Any] = []

    async def run_daemon(
        config_path: Path, environment: Mapping[str, str], *, quiet: bool = False, debug: bool = False
    ) -> int:
        started.append((config_path, environment["RETENTIOND_CONFIG"], quiet, debug))
        return status

    line = CommandLine(tmp_path)
    assert line.type("-v", "run", run_daemon=run_daemon).status == status
    assert started == [(line.config, str(line.config), False, True)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("demo",), DemoOptions(1000)),
        (("demo", "--media", "5", "--json"), DemoOptions(5, as_json=True)),
        (("demo", "--chats"), DemoOptions(1000, chats=True)),
    ],
)
def test_the_demo_needs_no_configuration(tmp_path: Path, words: tuple[str, ...], expected: Any) -> None:
    started: list[Any] = []

    async def run_demo(order: DemoOptions, console: Console, _screen: Console | None) -> int:
        started.append(order)
        console.print("[shown]")
        return 0

    line = CommandLine(tmp_path)
    line.config.unlink()
    outcome = line.type(*words, run_demo=run_demo)
    assert (outcome.status, outcome.stdout) == (0, "[shown]\n")
    assert started == [expected]


def test_the_demo_is_told_what_to_keep_and_where_to_report(tmp_path: Path) -> None:
    orders: list[DemoOptions] = []

    async def run_demo(order: DemoOptions, _console: Console, _screen: Console | None) -> int:
        orders.append(order)
        return 3

    words = ("--keep", str(tmp_path / "x"), "--report", str(tmp_path / "y"))
    assert CommandLine(tmp_path).type("demo", *words, run_demo=run_demo).status == 3
    assert orders == [DemoOptions(1000, tmp_path / "x", tmp_path / "y")]


def test_a_demo_of_no_media_is_wrong_usage(tmp_path: Path) -> None:
    assert CommandLine(tmp_path).type("demo", "--media", "0").status == 2


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (-1, "-1 B"),
        (2**70, "1048576.0 PiB"),
    ],
)
def test_a_size_is_said_shortly(size: int, words: str) -> None:
    assert size_in_words(size) == words


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (timedelta(days=30), "30 days"),
        (timedelta(hours=24), "24 hours"),
        (timedelta(hours=1, minutes=30), "1 hour 30 minutes"),
        (timedelta(0), "0 seconds"),
    ],
)
def test_an_age_is_said_with_its_units(age: timedelta, words: str) -> None:
    assert age_in_words(age) == words


def test_a_count_of_one_has_no_plural() -> None:
    assert (count_in_words(1, "item"), count_in_words(1200, "item")) == ("1 item", "1,200 items")


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (
            PolicyConfig(name="x", match=MatchConfig(origin="local"), keep="forever"),
            "media of this server: kept forever",
        ),
        (
            PolicyConfig(name="x", match=MatchConfig(origin="*.example.org"), keep="0s"),
            "media of *.example.org: deleted by the next pass, whatever their age",
        ),
        (
            PolicyConfig(
                name="x",
                match=MatchConfig(
                    user="@bot:a",
                    content_type="video/*",
                    larger_than="2KiB",
                    uploaded_before=date(2025, 1, 31),
                    upload_name="*.mp4",
                ),
                keep="7d",
            ),
            (
                "media, uploaded by @bot:a, of type video/*, larger than 2.0 KiB, stored before 2025-01-31, "
                "named *.mp4: deleted when older than 7 days"
            ),
        ),
        (
            PolicyConfig(name="x", match=MatchConfig(unreferenced=True), keep="30d", since="accessed"),
            "media, without references: deleted when not accessed for 30 days",
        ),
        (
            PolicyConfig(name="x", match=MatchConfig(room="upgraded"), keep="30d", remove="thumbnails"),
            "only the thumbnails of media, of upgraded rooms: deleted when older than 30 days",
        ),
    ],
)
def test_a_policy_is_said_in_words(policy: PolicyConfig, words: str) -> None:
    assert policy_in_words(policy) == words


def test_a_quota_is_said_in_words() -> None:
    quota = QuotaConfig(
        match=MatchConfig(origin="remote"),
        max_size="1GiB",
        min_free_disk="2GiB",
        evict="oldest",
        min_age="3d",
    )
    assert quota_in_words(quota) == (
        "media of other servers: at most 1.0 GiB and at least 2.0 GiB of disk free, the oldest first, "
        "none younger than 3 days"
    )


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (None, "only by hand"),
        (Schedule(every=timedelta(hours=6)), "every 6 hours"),
        (
            Schedule(cron="30 3 * * *", timezone="Europe/Berlin", jitter=timedelta(minutes=5)),
            "by crontab, 30 3 * * * (Europe/Berlin), up to 5 minutes later",
        ),
        (Schedule(cron="0 4 * * 0"), "by crontab, 0 4 * * 0 (local time)"),
    ],
)
def test_a_schedule_is_said_in_words(schedule: Schedule | None, words: str) -> None:
    assert schedule_in_words(schedule) == words
