"""The settings of a room target and the means to work on it, and the tables that it needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from retentiond.adapters.postgres import named_queries
from retentiond.config.connection import password_of, to_url
from retentiond.config.dendrite_yaml import DendriteConfig, read_dendrite_config
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import UnreachableError, UsageError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    from asyncpg import Record as Row
    from pydantic import SecretStr

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.config.dendrite_yaml import Part
    from retentiond.config.rooms import RoomTarget
    from retentiond.model.rooms import RoomRules

KIND: Final = "dendrite_rooms"
SCHEMA: Final = (__package__, "schema.sql")
SQL: Final = named_queries(__package__, "context.sql")
RoomComponent = Literal["sync_api", "user_api", "federation_api", "media_api"]
"""A part of dendrite, beside the room server, whose tables show a room or what it refers to."""


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


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """The databases of dendrite as asyncpg's URLs, `database` that of the room server, and the policies.

    `server_names` are in lower case.
    """

    database: str = field(repr=False)
    databases: Mapping[RoomComponent, str] = field(repr=False)
    server_names: frozenset[str]
    rules: RoomRules
    secret_files: tuple[Path, ...] = ()
    """dendrite's configuration, if a password is taken from it."""


def resolve_rooms(target: RoomTarget) -> RoomSettings:
    """Complete a target by dendrite's file, if it names one; raise ConfigError with that file's problems."""
    ours = _ours(target)
    dendrite = _dendrite(target, ours)
    # In dendrite's file the media's database stands for that of each component without its own.
    media = ours.get("database") or _url(dendrite.database)
    database = ours.get("room_server") or _url(dendrite.databases.get("room_server")) or media
    names = target.server_name or dendrite.server_names
    if database is None or not names:
        raise UsageError("a target needs `database` and `server_name`; set both, or `dendrite_config`")
    otherwise = media if media is not None and target.database is None else database
    databases: dict[RoomComponent, str] = {
        "sync_api": ours.get("sync_api") or _url(dendrite.databases.get("sync_api")) or otherwise,
        "user_api": ours.get("user_api") or _url(dendrite.databases.get("user_api")) or otherwise,
        "federation_api": ours.get("federation_api")
        or _url(dendrite.databases.get("federation_api"))
        or otherwise,
        "media_api": media or database,
    }
    taken = {database, *databases.values()} - set(ours.values())
    file = target.dendrite_config
    return RoomSettings(
        database,
        databases,
        frozenset(name.lower() for name in names),
        target.rules(),
        (file,) if file is not None and any(map(password_of, taken)) else (),
    )


def _ours(target: RoomTarget) -> dict[Part, str]:
    """Return the databases that the target itself names, by the words of dendrite's file."""
    named: dict[Part, SecretStr | None] = {
        "database": target.databases.media_api,
        "room_server": target.database,
        "sync_api": target.databases.sync_api,
        "user_api": target.databases.user_api,
        "federation_api": target.databases.federation_api,
    }
    return {part: url for part, secret in named.items() if (url := _url(secret)) is not None}


def _dendrite(target: RoomTarget, ours: Mapping[Part, str]) -> DendriteConfig:
    if target.dendrite_config is None:
        return DendriteConfig(None, {}, None, ())
    known: set[Part] = {"media_path", *ours}
    if target.server_name is not None:
        known.add("server_name")
    return read_dendrite_config(target.dendrite_config, known=known)


def _url(secret: SecretStr | None) -> str | None:
    return None if secret is None else to_url(secret.get_secret_value())
