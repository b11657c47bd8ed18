"""Restore: rows, thumbnail rows and files come back as they were; what came back by itself meanwhile wins.

Intent first: the rows are marked, then the files are linked into place, then one transaction inserts the rows whose
files stand. The copy in quarantine stays as a spare until its grace is over, since a dendrite upload whose insert
fails removes the live directory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.host import actor
from retentiond.ledger.records import add_record
from retentiond.model.errors import UsageError
from retentiond.model.media import Hash, MediaKey, parse_media_uri
from retentiond.model.report import RestoreReport
from retentiond.targets.dendrite_media.database.rows import entry_path, key_columns, media_key
from retentiond.targets.dendrite_media.disk.bring_back import (
    LiveBlob,
    Return,
    bring_back,
    live_blobs,
    sizes_at_hand,
)
from retentiond.targets.dendrite_media.disk.layout import Thumbnail
from retentiond.targets.dendrite_media.holds.held import SQL as HELD_SQL
from retentiond.targets.dendrite_media.quarantine.claiming import change
from retentiond.targets.dendrite_media.quarantine.disposal import restored_record
from retentiond.targets.dendrite_media.quarantine.entries import SQL as ENTRY_SQL
from retentiond.targets.dendrite_media.quarantine.entries import known_thumbnails
from retentiond.targets.dendrite_media.restore.orphans import restore_repaired
from retentiond.targets.dendrite_media.thumbnails.restore import restore_thumbnails

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Selection
    from retentiond.targets.dendrite_media.store.workplace import Place, Workplace

SQL: Final = named_queries(__package__, "media.sql")


async def restore(work: Workplace, selection: Selection) -> RestoreReport:
    """Bring back what was selected, a page of contents at a time."""
    report = RestoreReport()
    key = _selected_key(selection)
    until = datetime.now(UTC) + selection.keep_for if selection.keep_for is not None else None
    mark = {
        "claimant": work.claimant.claimant_id,
        "by": actor(),
        "reason": selection.reason or "quarantine restore",
        "until": until.isoformat() if until else None,
    }
    after = ""
    while True:
        page, copies = await _mark(work, after, selection.pass_id, key, mark)
        if not page:
            break
        after = page[-1]["hash"]
        report.busy.extend(row["hash"] for row in page if not row["free"])
        await _name_present(work, report, page, selection.pass_id, key)
        outcome = await _bring(work, [row["hash"] for row in page if row["marked"]], copies)
        report.restored.extend(outcome.restored)
        report.present.extend(outcome.present)
        report.without_file.extend(outcome.without_file)
        report.failed.extend(outcome.failed)
    await restore_thumbnails(work, report, selection.pass_id, key, mark)
    if key is None:
        await restore_repaired(work, report, selection.pass_id, str(mark["reason"]))
    return report


def _selected_key(selection: Selection) -> MediaKey | None:
    if selection.media is None:
        return None
    key = parse_media_uri(selection.media)
    if key is None:
        raise UsageError("--media takes a URI of the form mxc://server/media-id")
    return key


async def _mark(
    work: Workplace, after: str, pass_id: int | None, key: MediaKey | None, mark: dict[str, Any]
) -> tuple[list[Record], list[Record]]:
    """Mark a page of contents and claim their copies, at once: no sweep gets between."""
    media_id, origin = key or (None, None)
    selected = (after, work.place.batch, pass_id, media_id, origin)
    async with work.place.pool.acquire() as connection, connection.transaction():
        await connection.execute(SQL["lock_copies"], *selected)
        page = await connection.fetch(SQL["select_to_restore"], *selected, json.dumps(mark))
        blobs = [row["hash"] for row in page if row["marked"]]
        return page, await _claim_copies(work, connection, blobs)


async def _claim_copies(work: Workplace, connection: Conn, blobs: Sequence[Hash]) -> list[Record]:
    return list(await connection.fetch(SQL["claim_copies"], list(blobs), work.claimant.claimant_id))


async def _name_present(
    work: Workplace, report: RestoreReport, page: list[Record], pass_id: int | None, key: MediaKey | None
) -> None:
    media_id, origin = key or (None, None)
    hashes = [row["hash"] for row in page if row["free"]]
    rows = await work.place.pool.fetch(SQL["present_rows"], hashes, pass_id, media_id, origin)
    report.present.extend(media_key(row).uri for row in rows)


@dataclass(slots=True)
class Brought:
    """What bringing back came to, by URI: rows restored, there already, without a file, failed on the disk."""

    restored: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    without_file: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def _bring(work: Workplace, blobs: Sequence[Hash], copies: Sequence[Record]) -> Brought:
    """Bring back the rows of these contents that we have marked, from copies that we have claimed."""
    if not blobs:
        return Brought()
    failed = await _bring_files(work, blobs, copies)
    live = await work.place.disk.share(live_blobs(work.tree), list(blobs))
    brought = await _insert(work, live, failed)
    there = {blob.blob for blob in live if blob.size is not None}
    stands = [row for row in copies if row["kind"] == "blob" and row["hash"] in there]
    await change(work, ENTRY_SQL["entries_returned"], [row["entry_id"] for row in stands])
    await change(work, ENTRY_SQL["entries_demoted"], [row["entry_id"] for row in copies if row not in stands])
    log = get_logger(target=work.place.name)
    for uri in brought.restored:
        log.info("restored", media=uri)
    return brought


async def _bring_files(work: Workplace, blobs: Sequence[Hash], copies: Sequence[Record]) -> set[Hash]:
    """Put the files of contents in place for which a row will be inserted; return those for which it failed."""
    sizes = await work.place.disk.share(sizes_at_hand(work.tree), [entry_path(row) for row in copies])
    at_hand = [(row["hash"], size) for row, found in zip(copies, sizes, strict=True) for size in found]
    restorable = {
        row["hash"]
        for row in await work.place.pool.fetch(
            SQL["restorable_hashes"],
            [blob for blob, _ in at_hand],
            [size for _, size in at_hand],
            work.claimant.claimant_id,
        )
    }
    wanted = await _wanted_thumbnails(work, blobs)
    failed: set[Hash] = set()
    # Blobs before the stray thumbnails of them: those go into their directories.
    for kind in ("blob", "thumbnails"):
        returns = [
            Return(
                entry_path(row),
                # Thumbnails that were taken alone have rows of their own to wait for.
                None if row["all_rows"] and kind == "blob" else wanted.get(row["hash"], set()),
            )
            for row in copies
            if row["kind"] == kind and row["hash"] in restorable
        ]
        results = await work.place.disk.share(bring_back(work.tree, work.claimant), returns)
        for result in results:
            if result.outcome == "failed":
                failed.add(result.entry.hash)
                get_logger(target=work.place.name).error(
                    "item_failed", kind="not_restored", hash=result.entry.hash, error=result.error
                )
    return failed


async def _wanted_thumbnails(work: Workplace, blobs: Sequence[Hash]) -> dict[Hash, set[Thumbnail]]:
    wanted = await known_thumbnails(work, blobs)
    for row in await work.place.pool.fetch(SQL["restoring_thumbnails"], list(blobs)):
        thumbnail = Thumbnail(row["width"], row["height"], row["resize_method"])
        wanted.setdefault(row["hash"], set()).add(thumbnail)
    return wanted


async def _insert(work: Workplace, live: Sequence[LiveBlob], failed: set[Hash]) -> Brought:
    blobs = [blob.blob for blob in live]
    thumbnails = [
        (blob.blob, *thumbnail, size) for blob in live for thumbnail, size in blob.thumbnails.items()
    ]
    columns: list[list[Any]] = [list(column) for column in zip(*thumbnails, strict=True)] or [
        [],
        [],
        [],
        [],
        [],
    ]
    async with work.place.pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            SQL["insert_restored"], blobs, [blob.size for blob in live], work.claimant.claimant_id
        )
        inserted = [row for row in rows if row["inserted"]]
        ids = [row["release_id"] for row in inserted]
        await connection.execute(SQL["insert_restored_thumbnails"], ids, *columns)
        await connection.execute(SQL["mark_restored"], ids)
        await connection.execute(SQL["count_restored"], [row["pass_id"] for row in inserted])
        await connection.execute(SQL["forget_restored"], [row["release_id"] for row in rows])
        left = await connection.fetch(SQL["not_restored"], blobs, work.claimant.claimant_id)
        if inserted:
            await add_record(connection, restored_record(work.place.name, inserted))
    return Brought(
        [media_key(row).uri for row in inserted],
        [media_key(row).uri for row in rows if not row["inserted"]],
        [media_key(row).uri for row in left if row["hash"] not in failed],
        [media_key(row).uri for row in left if row["hash"] in failed],
    )


async def finish_restores(work: Workplace) -> int:
    """Finish what restorers who are gone had marked; return how many rows came back."""
    restorers = [row["claimant"] for row in await work.place.pool.fetch(SQL["restorers"])]
    dead = await work.claimant.bury(restorers)
    count = 0
    while dead:
        async with work.place.pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                SQL["inherit_restores"], dead, work.place.batch, work.claimant.claimant_id
            )
            blobs = sorted({row["hash"] for row in rows})
            copies = await _claim_copies(work, connection, blobs)
        if not blobs:
            break
        count += len((await _bring(work, blobs, copies)).restored)
    return count


async def restore_protected(work: Workplace, entries: Sequence[Record]) -> int:
    """Bring back what has become protected, with its rows and without the mark; the entries are claimed by us."""
    if not entries:
        return 0
    # From one claim to the other at once: in between, another purge could go by an older copy of the protections.
    async with work.place.pool.acquire() as connection, connection.transaction():
        ids = [row["entry_id"] for row in entries]
        await connection.execute(ENTRY_SQL["let_go"], ids, work.claimant.claimant_id)
        blobs, copies = await _mark_protected(work, connection, sorted({row["hash"] for row in entries}))
    return len((await _bring(work, blobs, copies)).restored)


async def restore_newly_protected(work: Workplace, *, begun_after: datetime) -> int:
    """Bring back what lies in quarantine and has become protected; raises RefusedError where nobody can tell."""
    references = work.place.references
    count, after = 0, ""
    while True:
        async with (
            work.place.pool.acquire() as connection,
            references.held(connection, begun_after=begun_after) as copy,
        ):
            page = await connection.fetch(
                SQL["protected_in_quarantine"], after, work.place.batch, copy, list(references.protections)
            )
            if not page:
                return count
            after = page[-1]["hash"]
            blobs, copies = await _mark_protected(work, connection, [row["hash"] for row in page])
        count += len((await _bring(work, blobs, copies)).restored)


async def _mark_protected(
    work: Workplace, connection: Conn, blobs: Sequence[Hash]
) -> tuple[list[Hash], list[Record]]:
    await connection.execute(HELD_SQL["lock_copies_of"], blobs)
    rows = await connection.fetch(SQL["mark_protected"], blobs, work.claimant.claimant_id)
    marked = sorted({row["hash"] for row in rows})
    return marked, await _claim_copies(work, connection, marked)


async def restore_held(work: Workplace) -> int:
    """Bring back what lies in quarantine and has become held, with its rows and without the mark."""
    count, after = 0, ""
    while page := await work.place.pool.fetch(HELD_SQL["held_in_quarantine"], after, work.place.batch):
        after = page[-1]["hash"]
        async with work.place.pool.acquire() as connection, connection.transaction():
            await connection.execute(HELD_SQL["lock_copies_of"], [row["hash"] for row in page])
            marked = await connection.fetch(
                HELD_SQL["mark_held"], [row["hash"] for row in page], work.claimant.claimant_id
            )
            blobs = sorted({row["hash"] for row in marked})
            copies = await _claim_copies(work, connection, blobs)
        count += len((await _bring(work, blobs, copies)).restored)
    return count


async def forget(place: Place, media: Sequence[str] | None) -> list[str]:
    """End the mark of what was restored, of these media or of all: from now on the policies decide again."""
    keys = [key for uri in media or () if (key := parse_media_uri(uri))]
    columns = key_columns(keys) if media is not None else (None, None)
    rows = await place.pool.fetch(SQL["end_marks"], *columns)
    log = get_logger(target=place.name)
    for row in rows:
        log.info("mark_forgotten", media=media_key(row).uri, by=actor())
    return [media_key(row).uri for row in rows]
