"""Every command in the README and docs/ works as it stands there, on a store of the test's own."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import shlex
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from threading import Thread
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import structlog
import yaml

from retentiond.cli import execute
from retentiond.cli.environment import Environment
from retentiond.demo.chat_show import MadeUpChats, make_chat_tables, make_up_chats
from tests.support.dendrite_admin import ADMIN, RecordedDendrite
from tests.support.media_target import REMOTE
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from tests.support.database import DatabaseServer

_REPOSITORY = Path(__file__).parents[2]
_PAGES = [_REPOSITORY / "README.md", *sorted((_REPOSITORY / "docs").rglob("*.md"))]
_DOCUMENTS = "\n".join(page.read_text(encoding="utf-8") for page in _PAGES)
_BLOCKS = "\n".join(
    dedent(block) for block in re.findall(r"^ *```sh\n(.*?)^ *```$", _DOCUMENTS, re.MULTILINE | re.DOTALL)
)
_COMMANDS = sorted(
    # A usage line is no command to type.
    set(re.findall(r"(?<!Usage: )`(retentiond [^`\n]+)`", _DOCUMENTS))
    | set(re.findall(r"^(?:sudo )?(retentiond .+)$", _BLOCKS, re.MULTILINE))
)
# They bring a machine or a server of their own, and have tests of their own.
_ELSEWHERE = re.compile(
    r"retentiond (--config \S+ |--quiet )?(run|demo|notify|init|health)\b|retentiond (COMMAND )?--help$"
    r"|retentiond delete --room \S+ --and-purge$"
)
_SHELL = {
    "pipx install '.[clickhouse,elasticsearch]'": "test_install.py",
    "journalctl -u retentiond RETENTIOND_EVENT=pass_finished -o json": "test_service.py",
    "sudo systemd/install dendrite /var/lib/dendrite/media_store": "test_install.py",
    "sudo systemd/install --chats": "test_install.py",
    "sudo apt install ./retentiond_0.1.0_amd64.deb": "test_debian_package.py",
    "apt purge retentiond": "test_debian_package.py",
    "apt remove": "test_debian_package.py",
    "sudo retentiond init": "test_init.py",
    "sudo retentiond init --chats 'postgresql://retentiond@/webim?host=/run/postgresql'": "test_init.py",
    "journalctl -u retentiond-once": "systemd's own",
    "sudo systemctl enable --now retentiond-once.timer": "test_service.py",
    "systemctl list-timers retentiond-once.timer": "systemd's own",
    "systemctl edit retentiond": "the user's own editor",
    "systemctl edit retentiond-once": "the user's own editor",
    "systemctl edit retentiond-once.timer": "the user's own editor",
    "sudo -u dendrite": "a prefix",
    "sudo -u retentiond": "a prefix",
    "systemctl disable --now retentiond": "systemd's own",
    "systemctl enable --now retentiond": "test_service.py",
    "systemctl reload retentiond": "test_service.py",
    "systemctl status retentiond": "test_service.py",
}
# The accounts that the commands name, and the schema of each.
_ACCOUNTS = {"testcom": "pro", "A": "pro_a"}
# Commands that change nothing share a store; the others have one each.
_LOOKS = re.compile(
    r"\b(plan|check-config|example-config|status|report|list|records|accept media$)\b|--dry-run"
)
# Commands that a command relies on: the first whose pattern matches counts.
_BEFORE = (
    (r"hold release", ("hold add media --user @ann:example.org",)),
    (r"quarantine forget", ("once media --yes", "quarantine restore media --all")),
    (r"records verify --file", ("records export media > records.jsonl",)),
    (r"purge media --cancel", ("once media --yes", "quarantine purge --yes")),
    (r"quarantine", ("once media --yes",)),
)


def test_each_command_of_the_machine_is_in_a_test() -> None:
    spans = re.findall(
        r"`((?:sudo |systemctl |journalctl |pipx |apt )[^`]+)`", re.sub(r"\s+", " ", _DOCUMENTS)
    )
    blocks = re.findall(r"^((?:sudo |systemctl |journalctl ).+)$", _BLOCKS, re.MULTILINE)
    assert (set(spans) | set(blocks)) - set(_SHELL) == {"apt install python3-venv"}


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(work)


@pytest.fixture(scope="module")
def many_chats(postgres: DatabaseServer) -> Iterator[str]:
    """A database with the chats of each account, to be copied."""
    made: str = _run(postgres.clone())
    _run(_fill_chats(made))
    yield made
    _run(postgres.drop(made))


@pytest.fixture
def prompt(postgres: DatabaseServer, many_chats: str, tmp_path: Path) -> Iterator[Prompt]:
    """A configured store with old and new media, and two accounts with chats."""
    with _made(postgres, many_chats, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def after_a_pass(
    postgres: DatabaseServer, many_chats: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prompt]:
    """Such a store after its first pass, for all commands that only look."""
    with _made(postgres, many_chats, tmp_path_factory.mktemp("documents")) as made:
        status, said = made.type("once media --yes")
        assert status == 0, said
        yield made


@contextmanager
def _made(postgres: DatabaseServer, many_chats: str, directory: Path) -> Iterator[Prompt]:
    database, chats = _run(postgres.clone()), _run(postgres.clone(many_chats))
    media_path = directory / "media"
    media_path.mkdir()
    try:
        with _dendrite(database) as url:
            yield Prompt(directory, database, media_path, chats, _run(_fill(database, media_path)), url)
    finally:
        _run(postgres.drop(database))
        _run(postgres.drop(chats))


@contextmanager
def _dendrite(database: str) -> Iterator[str]:
    """Run dendrite's admin API beside the commands, which have loops of their own; lend its URL."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()

    def there(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result()

    dendrite = RecordedDendrite(database)
    try:
        there(dendrite.start())
        yield dendrite.url
        there(dendrite.kill())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _fill(database: str, media_path: Path) -> str:
    connection = await asyncpg.connect(database)
    try:
        store = DendriteStore(connection, media_path)
        old = await store.add(thumbnails=[(32, 32, "crop")])
        await store.add(age=timedelta(days=1))
        await store.add(origin="here.test", user_id="@user:server", age=timedelta(days=1))
        await store.add_profile("ann", None)
    finally:
        await connection.close()
    return old.uri


async def _fill_chats(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        begin, end = datetime(2022, 1, 1, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC)
        for schema in _ACCOUNTS.values():
            await make_chat_tables(connection, schema)
            await make_up_chats(connection, MadeUpChats(20, begin, end), schema)
    finally:
        await connection.close()


class Prompt:
    """Where the documents' commands are typed."""

    def __init__(
        self, directory: Path, database: str, media_path: Path, chats: str, uri: str, admin_api: str
    ) -> None:
        self._directory = directory
        self._stands_for = {
            "TARGET": "media",
            "N": "1",
            "7": "1",
            "NUMBER": "1",
            "3": "1",
            "mxc://…": uri,
            "mxc://example.org/abc": uri,
            "FILE": str(directory / "report.html"),
            "/srv/www/retention.html": str(directory / "report.html"),
            "records.jsonl": str(directory / "records.jsonl"),
            "/etc/dendrite/dendrite.yaml": str(directory / "dendrite.yaml"),
        }
        media = {
            "kind": "dendrite_media",
            "database": database,
            "media_path": str(media_path),
            "server_name": ["here.test", "server"],
            "settle": "0s",
            "policies": [REMOTE],
        }
        accounts = {name: {"schema": schema} for name, schema in _ACCOUNTS.items()}
        target = {"kind": "chat_database", "database": chats, "accounts": accounts}
        rooms = {
            "kind": "dendrite_rooms",
            "database": database,
            "server_name": "here.test",
            "admin_api": {"url": admin_api, "token": ADMIN},
            "policies": [{"name": "left", "match": {"left_by_all": True}, "keep": "90d"}],
        }
        targets = {"media": media, "rooms": rooms, "chats": target}
        (directory / "config.yaml").write_text(json.dumps({"targets": targets}))
        dendrite = {
            "global": {
                "server_name": "here.test",
                "virtual_hosts": [{"server_name": "server"}],
                "database": {"connection_string": database},
            },
            "media_api": {"base_path": str(media_path)},
        }
        (directory / "dendrite.yaml").write_text(yaml.safe_dump(dendrite))

    def type(self, command: str) -> tuple[int, str]:
        """Type a command as the documents have it, and return its exit status and all that it said."""
        line, _, file = re.sub(r"\[[^\]]*\]", "", command).partition(" > ")
        words = [self._stands_for.get(word, word) for word in shlex.split(line, comments=True)]
        out, err = io.StringIO(), io.StringIO()
        variables = {"RETENTIOND_CONFIG": str(self._directory / "config.yaml")}
        place = Environment(variables=variables, stdin=io.StringIO(), stdout=out, stderr=err)
        root = logging.getLogger()
        handlers = list(root.handlers)
        try:
            status = execute(words, place)
        finally:
            structlog.reset_defaults()
            root.handlers[:] = handlers
        if file == "records.jsonl":
            Path(self._stands_for[file]).write_text(out.getvalue())
        return status, out.getvalue() + err.getvalue()


def test_the_chain_of_two_targets_on_one_database_is_exported_once_and_verifies(
    after_a_pass: Prompt,
) -> None:
    status, said = after_a_pass.type("records export > records.jsonl")
    assert status == 0, said
    assert "rooms: its records are in the chain of media" in said
    status, said = after_a_pass.type("records verify --file records.jsonl")
    assert status == 0, said


@pytest.mark.parametrize("command", [command for command in _COMMANDS if not _ELSEWHERE.match(command)])
def test_a_command_of_the_documents_works(request: pytest.FixtureRequest, command: str) -> None:
    prompt: Prompt = request.getfixturevalue("after_a_pass" if _LOOKS.search(command) else "prompt")
    before = next((before for pattern, before in _BEFORE if re.search(pattern, command)), ())
    for line in before:
        status, said = prompt.type(line)
        assert status == 0, said
    # Without a terminal a deletion is confirmed beforehand.
    asks = " delete " in command and not re.search("--yes|--dry-run", command)
    status, said = prompt.type(command.removeprefix("retentiond ") + (" --yes" if asks else ""))
    assert status == 0, said
