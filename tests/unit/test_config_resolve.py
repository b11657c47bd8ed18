from pathlib import Path
from typing import Any

import pytest

from retentiond.config.load import from_dendrite_config
from retentiond.config.media import MediaTarget
from retentiond.config.problems import ConfigError
from retentiond.config.resolve import MediaSettings, resolve
from retentiond.model.errors import UsageError
from tests.support.media_target import media_target

DENDRITE = """\
global:
  server_name: Example.org
  database: {connection_string: "host=/run/postgresql user=d password=hunter2 dbname=dendrite"}
media_api: {base_path: /var/lib/dendrite/media}
sync_api: {database: {connection_string: "postgresql://h/sync"}}
"""
FROM_DENDRITE = "postgresql://d:hunter2@/dendrite?host=%2Frun%2Fpostgresql"
POLICY = {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}


@pytest.fixture
def dendrite(tmp_path: Path) -> Path:
    path = tmp_path / "dendrite.yaml"
    path.write_text(DENDRITE)
    return path


def settings(dendrite: Path | None, **values: Any) -> MediaSettings:
    given = {"kind": "dendrite_media", "policies": [POLICY], **values}
    if dendrite is not None:
        given["dendrite_config"] = str(dendrite)
    return resolve(MediaTarget.model_validate(given))


def test_dendrites_file_says_all_that_the_target_does_not(dendrite: Path) -> None:
    found = settings(dendrite)
    assert found.database == FROM_DENDRITE
    assert found.databases == {
        "sync_api": "postgresql://h/sync",
        "user_api": FROM_DENDRITE,
        "room_server": FROM_DENDRITE,
    }
    assert found.media_path == Path("/var/lib/dendrite/media")
    assert found.server_names == found.rules.server_names == frozenset({"example.org"})
    assert [policy.name for policy in found.rules.policies] == ["remote"]


def test_what_the_target_says_wins_over_dendrites_file(dendrite: Path) -> None:
    found = settings(
        dendrite,
        database="host=db.example dbname=x",
        media_path="/srv/media",
        server_name=["A.example", "b.example"],
        databases={"sync_api": "postgresql://h/other"},
    )
    assert found.database == "postgresql://db.example/x"
    here = "postgresql://db.example/x"
    assert found.databases == {"sync_api": "postgresql://h/other", "user_api": here, "room_server": here}
    assert found.media_path == Path("/srv/media")
    assert found.server_names == frozenset({"a.example", "b.example"})


def test_another_address_of_the_media_database_leaves_other_databases_where_they_are(dendrite: Path) -> None:
    found = settings(dendrite, database="postgresql://db.example/x")
    here = "postgresql://db.example/x"
    assert found.databases == {"sync_api": "postgresql://h/sync", "user_api": here, "room_server": here}


def test_without_dendrites_file_the_target_says_it_all() -> None:
    found = settings(None, database="postgresql://h/d", media_path="/srv/media")
    assert found.database == "postgresql://h/d"
    assert found.databases == dict.fromkeys(("sync_api", "user_api", "room_server"), "postgresql://h/d")
    assert found.server_names == frozenset()


def test_the_media_database_may_stand_beside_the_others() -> None:
    found = settings(None, databases={"media_api": "postgresql://h/m"}, media_path="/srv/media")
    assert found.database == "postgresql://h/m"


def test_a_file_that_has_nothing_left_to_say_is_read_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        settings(
            tmp_path / "nowhere.yaml",
            database="postgresql://h/d",
            media_path="/srv/media",
            server_name="example.org",
        )


def test_sqlite_in_dendrites_file_ends_where_the_target_names_a_postgresql(dendrite: Path) -> None:
    dendrite.write_text(
        DENDRITE.replace("host=/run/postgresql user=d password=hunter2 dbname=dendrite", "file:d.db").replace(
            "postgresql://h/sync", "file:sync.db"
        )
    )
    with pytest.raises(ConfigError, match="SQLite"):
        settings(dendrite)
    assert settings(dendrite, database="postgresql://h/d").databases["sync_api"] == "postgresql://h/d"


def test_problems_of_dendrites_file_name_that_file(dendrite: Path) -> None:
    dendrite.write_text(DENDRITE.replace("/var/lib/dendrite/media", "media"))
    with pytest.raises(ConfigError) as caught:
        settings(dendrite)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.key) == (str(dendrite), 4, "media_api.base_path")


def test_a_password_is_in_no_text_of_the_settings(dendrite: Path) -> None:
    assert "hunter2" not in repr(settings(dendrite))


def test_days_and_dendrites_file_make_a_configuration(dendrite: Path) -> None:
    config = from_dendrite_config(dendrite, 30, local=False)
    (policy,) = media_target(config).policies
    assert (policy.name, policy.match.origin) == ("remote", "remote")
    assert policy.keep is not None
    assert policy.keep.days == 30
    assert media_target(config).schedule is None
    assert resolve(media_target(config)).database == FROM_DENDRITE


def test_local_media_go_only_when_said(dendrite: Path) -> None:
    policies = media_target(from_dendrite_config(dendrite, 7, local=True)).policies
    assert [(policy.name, policy.match.origin) for policy in policies] == [
        ("remote", "remote"),
        ("local", "local"),
    ]
    assert {policy.keep.days for policy in policies if policy.keep is not None} == {7}


def test_a_relative_path_is_from_where_the_command_runs(
    dendrite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dendrite.parent)
    config = from_dendrite_config(Path("dendrite.yaml"), 30, local=False)
    assert media_target(config).dendrite_config == dendrite


@pytest.mark.parametrize("days", [-1, 365_001, 10**30])
def test_a_number_of_days_that_cannot_be_is_refused(dendrite: Path, days: int) -> None:
    with pytest.raises(UsageError, match="write a number from 0 to 365000"):
        from_dendrite_config(dendrite, days, local=False)


def test_a_path_that_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        from_dendrite_config(Path("/a\0b"), 30, local=False)
