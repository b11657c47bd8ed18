"""The embedded server is there when it is wanted, and gone, with all it wrote, when it is not."""

from __future__ import annotations

import json
import os
import pwd
import select
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from retentiond.demo import exec_with_death_signal
from retentiond.demo import postgres as demo_postgres
from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.demo.programs import find_binaries
from retentiond.model.errors import UnreachableError

PROJECT = Path(__file__).parents[2]
FAST = {"fsync": "off"}
SECONDS_TO_END = 30
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# Tells where its server is, and then does what its one argument says.
CHILD = """
import json, os, sys
from retentiond.demo.postgres import EmbeddedPostgres
with EmbeddedPostgres({"fsync": "off"}) as server:
    print(json.dumps({"process": server.process_id, "directory": str(server.directory)}), flush=True)
    sys.stdin.read()
"""


def start_child(interpreter: str = sys.executable, user: str | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [interpreter, "-c", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(PROJECT), "RETENTIOND_POSTGRES_BIN": str(find_binaries())},
        user=user,
        extra_groups=None if user is None else [],
    )


def interpreter_open_to(user: str) -> str | None:
    # Ours may lie in root's home; the server's supervision needs nothing but the standard library.
    for interpreter in (sys.executable, shutil.which("python3", path=os.defpath)):
        if interpreter is None:
            continue
        with suppress(PermissionError):
            trial = subprocess.run(
                [interpreter, "-c", "import retentiond.demo.postgres"],
                cwd="/",
                env={"PYTHONPATH": str(PROJECT)},
                user=user,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
            if trial.returncode == 0:
                return interpreter
    return None


def told_by(child: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert child.stdout
    line = child.stdout.readline()
    assert line, f"the child did not start a server: {child.communicate()[1].decode()}"
    told: dict[str, Any] = json.loads(line)
    return told


def wait_for_end(process_file: int) -> bool:
    """Tell whether the process behind the descriptor has ended, be it now or soon."""
    poller = select.poll()
    poller.register(process_file, select.POLLIN)
    return bool(poller.poll(SECONDS_TO_END * 1000))


async def ask(server: EmbeddedPostgres, query: str) -> Any:
    connection = await asyncpg.connect(server.dsn())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_a_started_server_answers_with_the_settings_it_was_given() -> None:
    with EmbeddedPostgres(FAST | {"work_mem": "5MB"}) as server:
        assert await ask(server, "SHOW work_mem") == "5MB"
        assert (await ask(server, "SHOW server_version")).startswith(server.version)


async def test_a_stopped_server_leaves_nothing_behind() -> None:
    with EmbeddedPostgres(FAST) as server:
        directory, process = server.directory, os.pidfd_open(server.process_id)
        connection = await asyncpg.connect(server.dsn())
    assert directory is not None
    assert not directory.exists()
    assert wait_for_end(process)
    os.close(process)
    connection.terminate()


@as_root
def test_root_runs_the_server_as_another_user() -> None:
    with EmbeddedPostgres(FAST) as server:
        status = Path(f"/proc/{server.process_id}/status").read_text()
    uids = next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    groups = next(line.split()[1:] for line in status.splitlines() if line.startswith("Groups:"))
    assert set(uids) == {str(pwd.getpwnam("nobody").pw_uid)}
    assert "0" not in groups


@as_root
def test_an_ordinary_user_can_run_the_server() -> None:
    interpreter = interpreter_open_to("nobody")
    if interpreter is None:
        pytest.skip("this checkout, or every interpreter, is closed to the user 'nobody'")
    child = start_child(interpreter, "nobody")
    told = told_by(child)
    assert Path(f"/proc/{told['process']}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    _, errors = child.communicate()
    assert (child.returncode, errors) == (0, b"")
    assert not Path(told["directory"]).exists()


def test_the_server_ends_when_the_process_that_started_it_is_killed() -> None:
    child = start_child()
    told = told_by(child)
    server = os.pidfd_open(told["process"])
    try:
        child.kill()
        child.communicate()
        assert wait_for_end(server)
        assert not (Path(told["directory"]) / "data" / "postmaster.pid").exists(), "it was no orderly end"
    finally:
        os.close(server)
        shutil.rmtree(told["directory"])


def test_a_program_whose_parent_is_gone_already_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = [
        sys.executable,
        exec_with_death_signal.__file__,
        str(os.getpid() + 1),
        str(os.getuid()),
        str(os.getgid()),
    ]
    done = subprocess.run([*command, shutil.which("touch") or "", trace], capture_output=True, check=False)
    assert done.returncode != 0
    assert b"the parent is gone" in done.stderr
    assert not trace.exists()


async def test_what_was_committed_is_there_again_after_a_crash() -> None:
    with EmbeddedPostgres(FAST) as server:
        await ask(server, "SELECT 1")
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        dsn = server.dsn()
        server.crash()
        with pytest.raises((asyncpg.PostgresConnectionError, ConnectionError)):
            await connection.fetchval("SELECT 1")
        server.start()
        assert server.dsn() == dsn
        assert await ask(server, "SELECT number FROM kept") == 7


async def test_a_crash_takes_every_process_of_the_server() -> None:
    with EmbeddedPostgres(FAST) as server:
        connection = await asyncpg.connect(server.dsn())
        backend = os.pidfd_open(connection.get_server_pid())
        server.crash()
        assert server.process_id == 0
        assert wait_for_end(backend)
        os.close(backend)
        connection.terminate()


async def test_a_connection_without_the_password_is_turned_away() -> None:
    with EmbeddedPostgres(FAST) as server, pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.dsn(), password="guess")


def test_a_port_that_another_program_took_first_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    free_port = demo_postgres._free_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr(demo_postgres, "_free_port", lambda: next(ports, None) or free_port())
        with EmbeddedPostgres(FAST) as server:
            assert server.port not in {0, taken}


def test_a_setting_that_the_server_refuses_is_told_and_nothing_is_left() -> None:
    server = EmbeddedPostgres({"no_such_setting": "1"})
    with pytest.raises(UnreachableError, match="no_such_setting"):
        server.start()
    assert server.directory is None
    assert server.process_id == 0


@as_root
async def test_binaries_below_a_closed_directory_are_run_from_a_copy(tmp_path: Path) -> None:
    install = find_binaries().parent
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if not (install / "share").is_dir():
        pytest.skip("the binaries found are the system's, which are never below a closed directory")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(install, closed / install.parent.name / "install", symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, closed / libraries.name, symlinks=True)
    server = EmbeddedPostgres(FAST, binaries=closed / install.parent.name / "install" / "bin")
    for _ in ("at first", "and again, when the first copy is gone"):
        with server:
            assert await ask(server, "SELECT 1") == 1
