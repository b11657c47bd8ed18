"""The ledger of a media target, which exists only in a database of dendrite's media API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.ledger.ledger import Ledger
from retentiond.targets.dendrite_media.database.rights import ensure_tables

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db


class MediaLedger(Ledger):
    """The ledger in a database with dendrite's media tables.

    Any other database is an error, not a store without passes.
    """

    async def exists(self, connection: Conn | Db) -> bool:
        """Return whether the ledger exists; raise UnreachableError if dendrite's tables are missing, too."""
        if await super().exists(connection):
            return True
        await ensure_tables(connection)
        return False
