"""Records of disposals: the data, the time and the rules, in an append-only chain.

A record is added in the transaction whose effect it records, as its last statement: the end of the chain is locked
until the commit, and the transaction waits for nothing else meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, Literal

from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.records import Break, Chain, Link, Verified, canonical, digest, read_content

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from datetime import datetime, timedelta

    from asyncpg import Record as Row

    from retentiond.adapters.postgres import Conn

SQL: Final = named_queries(__package__, "records.sql")
# A record holds a batch's items: two megabytes of them, where a batch is as large as it can be.
_PAGE: Final = 5

RecordKind = Literal[
    "pass_began",
    "released",
    "pass_ended",
    "pass_refused",
    "grace_ended",
    "grace_given_back",
    "purged",
    "store_purged",
    "erased",
    "restored",
    "accepted",
    "room_evacuated",
    "room_purged",
    "records_pruned",
]


@dataclass(frozen=True, slots=True)
class Record:
    """The content of a record; `body` is plain JSON."""

    kind: RecordKind
    target: str
    pass_id: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)


async def add_record(connection: Conn, record: Record) -> None:
    """Add a record at the end of the chain, in the transaction of the recorded effect."""
    end = await _lock(connection)
    await _add(connection, end, record)


async def _lock(connection: Conn) -> Row:
    row = await connection.fetchrow(SQL["lock_chain"])
    assert row is not None  # noqa: S101 - the schema makes the row, and nothing deletes it
    return row


async def _add(connection: Conn, end: Row, record: Record) -> None:
    now: datetime = end["now"]
    content = canonical({
        "number": end["head"] + 1,
        "previous": end["head_hash"],
        "store": str(end["store_id"]),
        "at": now.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": record.kind,
        "target": record.target,
        "pass_id": record.pass_id,
        "body": record.body,
    })  # fmt: skip
    await connection.execute(SQL["add_record"], end["head"] + 1, now, content, digest(content))


async def prune_records(connection: Conn, target: str, keep: timedelta) -> int:
    """Remove the first records of the chain that are older than `keep`; return how many.

    The chain remembers the last removed one, and a new record notes it: the rest can be verified from there.
    """
    async with connection.transaction():
        end = await _lock(connection)
        before = end["now"] - keep
        last = await connection.fetchrow(SQL["last_to_prune"], before)
        if last is None or last["number"] <= end["pruned"]:
            return 0
        body = {
            "through": last["number"],
            "hash": last["hash"],
            "before": before.astimezone(UTC).isoformat(),
        }
        await _add(connection, end, Record("records_pruned", target, body=body))
        await connection.execute(SQL["allow_pruning"])
        await connection.execute(SQL["prune"], last["number"])
        await connection.execute(SQL["save_pruned"], last["number"], last["hash"])
        return int(last["number"] - end["pruned"])


async def read_records(connection: Conn) -> AsyncIterator[dict[str, Any]]:
    """Stream the records that there are now, each with its hash."""
    chain = await connection.fetchrow(SQL["chain"])
    if chain is None:
        return
    async for page in pages(connection, SQL["record_page"], chain["head"], size=_PAGE, after=(0,)):
        for row in page:
            yield read_content(row["content"]) | {"hash": row["hash"]}


async def read_newest(connection: Conn) -> Link | None:
    """Return the end of the chain; None without a record."""
    chain = await connection.fetchrow(SQL["chain"])
    return Link(chain["head"], chain["head_hash"]) if chain is not None and chain["head"] else None


async def verify_records(connection: Conn) -> Verified:
    """Follow the chain from where it was pruned to its end."""
    # One snapshot: a record that is pruned or added meanwhile is no break.
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        bounds = await connection.fetchrow(SQL["chain"])
        if bounds is None:
            return Chain().result(Break(1, "the chain has lost the record of its beginning and its end"))
        begin = Link(bounds["pruned"], bounds["pruned_hash"])
        chain = Chain(begin)
        async for row in connection.cursor(SQL["record_page"], 0, None, bounds["head"], prefetch=_PAGE):
            broken = chain.follow(read_content(row["content"]), row["hash"])
            if broken is not None:
                return chain.result(broken)
        return chain.result(chain.end(Link(bounds["head"], bounds["head_hash"]), begin))
