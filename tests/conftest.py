"""What every test may ask for: a PostgreSQL, a database of its own, a media directory, and a store in both."""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from xdist.scheduler import LoadFileScheduling

from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.model.errors import UnreachableError
from retentiond.targets.dendrite_media.passes import ends
from tests.support.closing_lines import (
    closing_lines,
    receive_closing_lines,
    say_at_the_end,
    send_closing_lines,
)
from tests.support.database import DatabaseServer, directory_in_memory, remove_dead_servers
from tests.support.media_target import Retention
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator


_FIRST_TYPE_OF_USERS = 16384


def pytest_configure() -> None:
    """Let the processes that tests start share compiled modules, next to no source where that is not wanted."""
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache / "retentiond-tests" / "compiled")
    _describe_each_type_once()


def _describe_each_type_once() -> None:
    """Let all connections share the driver's descriptions of PostgreSQL's own types, `bigint[]` and others.

    Each connection asks for them anew, which takes the server longer than the statement they are for.
    """
    ask: Any = asyncpg.Connection._introspect_types  # type: ignore[attr-defined]
    described: dict[tuple[int, ...], Any] = {}

    async def describe(connection: Any, types: Iterable[int], *how: Any) -> Any:
        numbers = tuple(sorted(types))
        if numbers[-1] >= _FIRST_TYPE_OF_USERS:
            return await ask(connection, numbers, *how)
        if numbers not in described:
            described[numbers] = await ask(connection, numbers, *how)
        return described[numbers]

    asyncpg.Connection._introspect_types = describe  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[DatabaseServer]:
    """The run's server: $RETENTIOND_TEST_DSN where it is set, else one of our own."""
    # The loop of the tests is left alone: this may be asked for in the midst of one's set-up.
    with ExitStack() as stack, asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        dsn = os.environ.get("RETENTIOND_TEST_DSN")
        where = "RETENTIOND_TEST_DSN" if dsn else "embedded"
        if not dsn:
            try:
                memory = directory_in_memory()
                if memory is not None:
                    remove_dead_servers(memory)
                dsn = stack.enter_context(EmbeddedPostgres({"fsync": "off"}, parent=memory)).dsn()
            except UnreachableError as error:
                pytest.fail(f"{error}; or set RETENTIOND_TEST_DSN to a server to test on", pytrace=False)
        server = DatabaseServer(dsn)
        runner.run(server.__aenter__())
        say_at_the_end(request.config, f"Database: PostgreSQL {server.version} ({where})")
        try:
            yield server
        finally:
            runner.run(server.__aexit__(None, None, None))


@pytest.fixture
def database(postgres: DatabaseServer) -> Iterator[str]:
    """The URL of a database of this test's own, with dendrite's tables, empty."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        dsn = runner.run(postgres.clone())
        try:
            yield dsn
        finally:
            runner.run(postgres.drop(dsn))


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to the test's database."""
    opened = await asyncpg.connect(database)
    try:
        yield opened
    finally:
        # The test may have cut it, and then there is nothing to take leave of.
        if opened.is_closed():
            opened.terminate()
        else:
            await opened.close(timeout=10)


@pytest.fixture
def media_path(tmp_path: Path) -> Path:
    """An empty media directory."""
    path = tmp_path / "media"
    path.mkdir(mode=0o750)
    return path


@pytest.fixture
def store(connection: asyncpg.Connection[asyncpg.Record], media_path: Path) -> DendriteStore:
    """An empty dendrite store, `here.test`, in the test's database and media directory."""
    return DendriteStore(connection, media_path)


@pytest.fixture
def retention(database: str, media_path: Path) -> Retention:
    """retentiond at work on that store."""
    return Retention(database, media_path)


@pytest.fixture
def noatime(monkeypatch: pytest.MonkeyPatch) -> None:
    """The media directory's mount keeps no access times."""
    flags = os.statvfs_result((4096, 4096, *(10**6,) * 6, os.ST_NOATIME, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: flags)


@pytest.fixture(autouse=True)
def no_wait_for_a_last_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass by hand sweeps at once, and not after dendrite's time-outs of a minute."""
    monkeypatch.setattr(ends, "LAST_SWEEP_AFTER", timedelta(0))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let the process that prints know what this one has to say."""
    send_closing_lines(session.config)


_MOST_PROCESSES = 8
"""Each has servers of its own."""
_WITH_AN_IMAGE = "tests/system/test_containers.py"
"""Its tests share an image, whose build takes minutes."""
_LONGEST_FIRST = (
    "tests/integration/search/",
    "tests/system/test_install.py",
    "tests/system/test_crashes.py",
    "tests/system/",
    "tests/integration/test_bad_places.py",
    "tests/unit/test_release.py",
    "tests/integration/test_accept.py",
    "tests/integration/test_audit_repair.py",
    "tests/integration/test_c",
    "tests/integration/",
    "tests/unit/test_monitoring.py",
    "tests/",
)
"""The order of the run: short tests at the end keep all processes busy until then."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests by the first that fits of `_LONGEST_FIRST`."""
    items.sort(
        key=lambda item: next(
            (place for place, start in enumerate(_LONGEST_FIRST) if item.nodeid.startswith(start)), 0
        )
    )


class _Scopes(LoadFileScheduling):  # type: ignore[misc]  # xdist ships no types
    """Gives each test of the system to any process, and those of a file, or of a folder with a server, to one."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/system/") and not nodeid.startswith(_WITH_AN_IMAGE):
            return nodeid
        # tests/integration/test_paths.py is by itself, tests/integration/search/test_tasks.py is not.
        return "/".join(nodeid.partition("::")[0].split("/")[:3])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are processors, since tests also wait for servers and disks."""
    return min(len(os.sched_getaffinity(0)), _MOST_PROCESSES - 1) + 1


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Return the scheduler of `--dist=loadfile`."""
    if config.getoption("dist") != "loadfile":
        return None
    # Its own order is by the number of tests, which puts the long ones at the end.
    config.option.loadscopereorder = False
    return _Scopes(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what one of several processes has to say."""
    receive_closing_lines(node.config, getattr(node, "workeroutput", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which servers the run was on, and what it left out, since that is part of what it shows."""
    for line in closing_lines(terminalreporter.config):
        terminalreporter.write_line(line)
