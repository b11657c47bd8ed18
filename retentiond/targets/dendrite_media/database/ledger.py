"""The ledger of a media target, which is nowhere but in a database of dendrite's media API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.ledger.ledger import Ledger
from retentiond.targets.dendrite_media.database.rights import ensure_tables

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db


class MediaLedger(Ledger):
    """Takes no other database for one in which no pass has run yet."""

    async def exists(self, connection: Conn | Db) -> bool:
        """Tell whether the ledger was ever made; raise UnreachableError where dendrite's tables are missing, too."""
        if await super().exists(connection):
            return True
        await ensure_tables(connection)
        return False
