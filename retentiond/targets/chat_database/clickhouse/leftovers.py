"""What is not erased yet, or not by a purge at all: rows gone from every answer may still lie on the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.targets.chat_database.clickhouse.condition import Condition

if TYPE_CHECKING:
    from retentiond.targets.chat_database.clickhouse.connection import Server
    from retentiond.targets.chat_database.clickhouse.relations import Relations

_PARTS: Final = {
    "old_parts": "old parts still hold the deleted rows; the server removes them by itself (old_parts_lifetime, "
    "usually 8 minutes, and its next cleaning)",
    "detached_parts": "detached parts were not reached; ATTACH would bring their rows back: drop them "
    "(ALTER TABLE … DROP DETACHED PARTITION)",
    "frozen_parts": "parts are frozen in a backup on the server's disk, which was not reached: UNFREEZE it",
}


async def leftovers(server: Server, relations: Relations, condition: Condition) -> tuple[str, ...]:
    """Say what holds rows of a purge still, a sentence each."""
    told = []
    for statement, words in _PARTS.items():
        found = await server.value(relations.statement(statement), relations.parameters())
        if found:
            told.append(f"{found} {words}")
    hidden = await server.value(
        relations.statement("count_hidden", condition=condition), relations.parameters(condition)
    )
    if hidden:
        told.append(
            f"{hidden} rows are only hidden, by a lightweight DELETE of somebody's: ALTER TABLE … APPLY DELETED MASK"
        )
    for text, words in condition.unknown.items():
        rows = Condition(text, condition.parameters)
        unknown = await server.value(relations.statement("count", condition=rows), relations.parameters(rows))
        if unknown:
            told.append(f"{unknown} {words}")
    for statement, words in (
        ("views", "has rows of its own, which were made of these and stay"),
        (
            "buffers",
            "may hold rows that are not in the table yet: OPTIMIZE TABLE flushes it, then purge again",
        ),
    ):
        named = await server.rows(relations.statement(statement), relations.parameters())
        told += [f"{row['name']} {words}" for row in named]
    return tuple(told)
