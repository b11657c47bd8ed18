"""The erasure of one visitor in the ledger: the request with its chats, its progress, and its proof.

The chats of a request are listed before the first of them is deleted, and only their rows are deleted in the stores. So an
interrupted purge continues with the same chats after they were deleted from the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from retentiond.ledger.records import Record, add_record
from retentiond.model.floor import cutoff_of
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.refused_tables import may_count_rows
from retentiond.targets.chat_database.statements import quoted, relation
from retentiond.targets.chat_database.store_notes import begin_stores_of_request
from retentiond.targets.chat_database.visitor import (
    add_pass,
    add_request,
    digest_of,
    finish_request,
    make_key,
    sum_up_deletions,
)

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PurgeRequest
    from retentiond.ledger.lease import Lease
    from retentiond.model.report import PassReport
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.context import ChatContext


async def begin_request(context: ChatContext, connection: Conn, purge: AccountPurge, pass_id: int) -> None:
    """Record the request and its chats, in the transaction that begins the pass."""
    erasure_request = purge.erasure_request
    if erasure_request is None:
        return
    erasure = erasure_request.erasure
    if erasure_request.erasure_id is None:
        erasure_request.digest = digest_of(context, erasure, await make_key(connection))
        erasure_request.erasure_id = await add_request(
            *(connection, context.name, erasure, erasure_request.digest),
            *(erasure_request.requested_at, erasure_request.requested_by),
        )
    await add_pass(connection, erasure_request.erasure_id, pass_id, erasure_request.chats)
    await begin_stores_of_request(
        connection, context.name, erasure_request.erasure_id, purge.request.stores, purge.cutoff
    )


def rules_of(request: PurgeRequest) -> dict[str, Any]:
    """Return the terms of a purge for the ledger: everything but the ID of a visitor."""
    rules: dict[str, Any] = {
        "account": request.account,
        "to_date": request.to_date.isoformat(),
        "file_messages": request.file_messages,
        "stats": request.stats,
        "stores": list(request.stores),
    }
    if (erasure := request.erasure) is not None:
        rules["erasure"] = {"request": erasure.name, "even_under_floor": erasure.even_under_floor}
    return rules


async def end_request(connection: Conn, lease: Lease, purge: AccountPurge, report: PassReport) -> None:
    """Count the remaining chats of the visitor, and record the proof; without remaining chats the request is done."""
    erasure_request, context = purge.erasure_request, purge.context
    if erasure_request is None:
        return
    proof = purge.report.erasure = erasure_request.report()
    await count_left(connection, purge)
    if erasure_request.erasure_id is None or report.pass_id is None:
        return
    async with connection.transaction():
        await lease.check(connection)
        await sum_up_deletions(connection, erasure_request.erasure_id, proof)
        proof.done = not proof.remaining and purge.report.state == "finished"
        body = {
            "account": purge.request.account,
            "cutoff": purge.cutoff.isoformat(),
            "state": purge.report.state,
        }
        # A request by hand is not repeated: the remaining rows were reported.
        if proof.done or (erasure_request.erasure.name is None and purge.report.state == "finished"):
            await finish_request(connection, erasure_request.erasure_id)
        record = Record("erased", context.name, report.pass_id, body | proof.as_json())
        await add_record(connection, record)


async def count_left(connection: Conn, purge: AccountPurge) -> None:
    """Count the remaining chats of the visitor, and the rows outside of chats that name the visitor and are kept."""
    proof, erasure_request, context = purge.report.erasure, purge.erasure_request, purge.context
    if proof is None or erasure_request is None:
        return
    values = purge.chats.values | {"until": cutoff_of(erasure_request.until, context.config.zone)}
    tree = purge.chats.tree
    (row,) = await statements.fetch(connection, tree.statement("count_of_visitor"), values)
    proof.remaining, proof.later = row["covered"], row["later"]
    if purge.report.dry_run:
        proof.remaining -= purge.chats.due
    for one in context.layout.visitor_rows:
        readable = await may_count_rows(connection, purge.schema, one.table, one.columns)
        if readable is None:
            # This product has no such table.
            continue
        of_account = (
            f"r.{quoted(one.account_column)}::text = $account::text" if one.account_column else "true"
        )
        statement = tree.statement(
            "count_visitor_rows",
            table=relation(purge.schema, one.table),
            column=quoted(one.column),
            of_rows_account=of_account,
        )
        rows = int(await statements.fetchval(connection, statement, values)) if readable else None
        proof.left[f"{one.table}.{one.column}"] = rows
