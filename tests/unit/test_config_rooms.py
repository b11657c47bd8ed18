"""Room targets: what may be written, and what is said, with its place, of what may not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from retentiond.config.load import load_config
from retentiond.config.problems import ConfigError
from retentiond.config.rooms import RoomTarget

if TYPE_CHECKING:
    from pathlib import Path

ROOMS = """\
targets:
  rooms:
    kind: dendrite_rooms
    database: postgresql://d@localhost/d
    server_name: here.test
    admin_api: {url: 'http://localhost:8008', token: secret}
"""


def loaded(tmp_path: Path, text: str) -> RoomTarget:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    target = load_config(path, {}).targets["rooms"]
    assert isinstance(target, RoomTarget)
    return target


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        ("cool_off: 23h", "7:15", "must be 24h or longer"),
        ("pace: {window: '05:00-05:00'}", "7:20", "write two different times"),
        ("pace: {window: '5:00-6:00'}", "7:20", "not hours of a day"),
        ("policies: [{name: a, match: {}, keep: 1d}]", "7:26", "would match everything"),
        ("policies: [{name: a, match: {room: '#a:b'}, keep: 1d}]", "7:40", "fits no room ID"),
        (
            "policies: [{name: a, match: {left_by_all: true}, keep: 1d, since: upgraded}]",
            "7:71",
            "needs `upgraded: true`",
        ),
        ("policies: [{name: a, match: {left_by_all: false}, keep: 1d}]", "7:47", "must be true"),
        ("protect: [local_alias, local_alias]", "7:28", "is there twice"),
        ("protect: [aliases]", "7:15", ""),
        ("limits: {max_duration: 0s}", "7:28", ""),
    ],
)
def test_each_error_of_a_room_target_has_its_line_and_column(
    tmp_path: Path, line: str, place: str, words: str
) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, f"{ROOMS}    {line}\n")
    [problem] = [str(one).removeprefix(f"{tmp_path}/config.yaml:") for one in error.value.problems]
    assert problem.startswith(f"{place}:")
    assert words in problem


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("{token: secret}", "needs `url` or `unix_socket`"),
        ("{url: 'http://a:8008', unix_socket: /run/d.sock, token: secret}", "keep one of them"),
        (
            "{unix_socket: /run/d.sock, ca_file: /etc/ca.pem, token: secret}",
            "has no effect with `unix_socket`",
        ),
    ],
)
def test_the_admin_api_has_one_address(tmp_path: Path, address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        loaded(tmp_path, ROOMS.replace("{url: 'http://localhost:8008', token: secret}", address))


@pytest.mark.parametrize(
    ("window", "hours"),
    [("01:00-05:00", range(1, 5)), ("22:00-02:00", [22, 23, 0, 1]), (None, range(24))],
)
def test_rooms_are_purged_at_the_hours_of_the_window_alone(
    tmp_path: Path, window: str | None, hours: list[int]
) -> None:
    text = (
        ""
        if window is None
        else f"    pace: {{window: '{window}'}}\n    schedule: {{cron: '0 1 * * *', timezone: UTC}}\n"
    )
    target = loaded(tmp_path, ROOMS + text)
    is_open = [hour for hour in range(24) if target.is_open(datetime(2026, 1, 1, hour, tzinfo=UTC))]
    assert is_open == sorted(hours)
