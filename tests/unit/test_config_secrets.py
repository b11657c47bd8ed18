"""Passwords come in from elsewhere, and go out nowhere."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from retentiond.config.load import load_config
from retentiond.config.problems import ConfigError
from retentiond.config.schema import Config
from tests.support.media_target import media_target

TARGET = """\
targets:
  media:
    kind: dendrite_media
    dendrite_config: /etc/dendrite/dendrite.yaml
"""


def load(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path, environment or {})


@pytest.mark.parametrize(
    "database",
    [
        "hunter2",
        "file:hunter2.db",
        "mysql://u:hunter2@h/d",
        "postgresql://u:hunter2@h:x/d",
        "[postgresql://u:hunter2@h/d]",
        "{postgresql://u:hunter2@h/d}",
        "!x hunter2",
        "20260102",
    ],
)
def test_a_database_that_cannot_be_is_never_shown(tmp_path: Path, database: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"{TARGET}    database: {database}\n")
    assert "hunter2" not in str(caught.value)
    assert "20260102" not in str(caught.value)
    assert "hunter2" not in repr(caught.value.problems)
    assert caught.value.__context__ is None


def test_a_database_after_a_forgotten_blank_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown key `database…`") as caught:
        load(tmp_path, "targets: {m: {kind: dendrite_media, database:postgresql://u:hunter2@h/d}}")
    assert "hunter2" not in str(caught.value)


def test_a_password_is_in_no_text_of_a_configuration(tmp_path: Path) -> None:
    config = load(tmp_path, TARGET + "    database: ${DSN}\n", {"DSN": "postgresql://u:hunter2@h/d"})
    assert "hunter2" not in f"{config!r}{config}{config.model_dump()}{config.model_dump_json()}"
    database = media_target(config).database
    assert database is not None
    assert database.get_secret_value() == "postgresql://u:hunter2@h/d"


def test_values_may_stand_in_files_and_credentials_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("host=/run/postgresql password='file: ${X}'\n")
    (tmp_path / "name").write_text("example.org\n")
    text = f"{TARGET}    database: file:{tmp_path}/dsn\n    server_name: credential:name\n    grace: ${{GRACE}}\n"
    config = load(tmp_path, text, {"CREDENTIALS_DIRECTORY": str(tmp_path), "GRACE": "2d"})
    media = media_target(config)
    assert media.database == SecretStr("host=/run/postgresql password='file: ${X}'")
    assert media.server_name == ("example.org",)
    assert media.grace == timedelta(days=2)
