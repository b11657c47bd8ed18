"""Release thumbnails: old thumbnail rows are copied into the ledger and deleted, and the media rows stay.

A file is moved only when no thumbnail row of any media item with that blob references it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.errors import UnreachableError
from retentiond.model.media import Hash
from retentiond.model.policy import FIRST_BELIEVABLE_MS
from retentiond.targets.dendrite_media.database.rows import key_columns
from retentiond.targets.dendrite_media.disk.layout import EntryPath
from retentiond.targets.dendrite_media.quarantine import released_rows
from retentiond.targets.dendrite_media.quarantine.disposal import thumbnails_record
from retentiond.targets.dendrite_media.quarantine.entries import known_thumbnails
from retentiond.targets.dendrite_media.quarantine.entry_table import intend_thumbnails
from retentiond.targets.dendrite_media.quarantine.release import UNEVEN, Intent, Releaser
from retentiond.targets.dendrite_media.thumbnails.survey import by_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncpg import Record as Row

    from retentiond.adapters.postgres import Conn
    from retentiond.ledger.lease import Lease
    from retentiond.ledger.records import Record
    from retentiond.model.media import MediaKey, MediaRow
    from retentiond.targets.dendrite_media.quarantine.release import ReleasedBatch
    from retentiond.targets.dendrite_media.store.context import StoreSession
    from retentiond.targets.dendrite_media.surveys.assess import Assessed
    from retentiond.targets.dendrite_media.thumbnails.survey import ThumbnailCriteria


class ThumbnailReleaser(Releaser):
    """Releases the thumbnails of batches of media; holds, protections and the lease are checked as for media."""

    def __init__(
        self, session: StoreSession, connection: Conn, lease: Lease, pass_id: int, criteria: ThumbnailCriteria
    ) -> None:
        super().__init__(session, connection, lease, pass_id, criteria)
        self._newest = criteria.newest
        self._gone: list[Row] = []

    async def release(self, batch: Sequence[Assessed]) -> ReleasedBatch:
        """Release the thumbnails of a batch that may be deleted.

        Beside a missing blob, wrong ones are left as they are.
        """
        return await super().release([item for item in batch if item.look.has_file])

    async def _delete(self, going: Sequence[Assessed], rows: Mapping[MediaKey, MediaRow]) -> None:
        self._gone = await released_rows.release_thumbnails(
            self._connection,
            self._pass_id,
            *key_columns([item.due.key for item in going]),
            [self._criteria.name_of(item.due) for item in going],
            [self._newest[item.due.policy] for item in going],
            [item.due.blob for item in going],
            FIRST_BELIEVABLE_MS,
            self._session.context.config.grace,
            self._facts(going, rows),
        )
        if self._gone and self._gone[0]["copied"] != len(self._gone):
            raise UnreachableError(f"of a batch of {len(self._gone)} thumbnail rows {UNEVEN}")

    async def _intend(self, going: Sequence[Assessed]) -> list[Intent]:
        hashes = sorted({item.due.blob for item in going})
        known = await known_thumbnails(self._connection, hashes)
        gone = by_hash(self._gone)
        sizes = {item.look.blob: dict(item.look.thumbnails) for item in going}
        leaving = {}
        for blob in hashes:
            free = gone.get(blob, set()) - known.get(blob, set())
            leaving[blob] = sorted(free & sizes[blob].keys())
        held = {
            blob: (len(names), sum(sizes[blob][name] for name in names))
            for blob, names in leaving.items()
            if names
        }
        rows = await intend_thumbnails(self._connection, self._session, self._pass_id, held)
        # After a crash before the renames, the sweep for strays finds the files without rows.
        settle = self._session.context.config.settle
        await released_rows.note_shared(self._connection, self._pass_id, settle, hashes)
        return [
            Intent(
                EntryPath(self._pass_id, Hash(row["hash"]), row["entry_id"]),
                row["bytes"],
                tuple(leaving[row["hash"]]),
            )
            for row in rows
        ]

    def _record(self, going: Sequence[Assessed], rows: Mapping[MediaKey, MediaRow]) -> Record:
        del rows
        policies = {item.due.key: self._criteria.name_of(item.due) for item in going}
        return thumbnails_record(self._session.context.name, self._pass_id, self._gone, policies)
