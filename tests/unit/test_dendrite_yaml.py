from pathlib import Path

import pytest

from retentiond.config.dendrite_yaml import DendriteConfig, Part, read_dendrite_config
from retentiond.config.problems import ConfigError

WHOLE = """\
version: 2
global:
  server_name: Example.org
  private_key: matrix_key.pem
  database:
    connection_string: postgresql://dendrite:hunter2@localhost/dendrite?sslmode=disable
    max_open_conns: 90
media_api:
  base_path: /var/lib/dendrite/media
"""


def read(tmp_path: Path, text: str, *known: Part) -> DendriteConfig:
    path = tmp_path / "dendrite.yaml"
    path.write_text(text)
    return read_dendrite_config(path, known=frozenset(known))


def told(tmp_path: Path, text: str, *known: Part) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text, *known)
    return [line.removeprefix(f"{tmp_path}/dendrite.yaml:") for line in str(caught.value).splitlines()]


def revealed(config: DendriteConfig) -> dict[str, str]:
    return {component: secret.get_secret_value() for component, secret in config.databases.items()}


def test_one_global_database_is_that_of_all_components(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE)
    dsn = "postgresql://dendrite:hunter2@localhost/dendrite?sslmode=disable"
    assert config.database is not None
    assert config.database.get_secret_value() == dsn
    assert revealed(config) == {"sync_api": dsn, "user_api": dsn}
    assert config.media_path == Path("/var/lib/dendrite/media")
    assert config.server_names == ("Example.org",)


def test_a_components_own_database_comes_before_the_global_one(tmp_path: Path) -> None:
    own = WHOLE + (
        "  database: {connection_string: dbname=media}\n"
        "sync_api: {database: {connection_string: dbname=sync}}\n"
        "user_api: {account_database: {connection_string: dbname=user}}\n"
    )
    config = read(tmp_path, own)
    assert config.database is not None
    assert config.database.get_secret_value() == "dbname=media"
    dsn = "postgresql://dendrite:hunter2@localhost/dendrite?sslmode=disable"
    components = {
        "sync_api": "dbname=sync",
        "user_api": "dbname=user",
        "room_server": dsn,
        "federation_api": dsn,
    }
    assert revealed(config) == components
    for component in ("room_server", "federation_api"):
        one = own + f"{component}: {{database: {{connection_string: dbname=its}}}}\n"
        assert revealed(read(tmp_path, one))[component] == "dbname=its"


def test_the_password_is_in_no_text(tmp_path: Path) -> None:
    assert "hunter2" not in repr(read(tmp_path, WHOLE))
    lines = told(tmp_path, WHOLE.replace("@localhost/", "@local host:x/"))
    assert "hunter2" not in "".join(lines)
    assert lines[0].startswith("6:24: global.database.connection_string: ")


def test_virtual_hosts_are_names_of_this_server_too(tmp_path: Path) -> None:
    hosts = WHOLE.replace(
        "  database:", "  virtual_hosts:\n  - server_name: a.example\n  - server_name: b\n  database:"
    )
    assert read(tmp_path, hosts).server_names == ("Example.org", "a.example", "b")


def test_sqlite_is_answered_with_what_to_set(tmp_path: Path) -> None:
    lines = told(
        tmp_path,
        WHOLE.replace("postgresql://dendrite:hunter2@localhost/dendrite?sslmode=disable", "file:d.db"),
    )
    assert len(lines) == 3
    assert all("SQLite, and retentiond on PostgreSQL only" in line for line in lines)
    assert "set `database`" in lines[0]


def test_a_database_that_the_target_sets_is_not_judged_here(tmp_path: Path) -> None:
    sqlite = WHOLE.replace("postgresql://dendrite:hunter2@localhost/dendrite?sslmode=disable", "file:d.db")
    config = read(tmp_path, sqlite, "database")
    assert config.database is None
    assert config.databases == {}


def test_beside_a_database_that_the_target_sets_only_other_databases_are_named(tmp_path: Path) -> None:
    assert read(tmp_path, WHOLE, "database").databases == {}
    other = WHOLE + "sync_api: {database: {connection_string: dbname=sync}}\n"
    assert revealed(read(tmp_path, other, "database")) == {"sync_api": "dbname=sync"}
    own = WHOLE + "  database: {connection_string: dbname=media}\n"
    dsn = "postgresql://dendrite:hunter2@localhost/dendrite?sslmode=disable"
    assert revealed(read(tmp_path, own, "database", "user_api")) == {
        "sync_api": dsn,
        "room_server": dsn,
        "federation_api": dsn,
    }


def test_a_relative_base_path_is_answered_with_what_to_set(tmp_path: Path) -> None:
    (line,) = told(tmp_path, WHOLE.replace("/var/lib/dendrite/media", "./media"))
    assert line.startswith("9:14: media_api.base_path: is relative")
    assert "set `media_path`" in line
    assert (
        read(tmp_path, WHOLE.replace("/var/lib/dendrite/media", "./media"), "media_path").media_path is None
    )


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    lines = told(tmp_path, "version: 2\n")
    assert [line.split(": ")[1] for line in lines] == [
        "media_api.database.connection_string",
        "sync_api.database.connection_string",
        "user_api.account_database.connection_string",
        "media_api.base_path",
        "global.server_name",
    ]
    assert all("is missing" in line and "in the target" in line for line in lines)


def test_what_the_target_says_need_not_be_in_the_file(tmp_path: Path) -> None:
    config = read(tmp_path, "version: 2\n", "database", "media_path", "server_name")
    assert config == DendriteConfig(None, {}, None, ())


@pytest.mark.parametrize("name", ["", "''", "a b", "[a]", "5", "https://a"])
def test_a_server_name_that_is_none_is_a_problem(tmp_path: Path, name: str) -> None:
    (line,) = told(tmp_path, WHOLE.replace("Example.org", name))
    assert "global.server_name" in line


def test_duplicates_merges_and_unknown_keys_are_dendrites_affair(tmp_path: Path) -> None:
    text = WHOLE + "x: &x {a: 0777}\ny: {<<: *x, a: ~, a: 1:30}\nversion: 3\n"
    assert read(tmp_path, text).server_names == ("Example.org",)


@pytest.mark.parametrize("text", ["", "- a\n", "text\n"])
def test_a_file_that_is_no_configuration_is_a_problem(tmp_path: Path, text: str) -> None:
    (line,) = told(tmp_path, text)
    assert "is not a configuration of dendrite" in line


def test_yaml_that_cannot_be_read_is_told_with_its_place(tmp_path: Path) -> None:
    (line,) = told(tmp_path, "a: b: c\n")
    assert line.startswith("1:5: YAML: ")


def test_a_missing_file_is_answered_with_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match="there is no such file; correct `dendrite_config`, or set `database`"
    ):
        read_dendrite_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    "odd", ["global: []", "global: x", "global: {database: x}", "global: {virtual_hosts: [x, 5]}"]
)
def test_a_file_of_another_shape_is_a_problem_and_no_crash(tmp_path: Path, odd: str) -> None:
    assert told(tmp_path, f"{odd}\nmedia_api: 5\n")


@pytest.mark.parametrize(
    ("before", "after", "name", "line"),
    [
        (":hunter2@", ":${DB_PASSWORD}@", "${DB_PASSWORD}", 6),
        (":hunter2@", ":$PGPASSWORD@", "$PGPASSWORD", 6),
        ("@localhost/", "@${PGHOST}/", "${PGHOST}", 6),
        ("/var/lib/dendrite/media", "${MEDIA}/media", "${MEDIA}", 9),
        ("/var/lib/dendrite/media", "/srv/$NAME/media", "$NAME", 9),
        ("Example.org", "${SERVER_NAME}", "${SERVER_NAME}", 3),
    ],
)
def test_a_variable_that_was_not_filled_in_is_called_that(
    tmp_path: Path, before: str, after: str, name: str, line: int
) -> None:
    problems = told(tmp_path, WHOLE.replace(before, after))
    assert len(problems) == 1
    assert problems[0].startswith(f"{line}:")
    assert f"holds {name}, which is not replaced" in problems[0]
    assert "hunter2" not in problems[0]


def test_a_dollar_sign_in_a_password_is_no_variable(tmp_path: Path) -> None:
    config = read(tmp_path, WHOLE.replace("hunter2", "hu$NTER$2"))
    assert config.database is not None
    assert ":hu$NTER$2@" in config.database.get_secret_value()
