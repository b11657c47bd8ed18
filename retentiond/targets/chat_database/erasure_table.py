"""The requests to erase one visitor in the ledger: the key of their hashes, their chats, their passes and their proof."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Erasure
    from retentiond.model.purge import ErasureReport

_SQL: Final = named_queries(__package__, "erasure_table.sql")


async def has_requests(connection: Conn) -> bool:
    """Return whether the ledger has the tables of requests: an older ledger has none."""
    return bool(await connection.fetchval(_SQL["has_requests"]))


async def read_key(connection: Conn) -> bytes | None:
    """Return the key of the hashes of visitors; None before the first request."""
    key: bytes | None = await connection.fetchval(_SQL["key"])
    return key


async def make_key(connection: Conn) -> bytes:
    """Return the key; create it for the first request."""
    await connection.execute(_SQL["make_key"], secrets.token_bytes(32))
    key: bytes = await connection.fetchval(_SQL["key"])
    return key


async def find_by_name(connection: Conn, target: str, account: str, name: str) -> Record | None:
    """Return a request of the file of requests, finished or not."""
    return await connection.fetchrow(_SQL["by_name"], target, account, name)


async def find_unfinished(
    connection: Conn, target: str, account: str, digest: str, *, even_under_floor: bool
) -> Record | None:
    """Return the unfinished request of a visitor that was made by hand, on the same terms."""
    return await connection.fetchrow(_SQL["of_visitor"], target, account, digest, even_under_floor)


async def read_chats(connection: Conn, erasure_id: int) -> frozenset[str]:
    """Return the chats that a request has listed."""
    rows = await connection.fetch(_SQL["chats"], erasure_id)
    return frozenset(row["chat"] for row in rows)


async def add_request(
    connection: Conn, target: str, erasure: Erasure, digest: str, requested_at: datetime, requested_by: str
) -> int:
    """Add a request; return its number."""
    erasure_id: int = await connection.fetchval(
        _SQL["add"],
        *(target, erasure.account, erasure.name, digest),
        *(erasure.even_under_floor, erasure.reason, requested_at, requested_by),
    )
    return erasure_id


async def add_pass(connection: Conn, erasure_id: int, pass_id: int, chats: Iterable[str]) -> None:
    """Record a pass of a request, with the chats that it lists."""
    await connection.execute(_SQL["add_pass"], erasure_id, pass_id)
    await connection.execute(_SQL["add_chats"], erasure_id, sorted(chats))


async def sum_up(connection: Conn, erasure_id: int, report: ErasureReport) -> None:
    """Add the deletions of all passes of a request to its report."""
    deleted = await connection.fetchrow(_SQL["deleted_rows"], erasure_id)
    if deleted is not None:
        report.chats = deleted["chats"]
        report.entities = {name: int(rows) for name, rows in json.loads(deleted["entities"]).items()}
    for row in await connection.fetch(_SQL["deleted_in_stores"], erasure_id):
        report.stores[row["store"]] = {
            "state": row["state"],
            "rows": row["rows"],
            **({"at_least": True} if row["at_least"] else {}),
        }


async def finish(connection: Conn, erasure_id: int) -> None:
    """Record that a request is done, and delete its list of chats."""
    await connection.execute(_SQL["finish"], erasure_id)
    await connection.execute(_SQL["forget_chats"], erasure_id)


async def read_unfinished(connection: Conn, target: str, *, at_work: bool) -> list[Record]:
    """Return the unfinished requests, with their unfinished stores; `at_work`: those of a running pass are left out."""
    return await connection.fetch(_SQL["unfinished"], target, at_work)
