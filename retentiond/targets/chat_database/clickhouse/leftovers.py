"""What is not erased yet, or not by a purge at all: rows gone from every answer may still lie on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.text import printable

if TYPE_CHECKING:
    from retentiond.targets.chat_database.clickhouse.cluster import Cluster
    from retentiond.targets.chat_database.clickhouse.failover import Servers
    from retentiond.targets.chat_database.clickhouse.portions import Portions
    from retentiond.targets.chat_database.clickhouse.statements import Relations

_OLD: Final = (
    "old parts still hold the deleted rows; the server removes them by itself (old_parts_lifetime, usually 8 minutes, "
    "and its next cleaning)"
)
_DETACHED: Final = (
    "detached parts were not reached; ATTACH would bring their rows back: drop them "
    "(ALTER TABLE … DROP DETACHED PARTITION)"
)
_FROZEN: Final = "parts are frozen in a backup on the server's disk, which was not reached: UNFREEZE it"
_POLICY: Final = (
    "lets this user see a part of the table: what it hides of the account is not counted, and may stay"
)
_FILTER_LIMIT: Final = 200
_VIEW: Final = "has rows of its own, which were made of these and stay"
_BUFFER: Final = "may hold rows that are not in the table yet: OPTIMIZE TABLE flushes it, then purge again"


async def frozen_parts(server: Servers | Cluster, relations: Relations) -> int:
    """Count the parts that a backup on the server's disk holds, too; a server that was started anew does not know."""
    return int(await server.value(relations.statement("frozen_parts"), relations.parameters()))


async def leftovers(
    server: Servers | Cluster, relations: Relations, portions: Portions, frozen: int
) -> tuple[str, ...]:
    """Say what holds rows of a purge still, a sentence each; `frozen` are the parts that were so when it began."""
    condition = portions.all
    found = {
        _OLD: await server.value(relations.statement("old_parts"), relations.parameters()),
        _DETACHED: await server.value(relations.statement("detached_parts"), relations.parameters()),
        _FROZEN: max(frozen, await frozen_parts(server, relations)),
    }
    hidden = await server.value(
        relations.statement("hidden", condition=condition), relations.parameters(condition)
    )
    if hidden:
        # Where patch parts hide them, the mask does not know of them.
        patched = await server.value(relations.statement("patched"), relations.parameters())
        erase = "OPTIMIZE TABLE … FINAL" if patched else "ALTER TABLE … APPLY DELETED MASK"
        found[f"rows are only hidden, by a lightweight DELETE of another user: {erase} erases them"] = hidden
    for words, rows in portions.leftovers().items():
        found[words] = await server.value(
            relations.statement("count", condition=rows), relations.parameters(rows)
        )
    told = [f"{number} {words}" for words, number in found.items() if number]
    policies = await server.rows(relations.statement("policies"), relations.parameters(condition))
    told += [f"a row policy ({printable(row['filter'], _FILTER_LIMIT)}) {_POLICY}" for row in policies]
    for statement, words in (("views", _VIEW), ("buffers", _BUFFER)):
        named = await server.rows(relations.statement(statement), relations.parameters())
        told += [f"{row['name']} {words}" for row in named]
    return (*told, *portions.remarks())
