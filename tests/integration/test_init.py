"""`init`: from dendrite's configuration, or a chat database, to a configuration with its check and its plan."""

from __future__ import annotations

import io
import logging
import os
import pwd
import re
import secrets
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest
import structlog
import yaml

from retentiond.cli import execute, init
from retentiond.cli.environment import Environment
from retentiond.config.chats import ChatTarget
from retentiond.config.example import example_config
from retentiond.config.load import load_config
from retentiond.config.new_file import drop_in
from retentiond.demo.chat_show import make_chat_tables
from tests.support.chatwoot import TABLES
from tests.support.command_line import Arranges, Outcome, Terminal
from tests.support.pseudo_terminal import run_on_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import asyncpg

    from retentiond.cli.session import Session
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, without dendrite beside it."""
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@dataclass
class Machine(Arranges):
    """A machine with a dendrite: its files below `root`, its database, and the configuration that is still to be made."""

    root: Path
    database: str
    media_path: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Where the configuration goes."""
        return self.root / "etc/retentiond/config.yaml"

    def add(self, path: str = "etc/dendrite/dendrite.yaml", **media_api: Any) -> Path:
        """Write dendrite's configuration to a path."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        given = {
            "global": {"server_name": "here.test", "database": {"connection_string": self.database}},
            "media_api": {"base_path": str(self.media_path)} | media_api,
        }
        file.write_text(yaml.safe_dump(given))
        return file

    def type(self, *words: str, answer: str | None = None) -> Outcome:
        """Run `init`, on a terminal if there is an answer to give."""
        (self.root / "etc").mkdir(exist_ok=True)
        out = io.StringIO() if answer is None else Terminal()
        err = io.StringIO() if answer is None else Terminal()
        environment = Environment(
            variables={"RETENTIOND_CONFIG": str(self.config)} | self.variables,
            stdin=io.StringIO() if answer is None else Terminal(answer),
            stdout=out,
            stderr=err,
            root=self.root,
        )
        root = logging.getLogger()
        handlers = list(root.handlers)
        try:
            status = execute(["init", *words], environment)
        finally:
            structlog.reset_defaults()
            root.handlers[:] = handlers
        return Outcome(status, out.getvalue(), err.getvalue())


@pytest.fixture
def machine(tmp_path: Path, database: str, media_path: Path) -> Machine:
    """A machine with a store."""
    root = tmp_path / "root"
    root.mkdir()
    return Machine(root, database, media_path)


def everything_in(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return each file and directory below with its mode, its last change and its content."""
    paths = [directory, *sorted(directory.rglob("*"))]
    return {
        str(path): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in paths
    }


async def tables_of(connection: Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "SELECT n.nspname, c.relname, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname NOT LIKE 'pg%' ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


@contextmanager
def role_of(machine: Machine, *grants: str) -> Iterator[str]:
    """Let the machine connect as a role with these rights alone; drop the role afterwards."""
    own, role = machine.database, f"init_{secrets.token_hex(4)}"
    made = [f"CREATE ROLE {role} LOGIN PASSWORD 'only-here'", *(grant.format(role=role) for grant in grants)]

    def execute(statements: list[str]) -> None:
        machine.arrange(lambda _store, connection: connection.execute(";".join(statements)))

    execute(made)
    parts = urlsplit(own)
    machine.database = parts._replace(netloc=f"{role}:only-here@{parts.netloc.rpartition('@')[2]}").geturl()
    try:
        yield role
    finally:
        machine.database = own
        execute([f"DROP OWNED BY {role}", f"DROP ROLE {role}"])


async def fill(store: DendriteStore, _connection: Connection) -> None:
    """Add an old media item, and two that stay."""
    await store.add()
    await store.add(age=timedelta(days=1))
    await store.add(age=timedelta(days=1))


def state_of(machine: Machine) -> tuple[Any, ...]:
    """Return all that a command could change: files, media, and the tables of the database."""
    return (
        everything_in(machine.root),
        everything_in(machine.media_path),
        machine.arrange(lambda _store, connection: tables_of(connection)),
    )


def test_without_a_terminal_configuration_and_plan_are_printed_and_nothing_is_written(
    machine: Machine,
) -> None:
    machine.arrange(fill)
    file = machine.add()
    before = state_of(machine)
    outcome = machine.type()
    assert state_of(machine) == before
    assert outcome.status == 0, outcome.stderr
    assert example_config("dendrite_media", {"dendrite_config": str(file)}) in outcome.stdout
    assert re.search(r"remote +1 ", outcome.stdout.partition("To be deleted")[2]), outcome.stdout
    assert "nothing was written; not a terminal: confirm with --yes" in outcome.stderr


def test_yes_writes_the_file_that_was_shown_for_its_group_alone_in_a_directory_of_its_own(
    machine: Machine,
) -> None:
    machine.arrange(fill)
    file = machine.add()
    umask = os.umask(0o077)
    try:
        outcome = machine.type("--yes")
    finally:
        os.umask(umask)
    assert outcome.status == 0, outcome.stderr
    assert machine.config.read_text() == example_config("dendrite_media", {"dendrite_config": str(file)})
    assert stat.S_IMODE(machine.config.stat().st_mode) == 0o640
    assert machine.config.parent.stat().st_mode & 0o022 == 0
    assert os.listdir(machine.config.parent) == ["config.yaml"]
    assert outcome.stdout.rstrip().endswith(
        f"Written: {machine.config}. Next:\n  retentiond once media\n  retentiond run"
    )
    assert load_config(machine.config, {}).targets["media"].kind == "dendrite_media"


def test_the_next_commands_allow_a_limit_and_start_the_unit_where_there_is_one(machine: Machine) -> None:
    machine.arrange(fill)
    machine.arrange(lambda store, _connection: store.add())
    machine.arrange(lambda store, _connection: store.add())
    machine.add()
    unit = machine.root / "etc/systemd/system/retentiond.service"
    unit.parent.mkdir(parents=True)
    unit.touch()
    outcome = machine.type("--yes")
    assert outcome.status == 0, outcome.stderr
    assert "max_share" in outcome.stdout + outcome.stderr
    assert outcome.stdout.rstrip().endswith(
        "  retentiond once media --yes\n  systemctl enable --now retentiond"
    )


def test_the_next_commands_in_a_container_are_those_of_the_compose_file(machine: Machine) -> None:
    machine.arrange(fill)
    machine.add()
    machine.variables["container"] = "oci"
    outcome = machine.type("--yes")
    assert outcome.status == 0, outcome.stderr
    assert outcome.stdout.rstrip().endswith(
        "  docker compose … run --rm retentiond-once once media\n  docker compose … up -d retentiond"
    )


@pytest.mark.parametrize(("answer", "written"), [("y\n", True), ("n\n", False), ("", False), ("\n", False)])
def test_on_a_terminal_a_question_is_asked_and_only_yes_writes(
    machine: Machine, answer: str, written: bool
) -> None:
    machine.arrange(fill)
    machine.add()
    before = state_of(machine)
    outcome = machine.type(answer=answer)
    assert outcome.status == 0, outcome.stderr
    assert f"Write {machine.config}? [y/N]" in outcome.stderr
    assert machine.config.exists() is written
    assert "cron: " in outcome.stdout
    assert "# The kind of target." not in outcome.stdout
    if not written:
        assert "nothing was written" in outcome.stderr
        assert state_of(machine) == before


@pytest.mark.parametrize("content", ["targets: {}\n", example_config(), ""])
def test_a_file_that_is_there_is_never_overwritten_and_output_is_the_way_on(
    machine: Machine, content: str
) -> None:
    machine.arrange(fill)
    machine.add()
    machine.config.parent.mkdir(parents=True)
    machine.config.write_text(content)
    before = state_of(machine)
    for words in ([], ["--yes"]):
        outcome = machine.type(*words)
        assert (outcome.status, outcome.stdout) == (2, "")
        assert f"{machine.config} is there already, and is not overwritten" in outcome.stderr
        assert "--output FILE" in outcome.stderr
    assert state_of(machine) == before
    other = machine.root / "other.yaml"
    outcome = machine.type("--yes", "--output", str(other))
    assert outcome.status == 0, outcome.stderr
    assert machine.config.read_text() == content
    assert f"  retentiond --config {other} once media\n" in outcome.stdout
    again = machine.type("--yes", "--output", str(other))
    assert again.status == 2


def test_a_link_that_leads_nowhere_is_a_file_that_is_there(machine: Machine, tmp_path: Path) -> None:
    machine.add()
    machine.config.parent.mkdir(parents=True)
    machine.config.symlink_to(tmp_path / "target.yaml")
    assert machine.type("--yes").status == 2
    assert not (tmp_path / "target.yaml").exists()


def test_a_file_that_appears_during_the_question_stays_as_it_is(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.arrange(fill)
    machine.add()

    def ask(_session: Session, _question: str) -> bool:
        machine.config.parent.mkdir(parents=True)
        machine.config.write_text("mine")
        return True

    monkeypatch.setattr(init, "agreed", ask)
    outcome = machine.type(answer="")
    assert outcome.status == 2
    assert machine.config.read_text() == "mine"


def test_a_directory_is_made_but_not_two(machine: Machine) -> None:
    machine.add()
    outcome = machine.type("--yes", "--output", str(machine.root / "a/b/config.yaml"))
    assert outcome.status == 2
    assert f"there is no directory {machine.root / 'a'}; make it" in outcome.stderr
    assert not (machine.root / "a").exists()


PLACES = [
    "etc/dendrite/dendrite.yaml",
    "etc/matrix-dendrite/dendrite.yaml",
    "var/lib/dendrite/dendrite.yaml",
    "opt/dendrite/dendrite.yaml",
    "matrix/dendrite/config/dendrite.yaml",
]


@pytest.mark.parametrize("place", PLACES)
def test_dendrite_is_found_in_each_of_its_usual_places(machine: Machine, place: str) -> None:
    machine.arrange(fill)
    file = machine.add(place)
    assert machine.type("--yes").status == 0
    assert f"dendrite_config: {file}\n" in machine.config.read_text()


@pytest.mark.parametrize("place", ["dendrite.yaml", "config/dendrite.yaml", "dendrite/config/dendrite.yaml"])
def test_dendrite_is_found_beside_the_current_directory(
    machine: Machine, elsewhere: Path, place: str
) -> None:
    machine.arrange(fill)
    file = machine.add(str(elsewhere / place))
    assert machine.type("--yes").status == 0
    assert f"dendrite_config: {file}\n" in machine.config.read_text()


@pytest.mark.parametrize(
    "volumes",
    [
        [
            "./matrix/conf:/etc/dendrite:ro",
            "./matrix/files:/var/dendrite/media",
            "names:/var/dendrite/jetstream",
        ],
        [
            {
                "type": "bind",
                "source": "./matrix/conf/dendrite.yaml",
                "target": "/etc/dendrite/dendrite.yaml",
            },
            {"type": "bind", "source": "./matrix/files", "target": "/var/dendrite"},
            {"type": "volume", "source": "names", "target": "/var/dendrite/jetstream"},
        ],
    ],
)
def test_the_volumes_of_a_compose_file_lead_to_dendrite_and_to_its_media(
    machine: Machine, elsewhere: Path, volumes: list[Any]
) -> None:
    media = elsewhere / "matrix/files"
    media = media if isinstance(volumes[0], str) else media / "media"
    media.mkdir(parents=True)
    machine.media_path = media
    machine.arrange(fill)
    file = machine.add(str(elsewhere / "matrix/conf/dendrite.yaml"), base_path="/var/dendrite/media")
    (elsewhere / "compose.yaml").write_text(yaml.safe_dump({"services": {"monolith": {"volumes": volumes}}}))
    outcome = machine.type("--yes")
    assert outcome.status == 0, outcome.stderr
    target = load_config(machine.config, {}).targets["media"]
    assert (target.dendrite_config, target.media_path) == (file, media)  # type: ignore[union-attr]


def test_without_dendrite_the_places_are_named_and_the_option_that_names_it(
    machine: Machine, elsewhere: Path
) -> None:
    outcome = machine.type("--yes")
    assert (outcome.status, outcome.stdout) == (2, "")
    for place in (*(machine.root / place for place in PLACES), elsewhere / "dendrite.yaml"):
        assert str(place) in outcome.stderr
    assert "`retentiond init --dendrite-config FILE`" in outcome.stderr


def test_of_several_each_is_named_with_the_command_that_chooses_it(machine: Machine) -> None:
    machine.arrange(fill)
    files = [machine.add(place) for place in PLACES[:2]]
    outcome = machine.type("--yes")
    assert outcome.status == 2
    for file in files:
        assert f"`retentiond init --dendrite-config {file}`" in outcome.stderr
    assert not machine.config.exists()
    outcome = machine.type("--yes", "--dendrite-config", str(files[1]))
    assert outcome.status == 0, outcome.stderr
    assert f"dendrite_config: {files[1]}\n" in machine.config.read_text()


def test_two_names_of_one_file_are_one(machine: Machine, elsewhere: Path) -> None:
    machine.arrange(fill)
    file = machine.add()
    (elsewhere / "dendrite.yaml").symlink_to(file)
    assert machine.type("--yes").status == 0


def test_a_relative_media_directory_is_looked_for_where_dendrite_runs(
    machine: Machine, tmp_path: Path
) -> None:
    machine.arrange(fill)
    file = machine.add(base_path="./media")
    outcome = machine.type("--yes")
    assert outcome.status == 2
    assert f"`retentiond init --dendrite-config {file} --media-path DIR`" in outcome.stderr
    unit = machine.root / "etc/systemd/system/dendrite.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(f"[Service]\nWorkingDirectory={tmp_path}\n")
    outcome = machine.type("--yes")
    assert outcome.status == 0, outcome.stderr
    assert f"media_path: {machine.media_path}\n" in machine.config.read_text()


def test_of_several_media_directories_each_is_named_and_none_is_taken(
    machine: Machine, tmp_path: Path
) -> None:
    machine.arrange(fill)
    file = machine.add(base_path="media")
    (file.parent / "media").mkdir()
    process = machine.root / "proc/17"
    process.mkdir(parents=True)
    (process / "comm").write_text("dendrite\n")
    (process / "cwd").symlink_to(tmp_path)
    outcome = machine.type("--yes")
    assert outcome.status == 2
    for path in (file.parent / "media", machine.media_path):
        assert f"`retentiond init --dendrite-config {file} --media-path {path}`" in outcome.stderr
    assert not machine.config.exists()
    assert machine.type("--yes", "--media-path", str(machine.media_path)).status == 0


def test_what_dendrites_file_lacks_is_told_and_nothing_is_written(machine: Machine) -> None:
    file = machine.add()
    file.write_text("global: {server_name: here.test}\n")
    outcome = machine.type("--yes")
    assert outcome.status == 2
    assert f"{file}" in outcome.stderr
    assert not machine.config.exists()


def test_a_media_directory_that_is_not_there_is_told_as_check_config_does(machine: Machine) -> None:
    machine.arrange(fill)
    machine.add(base_path=str(machine.root / "gone"))
    outcome = machine.type()
    assert outcome.status == 4
    assert str(machine.root / "gone") in outcome.stderr
    assert "nothing was written" in outcome.stderr
    asked = machine.type(answer="y\n")
    assert f"Write {machine.config}, all the same? [y/N]" in asked.stderr
    assert (asked.status, machine.config.exists()) == (4, True)
    assert asked.stdout.rstrip().endswith("  retentiond check-config --connect\n  retentiond plan")


def test_a_database_that_cannot_be_reached_is_told_once(machine: Machine, closed_port: int) -> None:
    password = "only-here"
    machine.database = f"postgresql://dendrite:{password}@127.0.0.1:{closed_port}/dendrite"
    machine.add()
    outcome = machine.type("--yes")
    assert outcome.status == 4
    assert outcome.stderr.count("cannot be reached") == 1
    assert password not in outcome.stdout + outcome.stderr + machine.config.read_text()


def test_missing_rights_are_statements_to_copy_and_the_plan_is_shown(machine: Machine) -> None:
    machine.arrange(fill)
    with role_of(machine, "GRANT SELECT, DELETE, UPDATE ON ALL TABLES IN SCHEMA public TO {role}"):
        machine.add()
        outcome = machine.type("--yes")
    assert outcome.status == 4
    assert "GRANT CREATE ON DATABASE" in outcome.stderr
    assert "To be deleted" in outcome.stdout


@contextmanager
def chats_of(machine: Machine, *schemas: str) -> Iterator[str]:
    """Let the database have chats in these schemas, and a role whose password is not in its URL."""

    async def make(_store: DendriteStore, connection: Connection) -> None:
        for schema in schemas:
            await make_chat_tables(connection, schema)

    machine.arrange(make)
    with role_of(machine) as role:
        yield role


@pytest.fixture
def without_password(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> str:
    """The machine's database without the password, which the environment has."""
    parts = urlsplit(machine.database)
    monkeypatch.setenv("PGPASSWORD", unquote(parts.password or ""))
    return parts._replace(netloc=f"{parts.username}@{parts.netloc.rpartition('@')[2]}").geturl()


def reference_to(machine: Machine) -> str:
    """Write the connection string into a file, and return how it is named."""
    file = machine.root / "database-url"
    file.write_text(f"{machine.database}\n")
    file.chmod(0o640)
    return f"file:{file}"


def test_a_role_that_may_only_read_catalogues_finds_each_schema_with_the_tables_of_webim(
    machine: Machine,
) -> None:
    machine.arrange(lambda _store, connection: connection.execute("CREATE SCHEMA half"))
    with chats_of(machine, "pro", "no", "17", "Мой чат"):
        named = reference_to(machine)
        outcome = machine.type("--chats", named, "--yes")
    assert outcome.status == 4
    assert "GRANT USAGE ON SCHEMA pro TO" in outcome.stderr
    target = load_config(machine.config, {}).targets["chats"]
    assert isinstance(target, ChatTarget)
    assert (target.layout, target.schedule) == ("webim", None)
    assert {name: account.schema_ for name, account in target.accounts.items()} == {
        name: name for name in ("pro", "no", "17", "Мой чат")
    }
    assert set(target.keeps.values()) == {None}
    text = machine.config.read_text()
    assert f"database: {named}\n" in text.replace('"', "")
    assert "only-here" not in outcome.stdout + outcome.stderr + text


def test_a_password_on_the_command_line_is_refused_with_the_way_to_keep_it_apart(machine: Machine) -> None:
    with chats_of(machine, "pro"):
        for string in (machine.database, f"{machine.database}?sslpassword=only-here"):
            outcome = machine.type("--chats", string, "--yes")
            assert (outcome.status, outcome.stdout) == (2, "")
            assert "--chats file:/etc/retentiond/database-url" in outcome.stderr
            assert "credential:NAME" in outcome.stderr
            assert "only-here" not in outcome.stderr
    assert not machine.config.exists()


def test_a_connection_string_without_a_password_stands_in_the_file(
    machine: Machine, without_password: str
) -> None:
    machine.arrange(lambda _store, connection: make_chat_tables(connection, "pro"))
    outcome = machine.type("--chats", without_password)
    assert outcome.status == 0, outcome.stderr
    assert "accounts found: pro" in outcome.stdout
    assert "nothing was written" in outcome.stderr
    assert not machine.config.exists()
    assert machine.type("--chats", without_password, "--yes").status == 0
    text = machine.config.read_text()
    assert without_password in text
    assert load_config(machine.config, {}).targets["chats"].keeps == {"pro": None}


def test_the_next_commands_of_chats_are_a_dry_run_and_the_purge_to_the_latest_date(
    machine: Machine, without_password: str
) -> None:
    machine.arrange(lambda _store, connection: make_chat_tables(connection, "pro"))
    outcome = machine.type("--chats", without_password, "--yes")
    dry, purge = outcome.stdout.splitlines()[-2:]
    assert re.fullmatch(r"  retentiond purge-chats --account pro --to-date \d{4}-\d\d-\d\d --dry-run", dry)
    assert dry == f"{purge} --dry-run"


def test_the_accounts_of_chatwoot_are_the_values_of_its_column_or_the_grants_to_read_it(
    machine: Machine, without_password: str
) -> None:
    async def make(_store: DendriteStore, connection: Connection) -> None:
        await connection.execute(f"SET search_path = public; {TABLES}")
        for account in (1, 1, 22):
            await connection.execute(
                "INSERT INTO conversations (account_id, inbox_id, display_id, created_at, updated_at, last_activity_at)"
                " VALUES ($1, 1, (SELECT count(*) FROM conversations), now(), now(), now())",
                account,
            )

    machine.arrange(make)
    with role_of(machine) as role:
        outcome = machine.type("--chats", reference_to(machine), "--yes")
        assert outcome.status == 4
        assert f"  GRANT SELECT (account_id) ON public.conversations TO {role};\n" in outcome.stderr
        assert not machine.config.exists()
    outcome = machine.type("--chats", without_password, "--yes")
    assert outcome.status == 0, outcome.stderr
    target = load_config(machine.config, {}).targets["chats"]
    assert isinstance(target, ChatTarget)
    assert target.layout == "chatwoot"
    assert {name: (one.schema_, one.value) for name, one in target.accounts.items()} == {
        "1": ("public", "1"),
        "22": ("public", "22"),
    }


def test_a_database_without_chats_is_refused_with_the_tables_that_were_looked_for(
    machine: Machine, without_password: str
) -> None:
    outcome = machine.type("--chats", without_password, "--yes")
    assert outcome.status == 2
    assert "webim: chatthread, chatmessage; chatwoot: conversations, messages" in outcome.stderr
    assert not machine.config.exists()


@pytest.mark.parametrize(
    "string", ["file:/nowhere/url", "mysql://a@b/c", "${NOT_THERE}", "postgresql://u:pass#word@h/d"]
)
def test_a_connection_string_that_cannot_be_used_is_refused_without_any_part_of_it(
    machine: Machine, string: str
) -> None:
    outcome = machine.type("--chats", string, "--yes")
    assert outcome.status == 2
    assert "pass" not in outcome.stderr.replace("password", "")
    assert not machine.config.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--chats", "x", "--media-path", "/m"],
        ["--chats", "x", "--dendrite-config", "/d"],
        ["--layout", "webim"],
    ],
)
def test_options_that_exclude_each_other_are_refused(machine: Machine, words: list[str]) -> None:
    assert machine.type(*words).status == 2


def test_at_a_real_terminal_the_file_is_written_after_the_plan(machine: Machine, tmp_path: Path) -> None:
    machine.arrange(fill)
    file = machine.add()
    output = tmp_path / "new.yaml"
    screen = run_on_terminal("init", "--dendrite-config", str(file), "--output", str(output), "--yes")
    assert screen.status == 0, screen.text
    assert screen.text.index("To be deleted") < screen.text.index("Written: ")
    assert output.read_text() == example_config("dendrite_media", {"dendrite_config": str(file)})


_OWNER = 64_018
_DROP_IN = "etc/systemd/system/retentiond.service.d/store.conf"


@pytest.fixture
def packaged(database: str) -> Iterator[Machine]:
    """A machine with a unit, and with media of a user of dendrite's own, where others than root may look."""
    if os.geteuid() != 0:
        pytest.skip("only root acts as dendrite's user")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        media_path = directory / "media"
        media_path.mkdir(mode=0o750)
        os.chown(media_path, _OWNER, _OWNER)
        made = Machine(directory, database, media_path)
        unit = directory / "usr/lib/systemd/system/retentiond.service"
        unit.parent.mkdir(parents=True)
        unit.write_text("[Service]\nUser=retentiond\n")
        made.arrange(fill)
        for parent, _, names in os.walk(media_path):
            for path in (parent, *(os.path.join(parent, one) for one in names)):
                os.chown(path, _OWNER, _OWNER)
        yield made


def test_the_service_gets_the_user_and_the_directory_of_the_media(packaged: Machine) -> None:
    packaged.add()
    shown = packaged.type()
    assert shown.status == 0, shown.stderr
    assert f"  ReadWritePaths={packaged.media_path}\n" in shown.stdout
    assert not (packaged.root / _DROP_IN).exists()
    outcome = packaged.type("--yes")
    assert outcome.status == 0, outcome.stderr
    text = (packaged.root / _DROP_IN).read_text()
    media = packaged.media_path
    assert (
        f"[Unit]\nAfter=dendrite.service\nRequiresMountsFor={media}\n[Service]\nUser={_OWNER}\nGroup={_OWNER}\n"
        in text
    )
    assert f"ReadWritePaths=\nReadWritePaths={media}\n" in text
    once = packaged.root / "etc/systemd/system/retentiond-once.service.d/store.conf"
    assert once.read_text() == text
    assert (packaged.config.stat().st_gid, packaged.config.stat().st_mode & 0o777) == (_OWNER, 0o640)
    assert f"  sudo -u '#{_OWNER}' retentiond once media" in outcome.stdout


def test_a_home_that_the_unit_hides_is_not_the_service_s(
    packaged: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def account(home: str) -> pwd.struct_passwd:
        return pwd.struct_passwd(("dendrite", "x", _OWNER, _OWNER, "", home, "/bin/false"))

    for home, hidden in (("/home/dendrite", True), ("/var/lib/dendrite", False)):
        monkeypatch.setattr(pwd, "getpwuid", lambda _uid, home=home: account(home))
        text = drop_in(packaged.root, _OWNER, _OWNER, packaged.media_path) or ""
        assert "User=dendrite\nGroup=\n" in text
        assert ("Environment=HOME=/nonexistent\n" in text) is hidden


@pytest.mark.parametrize("there", [_DROP_IN, None])
def test_a_drop_in_that_is_there_stays_and_without_a_unit_there_is_none(
    packaged: Machine, there: str | None
) -> None:
    packaged.add()
    if there is None:
        (packaged.root / "usr/lib/systemd/system/retentiond.service").unlink()
    else:
        (packaged.root / there).parent.mkdir(parents=True)
        (packaged.root / there).write_text("[Service]\nUser=matrix\n")
    outcome = packaged.type("--yes")
    assert outcome.status == 0, outcome.stderr
    assert "ReadWritePaths" not in outcome.stdout
    if there is None:
        assert not (packaged.root / _DROP_IN).exists()
    else:
        assert (packaged.root / there).read_text() == "[Service]\nUser=matrix\n"


def test_root_sees_what_the_service_could_not_read(packaged: Machine) -> None:
    file = packaged.add()
    file.chmod(0o600)
    outcome = packaged.type("--yes")
    assert outcome.status == 2, outcome.stdout
    assert str(file) in outcome.stderr
    assert (os.geteuid(), os.getegid()) == (0, 0)
    assert not packaged.config.exists()
    os.chown(file, _OWNER, _OWNER)
    assert packaged.type("--yes").status == 0


def test_the_configuration_for_chats_is_readable_for_the_service(
    packaged: Machine, without_password: str
) -> None:
    async def make(_store: DendriteStore, connection: Connection) -> None:
        await make_chat_tables(connection, "pro")

    packaged.arrange(make)
    unit = packaged.root / "usr/lib/systemd/system/retentiond.service"
    account = pwd.getpwnam("nobody")
    unit.write_text("[Service]\nUser=root\n")
    (packaged.root / _DROP_IN).parent.mkdir(parents=True)
    (packaged.root / _DROP_IN).write_text(f"[Service]\nUser={account.pw_name}\n")
    outcome = packaged.type("--chats", without_password, "--yes")
    assert outcome.status == 0, outcome.stderr
    assert packaged.config.stat().st_gid == account.pw_gid
    assert f"  sudo -u {account.pw_name} retentiond purge-chats" in outcome.stdout
