"""The purge of a store beside the database, in the order that all stores have in common.

1. Look: rights, obstacles and the servers that have the table or the index, before anything is sent.
2. Finish the step that an earlier purge left running, by its notes.
3. Portion by portion: count, then delete in rounds, until a count of nothing. Each step is in the ledger before it is sent.
4. Look back: rows that stay, copies that are still on the disk, servers that were away, and the ending in words.

An `Engine` is one purge in the language of one kind of server, and knows nothing of this order.
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
"""How often a store is purged anew, because its servers or its indices have changed meanwhile."""
_GOES_ON: Final = "run it again, and it goes on"
_STOPPED: Final = f"asked to stop; {_GOES_ON}"


@dataclass(slots=True)
class Tally:
    """The rows of a purge: `left` by the last count, and `gone` for certain; `at_least`: a break hides whether more went.

    `gone` is in the notes of the store before each step and after it, until it is in a record, so that no death loses it:
    the transaction that adds the record takes these rows out of the notes (`Notes.settle`).
    """

    purge: StorePurge
    progress: Progress
    left: int = 0
    gone: int = 0
    at_least: bool = False
    under_way: bool = False

    async def resume(self) -> Mapping[str, Any]:
        """Go on from the notes of an earlier purge, and return them."""
        notes = await self.purge.notes.read()
        self.gone, self.at_least = int(notes.get("gone", 0)), bool(notes.get("at_least", False))
        self.under_way = bool(notes.get("mark") or notes.get("part"))
        return notes

    async def begin(self, **step: Any) -> None:
        """Write down a step before it is sent: the next purge looks for it, does not send it twice, and counts it."""
        await self.purge.begin_step(self._notes(step))
        self.under_way = True

    async def note(self, **step: Any) -> None:
        """Write down what is gone, and the step that is under way; without one, that nothing is."""
        await self.purge.notes.write(self._notes(step))
        self.under_way = bool(step)

    def _notes(self, step: dict[str, Any]) -> dict[str, Any]:
        gone = {"gone": self.gone} if self.gone else {}
        return step | gone | ({"at_least": True} if self.at_least else {})

    def went(self, rows: int) -> None:
        """Take note of rows that were counted, and then surely deleted."""
        self.gone += rows
        self.left = max(self.left - rows, 0)
        self.progress.advance(rows)

    def counted(self, rows: int) -> None:
        """Take a new count: rows that are missing in it have gone. Rows that came in meanwhile take nothing from that."""
        self.went(max(self.left - rows, 0))
        self.left = rows

    def counted_after_break(self, rows: int, most: int) -> None:
        """Take a count after a step that nobody followed to its end, and that deleted `most` rows at the most.

        Rows that went and rows that came in cannot be told apart, unless no row is missing or all of them are.
        """
        missing = min(max(self.left - rows, 0), most)
        self.at_least |= 0 < missing < most
        self.went(missing)


class Engine(ABC, Generic[Q]):
    """One purge in one kind of server; `Q` names rows in its language."""

    name: ClassVar[StoreName]
    noun: ClassVar[str]
    rounds: ClassVar[int]
    """How often a portion is deleted and counted anew: rows may come in while the server deletes, and it leaves those."""
    tells_deleted: ClassVar[bool]
    """Whether the server says how many rows it has deleted; otherwise they are the difference of two counts."""
    purge: StorePurge

    @abstractmethod
    async def look(self) -> None:
        """Find out whether the store can be purged, changing nothing; raises RefusedError and UnreachableError."""

    @abstractmethod
    def portions(self) -> Portions[Q]:
        """Return the portions of the purge in the table or the indices as they were at the last look."""

    @abstractmethod
    async def resume(self, notes: Mapping[str, Any], tally: Tally) -> None:
        """Follow the step of these notes to its end, and count what it deleted."""

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
        """Delete a portion, each step noted before it is sent and followed to its end; False for a round that was lost."""

    @abstractmethod
    async def recount(self, portion: Q, tally: Tally) -> None:
        """Count what a round has left."""

    async def settle(self, tally: Tally) -> str | None:
        """Wait for what is still at work after a step was ended early, and count; return what is uncertain."""
        del tally
        return None

    @abstractmethod
    async def again(self, error: DeletionError | StoreError | None) -> bool:
        """Tell whether another pass is needed, after an error or without; raises the error where it is not."""

    @abstractmethod
    async def remarks(self, portions: Portions[Q], *, planned: bool) -> list[str]:
        """Say which rows stay, and where deleted ones still lie on a disk, a sentence each."""

    def missing(self) -> str | None:
        """Say which servers were away, so that the purge is not finished."""
        return None

    def refusal(self) -> Refusal | None:
        """Return why rows were left that are due."""
        return None

    async def publish(self) -> None:
        """Publish the state by shard, where it changed with a count."""

    def known_shards(self) -> tuple[ShardReport, ...]:
        """Return the state by shard as far as it is known without a question."""
        return ()

    async def shards(self, *, done: bool) -> tuple[ShardReport, ...]:
        """Return the last state by shard; `done`: nothing is left to do."""
        del done
        return self.known_shards()


async def purge_store(engine: Engine[Q], progress: Progress) -> StoreReport:
    """Purge a store, or count in a dry run; UnreachableError is raised where nothing is known of its shards."""
    try:
        await engine.look()
        if engine.purge.dry_run:
            return await _plan(engine)
    except RefusedError as refused:
        return StoreReport("refused", refused=refused.refusal)
    except StoppedError:
        return StoreReport("interrupted", error="asked to stop before it began; run it again")
    except UnreachableError as lost:
        shards = engine.known_shards()
        if not shards:
            raise
        return StoreReport("interrupted", error=str(lost), shards=shards)
    except StoreError as no:
        return StoreReport("finished_with_failures", error=no.told)
    progress.stage(engine.name, None)
    return await _Deletion(engine, Tally(engine.purge, progress)).work()


async def _plan(engine: Engine[Q]) -> StoreReport:
    """Count what a purge would delete, and what it could not."""
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
    """The deletion, from the step that an earlier one left running to the last count."""

    def __init__(self, engine: Engine[Q], tally: Tally) -> None:
        self._engine = engine
        self._tally = tally
        self._portions = engine.portions()
        self._left = 0
        self._broken_off = False
        self._error: str | None = None
        self._refused: Refusal | None = None

    async def work(self) -> StoreReport:
        """Delete until nothing is left, and say how it ended."""
        remarks: list[str] = []
        try:
            try:
                await self._delete_or_fail()
            except StoppedError:
                self._break_off(_STOPPED)
            known = self._error is not None or self._refused is not None
            try:
                remarks = await self._engine.remarks(self._portions, planned=False)
            except (StoppedError, UnreachableError, StoreError):
                # An ending that is known already stays what it is.
                if not known:
                    raise
        except StoppedError:
            self._break_off(_STOPPED)
        except UnreachableError as lost:
            self._break_off(str(lost))
        except StoreError as no:
            self._fail(no.told)
        return await self._report(tuple(remarks), self._engine.missing())

    def _fail(self, reason: str) -> None:
        self._error = reason if self._error is None else f"{self._error}; {reason}"

    def _break_off(self, reason: str) -> None:
        self._fail(reason)
        self._broken_off = True

    async def _delete_or_fail(self) -> None:
        try:
            await self._delete()
        except DeletionError as failure:
            self._fail(str(failure))
            # One that could not be ended goes on, and is counted by the purge that sees it through.
            if not failure.alive:
                await self._settle()
        except RefusedError as late:
            # A hold came: what was under way then has been ended.
            self._refused = late.refusal
            await self._settle()
        except StoreError as no:
            self._fail(no.told)

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
            "the deletion failed on the server: the indices behind the name change again and again"
        )

    async def _delete_each_portion(self) -> None:
        self._left, self._portions = 0, self._engine.portions()
        await self._engine.begin_pass()
        async for portion in self._portions.each():
            self._heed()
            await self._delete_portion(await self._engine.open(portion))

    async def _delete_portion(self, portion: Q) -> None:
        self._tally.left = await self._engine.count(portion)
        await self._engine.publish()
        rounds = 0
        while self._tally.left and rounds < self._engine.rounds:
            self._heed()
            rounds += await self._engine.delete(portion, self._tally)
            await self._engine.recount(portion, self._tally)
        self._left += self._tally.left

    def _heed(self) -> None:
        if self._tally.purge.stop.asked:
            raise StoppedError

    async def _report(self, remarks: tuple[str, ...], missing: str | None) -> StoreReport:
        """Report what is gone and what waits; a number is not told as the last one where the end is not known."""
        tally, by_difference = self._tally, not self._engine.tells_deleted
        at_least = tally.at_least or tally.under_way or (self._broken_off and by_difference)
        if self._error is not None and at_least and (self._broken_off or not by_difference):
            told = self._error.removesuffix(f"; {_GOES_ON}")
            self._error = f"{told}; more {self._engine.noun} may be gone than were counted: {_GOES_ON}"
        if not self._broken_off and self._refused is None:
            if self._error is None and self._left:
                self._fail(f"{self._left} {self._engine.noun} are left, or came in meanwhile; run it again")
            if missing is not None:
                self._fail(missing)
        shards = await self._engine.shards(done=self._error is None and self._refused is None)
        state, refused = self._ending(missing)
        return StoreReport(
            state,
            tally.gone,
            remarks,
            kept=self._portions.staying.kept(),
            refused=refused,
            error=self._error,
            at_least=at_least,
            shards=shards,
        )

    def _ending(self, missing: str | None) -> tuple[PassState, Refusal | None]:
        if self._broken_off or (missing is not None and self._refused is None):
            return "interrupted", self._refused or self._engine.refusal()
        if self._refused is not None:
            return "refused", self._refused
        left_back = self._engine.refusal()
        if self._error is not None:
            return "finished_with_failures", left_back
        return ("finished" if left_back is None else "refused"), left_back
