"""The command line in this process, on streams in memory: with targets in memory, or on a real store."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import structlog

from retentiond.cli import execute
from retentiond.cli.environment import Environment
from retentiond.targets.registry import open_target
from tests.support.fake_target import STARTED, FakeTarget, FakeTargets
from tests.support.media_target import REMOTE
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path
    from typing import TextIO

    from retentiond.cli.environment import OpenTarget

    Connection = asyncpg.Connection[asyncpg.Record]


TARGET = """\
  {name}:
    kind: dendrite_media
    database: postgresql://dendrite:hunter2@localhost/dendrite
    media_path: /srv/media
    server_name: example.org
    schedule: {{cron: "30 3 * * *", timezone: UTC}}
    policies:
      - {{name: remote, match: {{origin: remote}}, keep: 30d}}
"""


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """Standard output as the one JSON document that it is."""
        return json.loads(self.stdout)


@dataclass
class CommandLine:
    """A configuration with these targets, and a prompt."""

    directory: Path
    targets: tuple[FakeTarget, ...] = field(default_factory=lambda: (FakeTarget(),))
    tail: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    factory: FakeTargets = field(init=False)

    def __post_init__(self) -> None:
        self.factory = FakeTargets({target.name: target for target in self.targets})
        self.config.write_text(self.text())

    @property
    def config(self) -> Path:
        """Where the configuration is."""
        return self.directory / "config.yaml"

    @property
    def open_target(self) -> OpenTarget:
        """How a command opens its targets."""
        return self.factory.open

    def text(self) -> str:
        """Return the configuration."""
        return "targets:\n" + "".join(TARGET.format(name=target.name) for target in self.targets) + self.tail

    def type(
        self,
        *words: str,
        stdin: TextIO | None = None,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        **others: Any,
    ) -> Outcome:
        """Run a command; the configuration is found by the variable."""
        out, err = stdout or io.StringIO(), stderr or io.StringIO()
        place = Environment(
            variables={"RETENTIOND_CONFIG": str(self.config)} | self.environment,
            stdin=stdin or io.StringIO(),
            stdout=out,
            stderr=err,
            open_target=self.open_target,
            now=lambda: STARTED,
            **others,
        )
        root = logging.getLogger()
        handlers = list(root.handlers)
        try:
            status = execute(words, place)
        finally:
            # The log was turned to this command's streams, which end with it.
            structlog.reset_defaults()
            root.handlers[:] = handlers
        return Outcome(status, _text(out), _text(err))


def log_entries(stderr: str) -> list[Mapping[str, Any]]:
    """Return the log's entries among the lines of standard error."""
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def _text(stream: TextIO) -> str:
    return stream.getvalue() if isinstance(stream, io.StringIO) else ""


T = TypeVar("T")


class Arranges:
    """Has a store of dendrite's, which a test arranges between two commands."""

    database: str
    media_path: Path | None
    _added = 0

    def arrange(self, work: Callable[[DendriteStore, Connection], Awaitable[T]]) -> T:
        """Do something to the store, or look at it."""

        async def arranged() -> T:
            connection = await asyncpg.connect(self.database)
            try:
                assert self.media_path is not None
                store = DendriteStore(connection, self.media_path)
                # It goes on counting where the one before ended.
                store._added = self._added
                result = await work(store, connection)
                self._added = store._added
                return result
            finally:
                await connection.close()

        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(arranged())


@dataclass
class RealCommandLine(CommandLine, Arranges):
    """A configuration of one target `media`, and a prompt; `keys` may be changed between two commands, None for no key."""

    database: str = ""
    media_path: Path | None = None
    keys: dict[str, Any] = field(default_factory=dict)

    @property
    def open_target(self) -> OpenTarget:
        return open_target

    def text(self) -> str:
        target = {
            "kind": "dendrite_media",
            "database": self.database,
            "media_path": str(self.media_path),
            "server_name": "here.test",
            "policies": [REMOTE],
            # With a settle of a minute or more a pass by hand would wait for its last sweep.
            "settle": "30s",
        }
        given = {key: value for key, value in (target | self.keys).items() if value is not None}
        return json.dumps({"targets": {"media": given}})

    def type(self, *words: str, **others: Any) -> Outcome:
        self.config.write_text(self.text())
        return super().type(*words, **others)

    def execute(self, statement: str) -> None:
        """Do a statement."""
        self.arrange(lambda _store, connection: connection.execute(statement))
