"""Every command that the README and docs/ tell to type does what it says, on a store of the test's own."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
import structlog
import yaml

from retentiond.cli import execute
from retentiond.cli.environment import Environment
from retentiond.demo.chats import MadeUpChats, make_chat_tables, make_up_chats
from tests.support.media_target import REMOTE
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.database import DatabaseServer

_REPOSITORY = Path(__file__).parents[2]
_PAGES = [_REPOSITORY / "README.md", *sorted((_REPOSITORY / "docs").rglob("*.md"))]
_DOCUMENTS = "\n".join(page.read_text(encoding="utf-8") for page in _PAGES)
_COMMANDS = sorted(
    set(re.findall(r"`(retentiond [^`\n]+)`", _DOCUMENTS))
    | set(re.findall(r"^(retentiond .+--.+)$", _DOCUMENTS, re.MULTILINE))
)
# They bring a machine or a server of their own, and have tests of their own.
_ELSEWHERE = {
    "retentiond run": "test_service.py",
    "retentiond demo [--media N] [--chats] [--keep DIR] [--report FILE]": "test_demo.py",
}
_SHELL = {
    "pipx install '.[clickhouse,elasticsearch]'": "test_install.py",
    "journalctl -u retentiond RETENTIOND_EVENT=pass_finished -o json": "test_service.py",
    "sudo systemd/install dendrite /var/lib/dendrite/media_store": "test_install.py",
    "systemctl enable --now retentiond": "test_service.py",
    "systemctl reload retentiond": "test_service.py",
    "systemctl status retentiond": "test_service.py",
}


def test_each_command_of_the_machine_is_in_a_test() -> None:
    spans = re.findall(
        r"`((?:sudo |systemctl |journalctl |pipx |apt )[^`]+)`", re.sub(r"\s+", " ", _DOCUMENTS)
    )
    blocks = re.findall(r"^((?:sudo |systemctl |journalctl ).+)$", _DOCUMENTS, re.MULTILINE)
    told = set(spans) | set(blocks)
    assert told - set(_SHELL) == {"apt install python3-venv"}


@pytest.fixture
def prompt(database: str, postgres: DatabaseServer, media_path: Path, tmp_path: Path) -> Iterator[Prompt]:
    """A configured store after its first pass, and an account's chats."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        chats = runner.run(postgres.clone())
        try:
            uri = runner.run(_fill(database, media_path, chats))
            yield Prompt(tmp_path, database, media_path, chats, uri)
        finally:
            runner.run(postgres.drop(chats))


# The accounts that the documents' commands name, and the schema of each.
_ACCOUNTS = {"testcom": "pro", "A": "pro_a"}


async def _fill(database: str, media_path: Path, chats: str) -> str:
    connection = await asyncpg.connect(database)
    try:
        store = DendriteStore(connection, media_path)
        gone = await store.add(thumbnails=[(32, 32, "crop")])
        await store.add(age=timedelta(days=1))
        await store.add(origin="here.test", user_id="@user:server", age=timedelta(days=1))
        await store.add_profile("ann", None)
    finally:
        await connection.close()
    other = await asyncpg.connect(chats)
    try:
        begin, end = datetime(2022, 1, 1, tzinfo=UTC), datetime(2023, 6, 1, tzinfo=UTC)
        for schema in _ACCOUNTS.values():
            await make_chat_tables(other, schema)
            await make_up_chats(other, MadeUpChats(20, begin, end), schema)
    finally:
        await other.close()
    return gone.uri


class Prompt:
    """Where the documents' commands are typed."""

    def __init__(self, directory: Path, database: str, media_path: Path, chats: str, uri: str) -> None:
        self._directory = directory
        self._uri = uri
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
        (directory / "config.yaml").write_text(json.dumps({"targets": {"media": media, "chats": target}}))
        dendrite = {
            "global": {"server_name": "here.test", "database": {"connection_string": database}},
            "media_api": {"base_path": str(media_path)},
        }
        (directory / "dendrite.yaml").write_text(yaml.safe_dump(dendrite))

    def type(self, command: str) -> tuple[int, str]:
        """Type a command as the documents have it, and return its exit status and all that it said."""
        words = re.sub(r"\[[^\]]*\]", "", command).split()[1:]
        stands_for = {
            "TARGET": "media",
            "N": "1",
            "NUMBER": "1",
            "FILE": str(self._directory / "report.html"),
            "mxc://…": self._uri,
            "/etc/dendrite/dendrite.yaml": str(self._directory / "dendrite.yaml"),
            ">": None,
            "records.jsonl": None,
        }
        typed = [word for word in (stands_for.get(word, word) for word in words) if word is not None]
        out, err = io.StringIO(), io.StringIO()
        environment = {"RETENTIOND_CONFIG": str(self._directory / "config.yaml")}
        place = Environment(variables=environment, stdin=io.StringIO(), stdout=out, stderr=err)
        root = logging.getLogger()
        handlers = list(root.handlers)
        try:
            return execute(typed, place), out.getvalue() + err.getvalue()
        finally:
            structlog.reset_defaults()
            root.handlers[:] = handlers


# Without a terminal nobody can be asked, and a medium that went with the first pass is not there to be deleted.
_BEFORE_THE_FIRST_PASS = re.compile(r"once|plan|check-config|example-config|delete|hold|audit")


@pytest.mark.parametrize("command", [command for command in _COMMANDS if command not in _ELSEWHERE])
def test_a_command_of_the_documents_works(prompt: Prompt, command: str) -> None:
    if not _BEFORE_THE_FIRST_PASS.search(command):
        assert prompt.type("retentiond once media --yes")[0] == 0
    unattended = f"{command} --yes" if " delete " in command else command
    status, said = prompt.type(unattended)
    assert status == 0, said
