"""The command line over a real store: in this process, for tests that are not on a loop themselves."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from retentiond.targets.registry import open_target
from tests.support.command_line import CommandLine, Outcome
from tests.support.media_target import REMOTE
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from retentiond.cli.environment import OpenTarget

    Connection = asyncpg.Connection[asyncpg.Record]

T = TypeVar("T")


@dataclass
class RealCommandLine(CommandLine):
    """A configuration of one target `media`, and a prompt; `keys` may be changed between two commands, None for no key."""

    database: str = ""
    media_path: Path | None = None
    keys: dict[str, Any] = field(default_factory=dict)
    _added: int = 0

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

    def execute(self, statement: str) -> None:
        """Do a statement."""
        self.arrange(lambda _store, connection: connection.execute(statement))
