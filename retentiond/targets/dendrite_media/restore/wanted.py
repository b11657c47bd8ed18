"""Automatic restores: held and protected media, those whose facts no longer hold, and restores of dead processes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.dendrite_media.holds.holds import held_in_quarantine
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.entry_table import (
    Change,
    change_on,
    claim_copies,
    claim_thumbnail_copies,
)
from retentiond.targets.dendrite_media.references.copies import KEPT_COPY
from retentiond.targets.dendrite_media.references.encrypted import shown
from retentiond.targets.dendrite_media.restore.bringing import bring
from retentiond.targets.dendrite_media.restore.thumbnails import bring_thumbnails
from retentiond.targets.dendrite_media.surveys.asked import ask_again, asked_of, asked_page, asked_thumbnails

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.store.context import StoreSession, TargetContext

SQL: Final = named_queries(
    __package__,
    "wanted.sql",
    shown_in_quarantine=shown(KEPT_COPY, row="r", copy="$3", names="$5"),
    shown_of=shown(KEPT_COPY, row="r", copy="$2", names="$4"),
)
_MEDIA: Final = (claim_copies, bring)
_THUMBNAILS: Final = (claim_thumbnail_copies, bring_thumbnails)
"""How the copies of marked rows are claimed, and how they are restored."""


async def finish_restores(session: StoreSession, *, alone: bool = False) -> int:
    """Finish the restores of media, or of thumbnails alone, that dead processes had marked; return their number."""
    statement = "thumbnail_restorers" if alone else "restorers"
    restorers = [row["claimant"] for row in await session.context.pool.fetch(SQL[statement])]
    dead = await session.claimant.find_dead(restorers)
    count = 0
    while dead:
        async with session.context.pool.acquire() as connection, connection.transaction():
            blobs = await released_rows.inherit_restores(
                connection, session.claimant.claimant_id, dead, session.context.batch, alone=alone
            )
            claim, bring_marked = _THUMBNAILS if alone else _MEDIA
            copies = await claim(session, connection, blobs)
        if not blobs:
            break
        count += len((await bring_marked(session, blobs, copies)).restored)
    return count


@dataclass(slots=True)
class Wanted:
    """Released rows that must be restored: all of the `protected` blobs, and the rows whose facts are refuted.

    The blobs of `unknown` facts are neither restored nor purged in this round.
    """

    protected: set[Hash] = field(default_factory=set)
    refuted: dict[int, Hash] = field(default_factory=dict)
    unknown: set[Hash] = field(default_factory=set)

    @property
    def back(self) -> set[Hash]:
        """The blobs whose rows are restored."""
        return self.protected | set(self.refuted.values())

    @property
    def blobs(self) -> set[Hash]:
        """The blobs that must not be purged now."""
        return self.back | self.unknown


async def find_wanted(
    context: TargetContext, connection: Conn, references: References, copy: int | None, blobs: Sequence[Hash]
) -> Wanted:
    """Check the copy for protections and facts of the released rows of these blobs, one query each."""
    rows = await connection.fetch(
        SQL["protected_hashes"], blobs, copy, list(references.protections), references.server_names
    )
    asked = await asked_of(connection, blobs)
    answers = await ask_again(context, connection, asked, copy, references)
    return Wanted({row["hash"] for row in rows}, answers.refuted, set(answers.unknown.values()))


async def restore_wanted(session: StoreSession, wanted: Wanted, entries: Sequence[Record] = ()) -> int:
    """Restore these blobs, with their rows and without the mark; `entries` are those of them that we have claimed."""
    if not wanted.back:
        return 0
    # From one claim to the other at once: in between, another purge could use an older copy of the references.
    async with session.context.pool.acquire() as connection, connection.transaction():
        ids = [row["entry_id"] for row in entries if row["hash"] in wanted.back]
        await change_on(connection, session, Change.LET_GO, ids)
        blobs, copies = await _mark_wanted(session, connection, sorted(wanted.protected), wanted.refuted)
    return len((await bring(session, blobs, copies)).restored)


async def restore_refuted(
    session: StoreSession, references: References, *, begun_after: datetime, alone: bool = False
) -> int:
    """Restore the media in quarantine, or the thumbnails released alone, whose facts no longer hold.

    Raise RefusedError if the facts cannot be checked.
    """
    count, after = 0, 0
    asked = asked_thumbnails if alone else asked_page
    while True:
        async with session.context.pool.acquire() as connection:
            page = await asked(connection, after, session.context.batch)
            if not page:
                return count
            async with references.held(connection, begun_after=begun_after) as copy:
                answers = await ask_again(session.context, connection, page, copy, references)
                if alone:
                    marked = await released_rows.mark_refuted_thumbnails(
                        connection, session.claimant.claimant_id, answers.refuted
                    )
                    copies = await claim_thumbnail_copies(session, connection, marked)
                else:
                    marked, copies = await _mark_wanted(session, connection, (), answers.refuted)
        after = page[-1]["release_id"]
        _, bring_marked = _THUMBNAILS if alone else _MEDIA
        count += len((await bring_marked(session, marked, copies)).restored)


async def restore_newly_protected(
    session: StoreSession, references: References, *, begun_after: datetime
) -> int:
    """Restore media in quarantine that have become protected; raise RefusedError if the protections cannot be read."""
    count, after = 0, ""
    while True:
        async with (
            session.context.pool.acquire() as connection,
            references.held(connection, begun_after=begun_after) as copy,
        ):
            page = await connection.fetch(
                SQL["protected_in_quarantine"],
                after,
                session.context.batch,
                copy,
                list(references.protections),
                references.server_names,
            )
            if not page:
                return count
            after = page[-1]["hash"]
            blobs, copies = await _mark_wanted(session, connection, [row["hash"] for row in page], {})
        count += len((await bring(session, blobs, copies)).restored)


async def _mark_wanted(
    session: StoreSession, connection: Conn, protected: Sequence[Hash], refuted: Mapping[int, Hash]
) -> tuple[list[Hash], list[Record]]:
    marked = await released_rows.mark_wanted(connection, session.claimant.claimant_id, protected, refuted)
    return marked, await claim_copies(session, connection, marked)


async def restore_held(session: StoreSession) -> int:
    """Restore media in quarantine that have become held, with their rows and without the mark."""
    count, after = 0, ""
    while page := await held_in_quarantine(session.context.pool, after, session.context.batch):
        after = page[-1]
        async with session.context.pool.acquire() as connection, connection.transaction():
            blobs = await released_rows.mark_held(connection, session.claimant.claimant_id, page)
            copies = await claim_copies(session, connection, blobs)
        count += len((await bring(session, blobs, copies)).restored)
    return count
