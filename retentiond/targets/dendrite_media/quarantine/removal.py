"""Removal: the due rows of a survey go through the protocol, batch by batch, or are counted in a dry run.

Two workers with a bounded queue between them: while one batch is renamed on the disk, the next is checked and
released in the database.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST
from retentiond.engine.passes import Pace
from retentiond.engine.target import STOPPED
from retentiond.model.errors import RetentiondError, UnreachableError
from retentiond.model.report import Item
from retentiond.targets.dendrite_media.surveys.assess import assess, look_at_batch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from retentiond.model.media import MediaKey
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.look import BlobLook
    from retentiond.targets.dendrite_media.quarantine.entries import Moves
    from retentiond.targets.dendrite_media.quarantine.release import BatchReleaser, ReleasedBatch
    from retentiond.targets.dendrite_media.store.context import PlanContext
    from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
    from retentiond.targets.dendrite_media.surveys.assess import Assessed
    from retentiond.targets.dendrite_media.surveys.criteria import SurveyCriteria
    from retentiond.targets.dendrite_media.surveys.survey import Due

_FAILED_BATCHES_THAT_STOP: Final = 2


class Removal:
    """One removal of a plan; it counts in the report as it runs, and tells `listen` the outcome of each item."""

    def __init__(
        self,
        plan: PlanContext,
        criteria: SurveyCriteria,
        releaser: BatchReleaser,
        accesses: AccessTimes | None,
        report: PassReport,
        listen: Callable[[Item], None] | None,
    ) -> None:
        self._plan = plan
        self._criteria = criteria
        self._releaser = releaser
        self._accesses = accesses
        self._report = report
        self._listen = listen
        self._log = get_logger(target=plan.target.name)
        self._failed_in_a_row = 0
        self._errors: Counter[str] = Counter()
        # A slow pace must not keep a stop waiting.
        self._pace = Pace(plan.target.config.pace.max_items_per_second, sleep=plan.stop.wait)

    async def run(self) -> None:
        """Work until nothing is due, a stop is requested, or two batches in a row cannot be moved."""
        plan = self._plan
        async with self._mover() as moving, aclosing(self._looked()) as batches:
            async for batch, looks in batches:
                if self._failed_in_a_row >= _FAILED_BATCHES_THAT_STOP:
                    break
                if plan.stop.asked:
                    self._report.state, self._report.error = "interrupted", STOPPED
                    break
                assessed = await assess(batch, looks, self._accesses)
                self._count_staying(assessed)
                released = await self._releaser.release([item for item in assessed if self._goes(item)])
                sizes = self._count_released(released)
                if self._listen is not None:
                    self._tell(assessed, sizes, self._listen)
                await moving.put(released)
                plan.progress.advance(len(batch), sum(released.leaving.values()))

    async def _looked(self) -> AsyncGenerator[tuple[list[Due], list[BlobLook]], None]:
        """Yield the batches of due rows, each with the look at its blobs.

        While one is released, the next is looked at. Not in a plan, whose looks need the releases before them; nor
        where access times count, nor at a slow pace, which would let a look become old.
        """
        plan = self._plan
        alone = plan.dry or (self._accesses is not None and self._accesses.tell)
        looked: tuple[list[Due], asyncio.Task[list[BlobLook]]] | None = None
        try:
            async for batch in self._criteria.surveyor.due(plan.target.batch):
                if looked is not None and (alone or not self._pace.is_free):
                    yield looked[0], await looked[1]
                    looked = None
                if not plan.dry:
                    await self._pace.take(len(batch))
                freed = await self._releaser.freed({due.blob for due in batch})
                look = look_at_batch(plan.tree, plan.target.disk, batch, freed)
                next_one = batch, asyncio.create_task(look)
                if looked is not None:
                    before, looked = looked, next_one
                    yield before[0], await before[1]
                looked = next_one
            if looked is not None:
                yield looked[0], await looked[1]
        finally:
            if looked is not None:
                await asyncio.wait({looked[1]})

    @asynccontextmanager
    async def _mover(self) -> AsyncIterator[asyncio.Queue[ReleasedBatch | None]]:
        """Run a worker beside the releases, and yield its queue; at the end all that was released is moved."""
        # One batch waits while one is renamed and one is released: never more.
        queue: asyncio.Queue[ReleasedBatch | None] = asyncio.Queue(maxsize=1)
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as workers:
                workers.create_task(self._quarantine_all(queue))
                try:
                    yield queue
                except (RetentiondError, *LOST) as error:
                    # Rows that were released before it are renamed all the same.
                    failure = error
                await queue.put(None)
        except ExceptionGroup as failures:
            # Raised as it is: the cause of a lost connection tells why it was lost.
            failure = failures.exceptions[0]
        self._say_refusals()
        if failure is not None:
            raise failure
        if self._failed_in_a_row >= _FAILED_BATCHES_THAT_STOP:
            raise UnreachableError(f"two batches in a row could not be moved: {', '.join(self._errors)}")

    async def _quarantine_all(self, queue: asyncio.Queue[ReleasedBatch | None]) -> None:
        while (released := await queue.get()) is not None:
            if not released.intents:
                continue
            moves = await self._releaser.move(released.intents)
            self._count_refused(released, moves)
            # A batch that was released before the pass stops is moved, or taken back, all the same.
            if self._failed_in_a_row < _FAILED_BATCHES_THAT_STOP:
                all_failed = moves.failed == len(released.intents)
                self._failed_in_a_row = self._failed_in_a_row + 1 if all_failed else 0

    def _count_refused(self, released: ReleasedBatch, moves: Moves) -> None:
        """Count rows whose release was taken back as failed, and no longer as removed."""
        self._errors.update(moves.errors)
        back = {row["hash"] for row in moves.taken_back}
        # With a blob whose outcome the disk does not show, the ledger keeps the rows: it is counted as one.
        unseen = moves.failed - len(back)
        if not_moved := len(moves.taken_back) + unseen:
            self._report.failed["not_moved"] += not_moved
        # A blob's bytes were counted with the last row of the batch that had it.
        payers = {item.due.blob: self._criteria.name_of(item.due) for item in released.gone}
        for intent in released.intents:
            if intent.entry.hash in back:
                self._report.take_back(payers[intent.entry.hash], 0, intent.bytes)
        for row in moves.taken_back:
            self._report.take_back(row["policy"], 1)

    def _say_refusals(self) -> None:
        for error, blobs in sorted(self._errors.items()):
            self._report.remarks.append(
                f"{blobs:,} files stay where they are, and their entries with them: {error}"
            )

    def _goes(self, item: Assessed) -> bool:
        # Beside a missing file, wrong thumbnails are left as they are.
        return item.goes and (item.look.has_file or not self._criteria.newest)

    def _count_staying(self, assessed: list[Assessed]) -> None:
        for item in assessed:
            stayed = self._criteria.stayed(item.due)
            if not self._goes(item):
                self._reach(item)
            if item.kept is not None:
                self._report.keep(item.kept, counted=stayed, also=item.due.kept)
                if item.kept == "unsafe_path":
                    self._warn("unsafe_path", item)
            elif item.failed is not None:
                self._report.stays_no_more(stayed)
                self._report.failed[item.failed] += 1
                if not self._plan.dry:
                    self._log.error(
                        "item_failed", kind=item.failed, media=item.due.key.uri, error=item.look.problem
                    )

    def _count_released(self, released: ReleasedBatch) -> dict[MediaKey, int]:
        """Count a released batch; return the bytes that leave with each row that is gone."""
        report, criteria = self._report, self._criteria
        for item in (*released.changed, *released.gone):
            self._reach(item)
        for item in released.changed:
            if criteria.stayed(item.due) is None:
                report.kept["changed"] += 1
        leaving, sizes = dict(released.leaving), {}
        removed: Counter[str] = Counter()
        freed: Counter[str] = Counter()
        # The bytes of a blob leave with its last row; the batch is sorted by hash.
        for item in reversed(released.gone):
            due = item.due
            report.stays_no_more(criteria.stayed(due))
            size = sizes[due.key] = leaving.pop(due.blob, 0)
            name = criteria.name_of(due)
            removed[name] += 1
            freed[name] += size
            if not item.look.has_file:
                report.missing_file += 1
                self._warn("missing_file", item)
        for name, items in removed.items():
            report.remove(name, items, freed[name])
        return sizes

    def _tell(
        self, assessed: list[Assessed], sizes: Mapping[MediaKey, int], listen: Callable[[Item], None]
    ) -> None:
        """Tell the outcome of each item; thumbnails alone only where they go: the media item is told elsewhere."""
        alone = bool(self._criteria.newest)
        for item in assessed:
            uri, policy = item.due.key.uri, self._criteria.name_of(item.due)
            size = sizes.get(item.due.key)
            if size is not None:
                reason = "thumbnails" if alone else "due"
                listen(Item(self._plan.target.name, uri, "remove", reason, policy, size))
            elif item.kept is not None and not alone:
                listen(Item(self._plan.target.name, uri, "keep", item.kept, policy, 0))
            elif item.failed is not None and not alone:
                listen(Item(self._plan.target.name, uri, "fail", item.failed, policy, 0))

    def _reach(self, item: Assessed) -> None:
        if self._criteria.counts_unreached and item.due.kept is None:
            self._report.reach(1, item.due.size)

    def _warn(self, kind: str, item: Assessed) -> None:
        if self._plan.dry:
            return
        self._log.warning(
            "inconsistency", kind=kind, media=item.due.key.uri, path=item.due.blob, reason=item.look.problem
        )
