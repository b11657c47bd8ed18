"""The purge of a secondary store, in the order that all stores share.

1. Look: rights, obstacles and the servers that have the table or the index, before anything is sent.
2. Finish the step that an earlier purge left running, by its notes.
3. Portion by portion: count, then delete in rounds until the count is zero. Each step is in the ledger before it is sent.
4. Look back: kept rows, copies that are still on the disk, servers that were away, and the ending in words.

An `Engine` is one purge in the language of one kind of server, independent of this order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from retentiond.engine.target import StoppedError
from retentiond.model.errors import RefusedError, UnreachableError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database.store_access import DeletionError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.engine.target import Progress
    from retentiond.model.errors import PassState, Refusal
    from retentiond.model.purge import ShardReport
    from retentiond.targets.chat_database.store import StoreName, StorePurge
    from retentiond.targets.chat_database.store_portions import Portions

Q = TypeVar("Q")

_LOOKS: Final = 5
"""The most passes over a store whose servers or indices change meanwhile."""
_GOES_ON: Final = "run it again to continue"
_STOPPED: Final = f"stopped on request; {_GOES_ON}"


@dataclass(slots=True)
class Tally:
    """The rows of a purge: `left` by the last count, and `deleted` for certain; with `at_least` there may be more.

    The notes of the store have `deleted` (as `gone`) before and after each step, so that a crash does not lose it. The transaction that
    adds the record of these rows removes them from the notes (`Notes.settle`).
    """

    purge: StorePurge
    progress: Progress
    left: int = 0
    deleted: int = 0
    at_least: bool = False
    under_way: bool = False

    async def resume(self) -> Mapping[str, Any]:
        """Continue from the notes of an earlier purge, and return them."""
        notes = await self.purge.notes.read()
        self.deleted, self.at_least = int(notes.get("gone", 0)), bool(notes.get("at_least", False))
        self.under_way = bool(notes.get("mark") or notes.get("part"))
        return notes

    async def begin(self, **step: Any) -> None:
        """Record a step before it is sent, so that the next purge finds it, counts it and does not send it twice."""
        await self.purge.begin_step(self._notes(step))
        self.under_way = True

    async def note(self, **step: Any) -> None:
        """Record the deleted rows and the running step, if there is one."""
        await self.purge.notes.write(self._notes(step))
        self.under_way = bool(step)

    def _notes(self, step: dict[str, Any]) -> dict[str, Any]:
        gone = {"gone": self.deleted} if self.deleted else {}
        return step | gone | ({"at_least": True} if self.at_least else {})

    def add_deleted(self, rows: int) -> None:
        """Add rows that were counted and then surely deleted."""
        self.deleted += rows
        self.left = max(self.left - rows, 0)
        self.progress.advance(rows)

    def counted(self, rows: int) -> None:
        """Take a new count: the missing rows were deleted. Rows that were added meanwhile do not reduce that number."""
        self.add_deleted(max(self.left - rows, 0))
        self.left = rows

    def counted_after_break(self, rows: int, most: int) -> None:
        """Take a count after a step that was not followed to its end, and that deleted at most `most` rows.

        Deleted and added rows cannot be distinguished, unless no row is missing or all of them are.
        """
        missing = min(max(self.left - rows, 0), most)
        self.at_least |= 0 < missing < most
        self.add_deleted(missing)


class Engine(ABC, Generic[Q]):
    """One purge in one kind of server; `Q` names rows in its language."""

    name: ClassVar[StoreName]
    noun: ClassVar[str]
    rounds: ClassVar[int]
    """The most rounds of a portion: the server does not delete rows that are added while it deletes."""
    reports_deleted: ClassVar[bool]
    """Whether the server reports the number of deleted rows; otherwise it is the difference of two counts."""
    purge: StorePurge

    @abstractmethod
    async def look(self) -> None:
        """Check without changes that the store can be purged; raises RefusedError and UnreachableError."""

    @abstractmethod
    def portions(self) -> Portions[Q]:
        """Return the portions of the purge in the table or the indices as they were at the last look."""

    @abstractmethod
    async def resume(self, notes: Mapping[str, Any], tally: Tally) -> None:
        """Follow the step of these notes to its end, and count its deletions."""

    async def begin_pass(self) -> None:
        """Prepare for a pass over all portions."""

    async def open(self, portion: Q) -> Q:
        """Return the part of a portion that can be deleted."""
        return portion

    @abstractmethod
    async def count(self, portion: Q) -> int:
        """Count rows; a shard that does not answer is an UnreachableError."""

    @abstractmethod
    async def delete(self, portion: Q, tally: Tally) -> bool:
        """Delete a portion; record each step before it is sent and follow it to its end. Return False for a lost round."""

    @abstractmethod
    async def recount(self, portion: Q, tally: Tally) -> None:
        """Count the rows that a round has left."""

    async def settle(self, tally: Tally) -> str | None:
        """Wait for work that still runs after a step was ended early, and count; describe an uncertain count."""
        del tally
        return None

    @abstractmethod
    async def again(self, error: DeletionError | StoreError | None) -> bool:
        """Return whether another pass is needed; raise the error if it is not."""

    @abstractmethod
    async def remarks(self, portions: Portions[Q], *, planned: bool) -> list[str]:
        """Return a sentence for each kind of rows that are kept, or deleted but still on a disk."""

    def missing(self) -> str | None:
        """Report the servers that were away, for which the purge is not finished."""
        return None

    def refusal(self) -> Refusal | None:
        """Return the reason why due rows were left."""
        return None

    async def publish(self) -> None:
        """Publish the state by shard, if it changed with a count."""

    def known_shards(self) -> tuple[ShardReport, ...]:
        """Return the state by shard as last known; ask no server."""
        return ()

    async def shards(self, *, done: bool) -> tuple[ShardReport, ...]:
        """Return the last state by shard; `done`: nothing is left to do."""
        del done
        return self.known_shards()


async def purge_store(engine: Engine[Q], progress: Progress) -> StoreReport:
    """Purge a store, or count in a dry run; raise UnreachableError if no state of its shards is known."""
    try:
        await engine.look()
        if engine.purge.dry_run:
            return await _plan(engine)
    except RefusedError as refused:
        return StoreReport("refused", refused=refused.refusal)
    except StoppedError:
        return StoreReport("interrupted", error="stopped before it began; run it again")
    except UnreachableError as lost:
        shards = engine.known_shards()
        if not shards:
            raise
        return StoreReport("interrupted", error=str(lost), shards=shards)
    except StoreError as no:
        return StoreReport("finished_with_failures", error=no.in_words)
    progress.stage(engine.name, None)
    return await _Deletion(engine, Tally(engine.purge, progress)).work()


async def _plan(engine: Engine[Q]) -> StoreReport:
    """Count the rows that a purge would delete, and describe the kept ones."""
    portions = engine.portions()
    rows = 0
    async for portion in portions.each():
        rows += await engine.count(await engine.open(portion))
    refusal = engine.refusal()
    return StoreReport(
        "refused" if refusal is not None else "planned",
        rows=rows,
        waiting=tuple(await engine.remarks(portions, planned=True)),
        refused=refusal,
        kept=portions.staying.kept(),
    )


class _Deletion(Generic[Q]):
    """The deletion, from the step that an earlier purge left running to the last count."""

    def __init__(self, engine: Engine[Q], tally: Tally) -> None:
        self._engine = engine
        self._tally = tally
        self._portions = engine.portions()
        self._left = 0
        self._interrupted = False
        self._error: str | None = None
        self._refused: Refusal | None = None

    async def work(self) -> StoreReport:
        """Delete until nothing is left, and return the report."""
        remarks: list[str] = []
        try:
            try:
                await self._delete_or_fail()
            except StoppedError:
                self._interrupt(_STOPPED)
            known = self._error is not None or self._refused is not None
            try:
                remarks = await self._engine.remarks(self._portions, planned=False)
            except (StoppedError, UnreachableError, StoreError):
                # The outcome is known already, and does not change.
                if not known:
                    raise
        except StoppedError:
            self._interrupt(_STOPPED)
        except UnreachableError as lost:
            self._interrupt(str(lost))
        except StoreError as no:
            self._fail(no.in_words)
        return await self._report(tuple(remarks), self._engine.missing())

    def _fail(self, reason: str) -> None:
        self._error = reason if self._error is None else f"{self._error}; {reason}"

    def _interrupt(self, reason: str) -> None:
        self._fail(reason)
        self._interrupted = True

    async def _delete_or_fail(self) -> None:
        try:
            await self._delete()
        except DeletionError as failure:
            self._fail(str(failure))
            # A step that could not be ended continues; the purge that follows it to its end counts it.
            if not failure.alive:
                await self._settle()
        except RefusedError as late:
            # A hold was added: the running step was ended.
            self._refused = late.refusal
            await self._settle()
        except StoreError as no:
            self._fail(no.in_words)

    async def _settle(self) -> None:
        uncertain = await self._engine.settle(self._tally)
        if uncertain is not None:
            self._fail(uncertain)

    async def _delete(self) -> None:
        notes = await self._tally.resume()
        if self._tally.under_way:
            await self._engine.resume(notes, self._tally)
        error: DeletionError | StoreError | None = None
        for _ in range(_LOOKS):
            try:
                error = None
                await self._delete_each_portion()
            except DeletionError as failure:
                if failure.alive:
                    raise
                error = failure
            except StoreError as no:
                error = no
            if not await self._engine.again(error):
                return
        raise error or DeletionError(
            "the deletion failed on the server: the indices behind the name keep changing"
        )

    async def _delete_each_portion(self) -> None:
        self._left, self._portions = 0, self._engine.portions()
        await self._engine.begin_pass()
        async for portion in self._portions.each():
            self._raise_if_stopped()
            await self._delete_portion(await self._engine.open(portion))

    async def _delete_portion(self, portion: Q) -> None:
        self._tally.left = await self._engine.count(portion)
        await self._engine.publish()
        rounds = 0
        while self._tally.left and rounds < self._engine.rounds:
            self._raise_if_stopped()
            rounds += await self._engine.delete(portion, self._tally)
            await self._engine.recount(portion, self._tally)
        self._left += self._tally.left

    def _raise_if_stopped(self) -> None:
        if self._tally.purge.stop.asked:
            raise StoppedError

    async def _report(self, remarks: tuple[str, ...], missing: str | None) -> StoreReport:
        """Report the deleted and remaining rows; with `at_least` if the end of a step is not known."""
        tally, by_difference = self._tally, not self._engine.reports_deleted
        at_least = tally.at_least or tally.under_way or (self._interrupted and by_difference)
        if self._error is not None and at_least and (self._interrupted or not by_difference):
            reason = self._error.removesuffix(f"; {_GOES_ON}")
            self._error = (
                f"{reason}; more {self._engine.noun} may have been deleted than were counted: {_GOES_ON}"
            )
        if not self._interrupted and self._refused is None:
            if self._error is None and self._left:
                self._fail(
                    f"{self._left} {self._engine.noun} are left, or were added meanwhile; run it again"
                )
            if missing is not None:
                self._fail(missing)
        shards = await self._engine.shards(done=self._error is None and self._refused is None)
        state, refused = self._ending(missing)
        return StoreReport(
            state,
            tally.deleted,
            remarks,
            kept=self._portions.staying.kept(),
            refused=refused,
            error=self._error,
            at_least=at_least,
            shards=shards,
        )

    def _ending(self, missing: str | None) -> tuple[PassState, Refusal | None]:
        if self._interrupted or (missing is not None and self._refused is None):
            return "interrupted", self._refused or self._engine.refusal()
        if self._refused is not None:
            return "refused", self._refused
        left_back = self._engine.refusal()
        if self._error is not None:
            return "finished_with_failures", left_back
        return ("finished" if left_back is None else "refused"), left_back
