"""The tables and privileges that a role needs in dendrite's databases before any work; each error has the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import MissingRightError, UnreachableError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db

SQL: Final = named_queries(__package__, "rights.sql")


async def ensure_tables(connection: Conn | Db) -> None:
    """Raise UnreachableError if the database is not the media API's, or this role does not see its tables."""
    [there] = await connection.fetch(SQL["tables_there"])
    missing = [
        name
        for name, found in (
            ("mediaapi_media_repository", there["media"]),
            ("mediaapi_thumbnail", there["thumbnails"]),
        )
        if not found
    ]
    if missing:
        raise UnreachableError(
            f"the database {printable(there['database'])} has no table {' and no table '.join(missing)} that the role "
            f"{printable(there['role'])} sees; it may be another component's: `database` is that of dendrite's media "
            "API, and those of other components go under `databases:`"
        )


async def ensure_temporary(connection: Conn) -> None:
    """Raise MissingRightError if the role may not create the temporary tables and functions that reads need."""
    [right] = await connection.fetch(SQL["may_make_temporary"])
    if not right["allowed"]:
        raise MissingRightError(
            f"the role {printable(right['role'])} may not make temporary tables in the database "
            f"{printable(right['database'])}, which plans and passes read through; as a superuser run: "
            f"GRANT TEMPORARY ON DATABASE {right['database']} TO {right['role']};"
        )


async def has_media(db: Conn | Db) -> bool:
    """Return whether the database has any media row."""
    return bool(await db.fetchval(SQL["has_media"]))


async def may_delete(connection: Conn) -> bool:
    """Return whether this role has every privilege on dendrite's tables that a pass needs."""
    return bool(await connection.fetchval(SQL["may_delete"]))


async def owns_media(connection: Conn) -> bool:
    """Return whether this role may create an index on dendrite's media table."""
    return bool(await connection.fetchval(SQL["owns_media"]))


class MediaLedger(Ledger):
    """The ledger in a database with dendrite's media tables.

    Any other database is an error, not a store without passes.
    """

    table = "released_media"

    async def exists(self, connection: Conn | Db) -> bool:
        """Return whether the ledger exists; raise UnreachableError if dendrite's tables are missing, too."""
        if await super().exists(connection):
            return True
        await ensure_tables(connection)
        return False
