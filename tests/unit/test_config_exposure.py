"""A secret in a file that others can read is warned of: the configuration, `file:` secrets and dendrite's own file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from retentiond.config.load import load_with_places
from retentiond.config.resolve import resolve
from retentiond.config.warnings import warnings_of
from tests.support.media_target import as_media

if TYPE_CHECKING:
    from pathlib import Path

CLEAR = "postgresql://d:hunter2@localhost/d"
TARGET = """\
targets:
  media:
    kind: dendrite_media
    database: {database}
    media_path: /srv/media
    server_name: here.test
"""


def warned(path: Path, environment: dict[str, str] | None = None) -> list[str]:
    config, document = load_with_places(path, environment or {})
    resolved = {name: resolve(as_media(target)) for name, target in config.targets.items()}
    return [str(problem) for problem in warnings_of(path, document, config, resolved)]


def written(tmp_path: Path, database: str, mode: int) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(TARGET.format(database=database))
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "database",
    ['"postgresql://d:hunter2@${HOST}/d"', '"postgresql://d:pass$${word@localhost/d"', f'"{CLEAR}"'],
)
def test_a_password_beside_a_variable_is_in_clear_text(tmp_path: Path, database: str) -> None:
    (warning,) = warned(written(tmp_path, database, 0o644), {"HOST": "localhost"})
    assert "is a secret in clear text" in warning


def test_a_password_in_a_configuration_that_every_user_can_read_is_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path, CLEAR, 0o644)
    (warning,) = warned(path)
    assert warning.startswith(
        f"{path}:4:15: warning: targets.media.database: is a secret in clear text, and every user"
    )
    assert "hunter2" not in warning
    assert "credential:NAME" in warning


@pytest.mark.parametrize(
    ("database", "mode"),
    [
        (CLEAR, 0o640),
        (CLEAR, 0o600),
        ("postgresql://d@localhost/d", 0o644),
        ('"${DATABASE}"', 0o644),
        ('"postgresql://d:${PASSWORD}@localhost/d"', 0o644),
    ],
)
def test_a_file_for_the_service_alone_or_without_a_password_is_not_warned_of(
    tmp_path: Path, database: str, mode: int
) -> None:
    path = written(tmp_path, database, mode)
    assert warned(path, {"DATABASE": CLEAR, "PASSWORD": "hunter2"}) == []


def test_a_group_that_is_not_the_services_is_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, CLEAR, 0o640)
    group = path.stat().st_gid
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    if os.getuid() == 0:
        group = 4242
        os.chown(path, -1, group)
    (warning,) = warned(path)
    assert f"the group {group} can read this file" in warning
    monkeypatch.setattr(os, "getegid", lambda: group)
    assert warned(path) == []


def test_a_secret_of_its_own_file_is_warned_of_where_others_can_read_that(tmp_path: Path) -> None:
    secret = tmp_path / "database-url"
    secret.write_text(CLEAR)
    secret.chmod(0o644)
    path = written(tmp_path, f'"file:{secret}"', 0o644)
    (warning,) = warned(path)
    assert "targets.media.database: is in a file that every user can read; chmod 600 " in warning
    secret.chmod(0o600)
    assert warned(path) == []


def test_dendrites_own_file_is_warned_of_where_others_can_read_its_password(tmp_path: Path) -> None:
    dendrite = tmp_path / "dendrite.yaml"
    dendrite.write_text(
        "global:\n"
        "  server_name: here.test\n"
        f"  database: {{connection_string: '{CLEAR}'}}\n"
        "media_api: {base_path: /srv/media}\n"
    )
    dendrite.chmod(0o644)
    path = tmp_path / "config.yaml"
    path.write_text(f"targets:\n  media: {{kind: dendrite_media, dendrite_config: {dendrite}}}\n")
    (warning,) = warned(path)
    assert warning.startswith(
        f"{dendrite}: warning: has a database password, and every user can read this file"
    )
    dendrite.chmod(0o640)
    assert warned(path) == []
