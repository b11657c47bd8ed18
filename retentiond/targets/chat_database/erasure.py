"""The erasure of one visitor in the ledger: the request with its chats, how far it is, and its proof.

The chats of a request are listed before the first of them goes. The stores lose rows of these chats only, so that a
purge that broke off goes on with the same chats, when the database does not have them any more.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from retentiond.ledger.records import Record, add_record
from retentiond.model.floor import cutoff_of
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.statements import quoted, relation
from retentiond.targets.chat_database.visitor import SQL, digest_of

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PurgeRequest
    from retentiond.ledger.lease import Lease
    from retentiond.model.report import PassReport
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.context import ChatContext


async def begin_request(context: ChatContext, connection: Conn, purge: AccountPurge, pass_id: int) -> None:
    """Write the request and its chats into the ledger, in the transaction that begins the pass."""
    request = purge.request
    if request is None:
        return
    erasure = request.erasure
    if request.erasure_id is None:
        await connection.execute(SQL["make_erasure_key"], secrets.token_bytes(32))
        request.digest = digest_of(context, erasure, await connection.fetchval(SQL["erasure_key"]))
        request.erasure_id = await connection.fetchval(
            SQL["add_erasure"],
            *(context.name, erasure.account, erasure.name, request.digest),
            *(erasure.even_under_floor, erasure.reason, request.requested_at, request.requested_by),
        )
    await connection.execute(SQL["add_erasure_pass"], request.erasure_id, pass_id)
    await connection.execute(SQL["add_erasure_chats"], request.erasure_id, sorted(request.chats))
    for store in purge.wish.stores:
        await connection.execute(SQL["begin_store"], context.name, request.erasure_id, store, purge.cutoff)


def rules_of(wish: PurgeRequest) -> dict[str, Any]:
    """Return the terms of a purge for the ledger: everything but the ID of a visitor."""
    rules: dict[str, Any] = {
        "account": wish.account,
        "to_date": wish.to_date.isoformat(),
        "file_messages": wish.file_messages,
        "stats": wish.stats,
        "stores": list(wish.stores),
    }
    if (erasure := wish.erasure) is not None:
        rules["erasure"] = {"request": erasure.name, "even_under_floor": erasure.even_under_floor}
    return rules


async def end_request(connection: Conn, lease: Lease, purge: AccountPurge, report: PassReport) -> None:
    """Count what is left of the visitor, and add the proof to the records; the request is done where nothing is left."""
    request, context = purge.request, purge.context
    if request is None:
        return
    told = purge.report.erasure = request.report()
    await count_left(connection, purge)
    if request.erasure_id is None or report.pass_id is None:
        return
    async with connection.transaction():
        await lease.check(connection)
        gone = await connection.fetchrow(SQL["erased_rows"], request.erasure_id)
        if gone is not None:
            told.chats = gone["chats"]
            told.entities = {name: int(rows) for name, rows in json.loads(gone["entities"]).items()}
        for row in await connection.fetch(SQL["erased_in_stores"], request.erasure_id):
            told.stores[row["store"]] = {
                "state": row["state"],
                "rows": row["rows"],
                **({"at_least": True} if row["at_least"] else {}),
            }
        told.done = not told.remaining and purge.report.state == "finished"
        body = {
            "account": purge.wish.account,
            "cutoff": purge.cutoff.isoformat(),
            "state": purge.report.state,
        }
        # By hand what stays was said, and nobody comes back to it.
        if told.done or (request.erasure.name is None and purge.report.state == "finished"):
            await connection.execute(SQL["finish_erasure"], request.erasure_id)
            await connection.execute(SQL["forget_erasure_chats"], request.erasure_id)
        record = Record("erased", context.name, report.pass_id, body | told.as_json())
        await add_record(connection, record)


async def count_left(connection: Conn, purge: AccountPurge) -> None:
    """Count the visitor's chats that are there now, and the rows outside of chats that name the visitor, and stay."""
    told, request, context = purge.report.erasure, purge.request, purge.context
    if told is None or request is None:
        return
    values = purge.chats.values | {"until": cutoff_of(request.until, context.config.zone)}
    tree = purge.chats.tree
    (row,) = await statements.fetch(connection, tree.statement("count_of_visitor"), values)
    told.remaining, told.later = row["covered"], row["later"]
    if purge.report.dry_run:
        told.remaining -= purge.chats.due
    for one in context.layout.visitor_rows:
        readable = await connection.fetchval(
            statements.SQL["may_count_visitor_rows"], purge.schema, one.table, one.columns
        )
        if readable is None:
            # This product has no such table.
            continue
        of_account = (
            f"r.{quoted(one.account_column)}::text = $account::text" if one.account_column else "true"
        )
        statement = tree.fill(
            statements.SQL["count_visitor_rows"],
            table=relation(purge.schema, one.table),
            column=quoted(one.column),
            of_rows_account=of_account,
        )
        rows = int(await statements.fetchval(connection, statement, values)) if readable else None
        told.left[f"{one.table}.{one.column}"] = rows
