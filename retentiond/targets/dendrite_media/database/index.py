"""The index on base64hash, which dendrite does not create.

Without it each search for references reads the whole table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.model.text import sentence

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn

SQL: Final = named_queries(__package__, "index.sql")
_TIMEOUT: Final = 1800.0
_OWNER: Final = "make this role the owner of mediaapi_media_repository, or set create_index: false"
_LATER: Final = (
    "the next pass tries again; see what keeps a transaction open, or the table locked (pg_stat_activity)"
)


async def index_stands(connection: Conn) -> bool:
    """Return whether the index exists, even if it is not valid."""
    return bool(await connection.fetchval(SQL["index_state"]))


async def ensure_index(connection: Conn, target: str) -> bool:
    """Create the index if it is missing, concurrently; return whether it exists. Never call it in a transaction.

    Without the privilege to create it, or after a time-out, the pass continues: slower, and as safe.
    """
    log = get_logger(target=target)
    try:
        state = await connection.fetchrow(SQL["index_state"])
        if state is not None and state["valid"]:
            return True
        if state is not None:
            # A crash during the creation leaves an invalid index, which no query uses and every insert updates.
            await connection.execute(SQL["drop_index"].replace("{index}", state["index"]), timeout=_TIMEOUT)
        log.info("index_making", index="retentiond_base64hash")
        await connection.execute(SQL["make_index"], timeout=_TIMEOUT)
    except (asyncpg.PostgresError, TimeoutError) as error:
        if connection.is_closed():
            raise
        log.warning(
            "index_not_made",
            reason=sentence(str(error)) or "time-out",
            hint=_OWNER if isinstance(error, asyncpg.InsufficientPrivilegeError) else _LATER,
        )
        return False
    log.info("index_made", index="retentiond_base64hash")
    return True
