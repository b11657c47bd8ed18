"""Check the facts under which rows were released again: facts that no longer hold restore a row.

The conditions come from the ledger, the references from the copy that protections use. The cost is one query for each
batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.model.facts import Facts, read_facts
from retentiond.model.media import MediaKey
from retentiond.model.mentions import Mentioned
from retentiond.targets.dendrite_media.database.rows import key_columns, media_key, media_row
from retentiond.targets.dendrite_media.surveys.survey import SQL as DUE_SQL

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.media import Hash, MediaRow
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.store.context import TargetContext

SQL: Final = named_queries(__package__, "asked.sql")
Mentions = Mapping[MediaKey, frozenset[str]]
"""The sources that mention media, of those that were read; of others nothing is known."""


@dataclass(slots=True)
class Answers:
    """Released rows by release ID: the facts of `refuted` no longer hold, those of `unknown` could not be checked."""

    refuted: dict[int, Hash] = field(default_factory=dict)
    unknown: dict[int, Hash] = field(default_factory=dict)


async def references_asked_again(context: TargetContext, db: Conn | Db) -> References:
    """Return the protections together with the sources in the facts of released rows."""
    stored = [parsed(row["facts"]) for row in await db.fetch(SQL["distinct_facts"])]
    sources = {source for facts in stored if facts is not None for source in facts.sources}
    return context.references.only(context.references.protections, sources)


async def asked_page(connection: Conn, after: int, batch: int) -> list[Record]:
    """Return a page of restorable released rows with facts, after a release ID."""
    return list(await connection.fetch(SQL["asked_page"], after, batch))


async def asked_of(connection: Conn, blobs: Sequence[Hash]) -> list[Record]:
    """Return the restorable released rows with facts of these blobs."""
    return list(await connection.fetch(SQL["asked_of"], list(blobs)))


async def asked_thumbnails(connection: Conn, after: int, batch: int) -> list[Record]:
    """Return a page of thumbnails with facts that were released alone, after a release ID."""
    return list(await connection.fetch(SQL["asked_thumbnails"], after, batch))


async def ask_again(
    context: TargetContext, connection: Conn, rows: Sequence[Record], copy: int | None, references: References
) -> Answers:
    """Check the facts of released rows against the copy, all at once.

    A row whose sources are not in the copy was released after the copy was begun, and is checked in the next round.
    """
    answers = Answers()
    if not rows:
        return answers
    now = await connection.fetchval("SELECT clock_timestamp()")
    names = context.settings.rules.server_names
    media = [media_row(row) for row in rows]
    mentions = await mentions_of(connection, media, copy, references)
    for released, row in zip(rows, media, strict=True):
        facts = parsed(released["facts"])
        if facts is None:
            get_logger().warning("inconsistency", kind="unreadable_facts", media=row.key.uri)
        elif not facts.sources <= references.asked:
            answers.unknown[released["release_id"]] = released["base64hash"]
            continue
        elif facts.hold(row, names, now, mentions.get(row.key, frozenset())):
            continue
        answers.refuted[released["release_id"]] = released["base64hash"]
    return answers


@lru_cache(maxsize=256)
def parsed(stored: str) -> Facts | None:
    """Parse facts as the ledger stores them; None for facts that this version cannot read, and that do not hold."""
    try:
        return read_facts(json.loads(stored))
    except ValueError:
        return None


def in_words(stored: str | None) -> str | None:
    """Return stored facts as a clause; None without facts."""
    if stored is None:
        return None
    facts = parsed(stored)
    return "facts that this version cannot read" if facts is None else facts.in_words()


async def mentions_of(
    connection: Conn, rows: Collection[MediaRow], copy: int | None, references: References
) -> Mentions:
    """Return the sources of the references that mention each of these rows, by their copy."""
    if copy is None or not references.asked:
        return {}
    found = await connection.fetch(
        DUE_SQL["mentions_of"],
        *key_columns(row.key for row in rows),
        copy,
        sorted(references.asked),
        [row.user_id for row in rows],
        [row.creation_ts for row in rows],
        references.server_names,
    )
    return {media_key(record): Mentioned(record["sources"], record["since_ms"]) for record in found}
