"""Release: in one transaction a batch's rows are checked again, copied into the ledger, and deleted.

The last decision in favour of a row is made here: a row that differs from the survey stays, as `changed`. If the
criteria remove thumbnails alone, the media rows stay, and a thumbnail's file leaves only when no thumbnail row of any
media item with that blob references it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.records import add_record
from retentiond.model.errors import UnreachableError
from retentiond.model.policy import FIRST_BELIEVABLE_MS
from retentiond.targets.dendrite_media.database.rows import (
    key_columns,
    media_key,
    media_row,
    thumbnails_by_hash,
)
from retentiond.targets.dendrite_media.disk.layout import EntryPath
from retentiond.targets.dendrite_media.holds.holds import lock_and_find_held
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import released_record, thumbnails_record
from retentiond.targets.dendrite_media.quarantine.entries import (
    Intent,
    Moves,
    carry_out,
    carry_out_thumbnails,
    known_thumbnails,
)
from retentiond.targets.dendrite_media.quarantine.entry_table import intend, intend_thumbnails
from retentiond.targets.dendrite_media.references.copies import KEPT_COPY, LARGEST_AGE
from retentiond.targets.dendrite_media.references.encrypted import shown

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from asyncpg import Record as Row

    from retentiond.adapters.postgres import Conn
    from retentiond.ledger.lease import Lease
    from retentiond.ledger.records import Record
    from retentiond.model.media import Hash, MediaKey, MediaRow
    from retentiond.targets.dendrite_media.disk.layout import Thumbnail
    from retentiond.targets.dendrite_media.disk.look import BlobLook
    from retentiond.targets.dendrite_media.store.context import StoreSession
    from retentiond.targets.dendrite_media.surveys.assess import Assessed
    from retentiond.targets.dendrite_media.surveys.criteria import RemovalCriteria

SQL: Final = named_queries(__package__, "release.sql", shown=shown(KEPT_COPY, row="m", copy="$3", names="$5"))
_UNEVEN: Final = (
    "not all were both copied and deleted, and it was rolled back; remove the trigger or rule on dendrite's tables, or "
    "on the ledger's, that keeps some of them, or report this with the log"
)


@dataclass(slots=True)
class ReleasedBatch:
    """The result of a release: the deleted rows, the changed ones, the intents, and the bytes that leave, by blob."""

    gone: list[Assessed] = field(default_factory=list)
    changed: list[Assessed] = field(default_factory=list)
    intents: list[Intent] = field(default_factory=list)
    leaving: dict[Hash, int] = field(default_factory=dict)


class BatchReleaser(ABC):
    """Releases the batches of a removal, or, in a dry run, finds the outcome of their release."""

    @abstractmethod
    async def release(self, batch: Sequence[Assessed]) -> ReleasedBatch:
        """Release the rows of a batch that may be removed; the batches are sorted by hash."""

    async def move(self, intents: Sequence[Intent]) -> Moves:
        """Move the files of released rows into the quarantine."""
        del intents
        return Moves()

    async def freed(self, blobs: Collection[Hash]) -> Mapping[Hash, Collection[Thumbnail]]:
        """Return the thumbnails of these blobs on the disk that an earlier removal of the dry run has counted."""
        del blobs
        return {}


class Releaser(BatchReleaser):
    """Releases batches, one at a time, on one connection, under the lease of a pass."""

    def __init__(
        self, session: StoreSession, connection: Conn, lease: Lease, pass_id: int, criteria: RemovalCriteria
    ) -> None:
        self._session = session
        self._connection = connection
        self._lease = lease
        self._pass_id = pass_id
        self._criteria = criteria

    async def release(self, batch: Sequence[Assessed]) -> ReleasedBatch:
        """Release the rows of a batch that may be deleted, in one transaction.

        Raise LeaseLostError after another process has taken the store over: then no row of the batch is deleted.
        """
        while True:
            oldest = await self._oldest_copy()
            await self._session.context.hold_references.refresh(self._connection, begun_after=oldest)
            async with self._criteria.references.held(self._connection, begun_after=oldest) as copy:
                await self._lease.check(self._connection)
                locked = await self._lock(batch)
                held = await lock_and_find_held(self._connection, locked.values(), begun_after=oldest)
                if held is None:
                    # A hold was added since the refresh, and its references have not been read.
                    continue
                going, changed = await self._look_again(batch, copy, locked, held)
                if not going:
                    return ReleasedBatch(changed=changed)
                released = await released_rows.release(
                    self._connection, self._pass_id, *self._columns(going, locked)
                )
                thumbnails = self._thumbnails_alone(going, released)
                intents = await self._intend(going, thumbnails)
                await add_record(self._connection, self._record(going, locked, thumbnails))
            leaving = {intent.entry.hash: intent.bytes for intent in intents}
            return ReleasedBatch(going, changed, intents, leaving)

    async def move(self, intents: Sequence[Intent]) -> Moves:
        """Rename the files of released rows into the quarantine."""
        if self._criteria.newest:
            return await carry_out_thumbnails(self._session, intents)
        return await carry_out(self._session, [intent.entry for intent in intents])

    async def _oldest_copy(self) -> datetime:
        now: datetime = await self._connection.fetchval("SELECT clock_timestamp()")
        return now - LARGEST_AGE

    async def _lock(self, batch: Sequence[Assessed]) -> dict[MediaKey, MediaRow]:
        keys = key_columns([item.due.key for item in batch])
        return {
            media_key(row): media_row(row)
            for row in await self._connection.fetch(SQL["lock_candidates"], *keys)
        }

    async def _look_again(
        self,
        batch: Sequence[Assessed],
        copy: int | None,
        locked: dict[MediaKey, MediaRow],
        held: set[MediaKey],
    ) -> tuple[list[Assessed], list[Assessed]]:
        keys, references = key_columns([item.due.key for item in batch]), self._criteria.references
        kept = held | {
            media_key(row)
            for row in await self._connection.fetch(
                SQL["kept_keys"], *keys, copy, list(references.protections), references.server_names
            )
        }
        mentions = await self._criteria.mentions_again(locked.values(), copy)
        going: list[Assessed] = []
        changed: list[Assessed] = []
        for item in batch:
            row = locked.get(item.due.key)
            still = (
                row is not None
                and row.base64hash == item.due.blob
                and item.due.key not in kept
                and self._criteria.still_due(row, item.due, mentions)
            )
            (going if still else changed).append(item)
        return going, changed

    def _facts(self, going: Sequence[Assessed], rows: Mapping[MediaKey, MediaRow]) -> list[str | None]:
        """Return, as JSON, the conditions on references under which each row is deleted."""
        found = [self._criteria.facts_of(rows[item.due.key], item.due) for item in going]
        return [None if facts is None else json.dumps(facts.as_json()) for facts in found]

    def _columns(self, going: Sequence[Assessed], rows: Mapping[MediaKey, MediaRow]) -> tuple[Any, ...]:
        newest = self._criteria.newest
        return (
            *key_columns([item.due.key for item in going]),
            [self._criteria.name_of(item.due) for item in going],
            [item.due.blob for item in going],
            [item.look.file_size for item in going],
            [newest[item.due.policy] if newest else None for item in going],
            self._facts(going, rows),
            FIRST_BELIEVABLE_MS,
            self._session.context.config.grace,
            self._criteria.even_protected,
        )

    def _thumbnails_alone(self, going: Sequence[Assessed], released: Sequence[Row]) -> list[Row]:
        """Return the thumbnail rows that left alone; raise UnreachableError if more or less left than was copied."""
        counts = released[0]
        if (
            counts["media"] != (0 if self._criteria.newest else len(going))
            or counts["media_copied"] != counts["media"]
            or counts["thumbnails_copied"] != counts["thumbnails"]
        ):
            raise UnreachableError(f"of a batch of {len(going)} rows {_UNEVEN}")
        return [row for row in released if row["media_id"] is not None]

    async def _intend(self, going: Sequence[Assessed], thumbnails: Sequence[Row]) -> list[Intent]:
        """Record the files that no row references any more, as intents to rename them."""
        session, looks = self._session, {item.look.blob: item.look for item in going}
        leaving: dict[Hash, dict[Thumbnail, int]] = {}
        if self._criteria.newest:
            leaving = await self._leaving(looks, thumbnails)
            held = {blob: (len(sizes), sum(sizes.values())) for blob, sizes in leaving.items() if sizes}
            rows = await intend_thumbnails(self._connection, session, self._pass_id, held)
        else:
            present = [look for _, look in sorted(looks.items()) if look.result == "present"]
            rows = await intend(self._connection, session, self._pass_id, present)
        # After a crash before the renames of thumbnails, the sweep for strays finds the files without rows.
        settle = session.context.config.settle
        await released_rows.note_shared(self._connection, self._pass_id, settle, sorted(looks))
        return [
            Intent(
                EntryPath(self._pass_id, row["hash"], row["entry_id"]),
                row["bytes"],
                tuple(leaving.get(row["hash"], ())),
            )
            for row in rows
        ]

    async def _leaving(
        self, looks: Mapping[Hash, BlobLook], thumbnails: Sequence[Row]
    ) -> dict[Hash, dict[Thumbnail, int]]:
        """Return, with their sizes, the files of deleted thumbnail rows that no other row of the blob references."""
        known = await known_thumbnails(self._connection, sorted(looks))
        gone = thumbnails_by_hash(thumbnails)
        return {
            blob: {
                thumbnail: size
                for thumbnail, size in sorted(look.thumbnails)
                if thumbnail in gone.get(blob, set()) - known.get(blob, set())
            }
            for blob, look in sorted(looks.items())
        }

    def _record(
        self, going: Sequence[Assessed], rows: Mapping[MediaKey, MediaRow], thumbnails: Sequence[Row]
    ) -> Record:
        target = self._session.context.name
        policies = {item.due.key: self._criteria.name_of(item.due) for item in going}
        if self._criteria.newest:
            return thumbnails_record(target, self._pass_id, thumbnails, policies)
        released = [(rows[key], policy) for key, policy in policies.items()]
        return released_record(target, self._pass_id, released)
