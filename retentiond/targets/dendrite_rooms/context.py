"""The settings of a room target and the means to work on it, and the tables that it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import UnreachableError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from datetime import timedelta

    from asyncpg import Record as Row

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.config.rooms import RoomTarget
    from retentiond.targets.dendrite_rooms.settings import RoomSettings

KIND: Final = "dendrite_rooms"
SCHEMA: Final = (__package__, "schema.sql")
SQL: Final = named_queries(__package__, "context.sql")


@dataclass(frozen=True, slots=True)
class RoomContext:
    """The target's settings and connections, for as long as the target is open."""

    name: str
    config: RoomTarget
    settings: RoomSettings
    pool: Db
    ledger: Ledger

    def keeping(self, keep: timedelta) -> RoomContext:
        """Return the same target with another time for its policies; `keep: forever` stays."""
        rules = self.settings.rules
        policies = tuple(one if one.keep is None else replace(one, keep=keep) for one in rules.policies)
        return replace(self, settings=replace(self.settings, rules=replace(rules, policies=policies)))

    async def make_ledger(self) -> None:
        """Make the ledger and the part of rooms."""
        async with self.pool.acquire() as connection:
            await self.ledger.make(connection, SCHEMA)


class RoomLedger(Ledger):
    """The ledger in the database of dendrite's room server. Any other database is an error."""

    table = "room_empty"

    async def exists(self, connection: Conn | Db) -> bool:
        """Return whether the ledger exists; raise UnreachableError if dendrite's tables are missing, too."""
        if await super().exists(connection):
            return True
        await ensure_tables(connection)
        return False


async def ledger_tables(connection: Conn) -> Row:
    """Return which tables of the ledger there are: `seen`, `holds` and `passes`; a plan may find them missing."""
    [there] = await connection.fetch(SQL["ledger_tables"])
    return there


async def ensure_tables(connection: Conn | Db) -> None:
    """Raise UnreachableError if the database is not the room server's, or this role does not see its tables."""
    [there] = await connection.fetch(SQL["tables_there"])
    if there["missing"]:
        raise UnreachableError(
            f"the database {printable(there['database'])} has no table {' and no table '.join(there['missing'])} that the "
            f"role {printable(there['role'])} sees; it may be another component's: `database` is that of dendrite's room "
            "server, and those of other components go under `databases:`"
        )
