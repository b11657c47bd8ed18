"""The task of a deletion on the server: started or found, and followed to its end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.search.client import ServerError, ask_for
from retentiond.targets.chat_database.search.index import THERE
from retentiond.targets.chat_database.store_access import DeletionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from retentiond.engine.target import Progress, Stop
    from retentiond.targets.chat_database.search.index import Index
    from retentiond.targets.chat_database.store_access import PollPolicy


TaskState = Literal["running", "over", "failed", "lost", "gone"]
"""`lost`: it lost a node or a shard, and another round continues. `gone`: it does not exist, or another task has its number,
since it died with its node."""
_OF_STATE: Final = ("cluster_block_exception", "index_not_found_exception", "index_closed_exception")
"""Failures by the state of an index, which a policy may change at any time."""
_FINAL: Final = (*_OF_STATE, "security_exception", "task_cancelled_exception")
"""Failures that another round would repeat, or that were caused on purpose."""
_NOT_NOW: Final = "SERVICE_UNAVAILABLE"

_BATCH: Final = 1000
_ACTION: Final = "*/delete/byquery"
_STALLED: Final = "it made no progress, and was cancelled; deleted documents stay deleted"


@dataclass(frozen=True, slots=True)
class TaskLook:
    """The state of a task, and the reason of its failure.

    `in_doubt`: a failed batch may have been deleted, since its shard was lost before it answered.
    """

    state: TaskState
    reason: str = ""
    in_doubt: bool = False


def look_at(answer: Mapping[str, Any] | None, mark: str) -> TaskLook:
    """Return the state of a task from the answer to a poll; a result without the mark is that of another task."""
    if answer is None or answer.get("task", {}).get("headers", {}).get("X-Opaque-Id") != mark:
        return TaskLook("gone")
    if not answer.get("completed"):
        return TaskLook("running")
    if answer["task"].get("cancelled"):
        return TaskLook("failed", "it was cancelled")
    if "error" in answer:
        return _failed(answer["error"])
    response = answer.get("response", {})
    if response.get("canceled"):
        return TaskLook("failed", f"it was cancelled ({response['canceled']})")
    failures = response.get("failures") or []
    if failures:
        causes = [failure.get("cause") or failure.get("reason") or failure for failure in failures]
        look = next(
            (look for cause in causes if (look := _failed(cause)).state == "failed"), _failed(causes[0])
        )
        # Failures to search have no `cause`.
        in_doubt = any(
            "cause" in failure and _failed(failure["cause"]).state == "lost" for failure in failures
        )
        return replace(look, in_doubt=in_doubt)
    return TaskLook("over")


def _failed(error: Any) -> TaskLook:
    """Return the state after a failure: final, or lost if a server may have been lost and another round may succeed."""
    reason = _reason(error)
    final = any(kind in str(error) for kind in _FINAL) and _NOT_NOW not in str(error)
    return TaskLook("failed" if final else "lost", reason)


def is_of_state(failure: str) -> bool:
    """Return whether the state of an index is the cause of a failure, so that another round may succeed later."""
    return any(kind in failure for kind in _OF_STATE)


def _final_count(answer: Mapping[str, Any] | None, name: str) -> int | None:
    """Return a count of a finished task; None if it has no count."""
    count = ((answer or {}).get("response") or {}).get(name)
    return count if isinstance(count, int) else None


def _reason(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    inner = error.get("caused_by") or (error.get("root_cause") or [{}])[0]
    text = f"{error.get('type', 'error')}: {error.get('reason', '')}"
    deeper = inner.get("reason") if isinstance(inner, dict) else None
    return text if not deeper or deeper in text else f"{text} ({deeper})"


def progress_of(answer: Mapping[str, Any] | None, children: Mapping[str, Any]) -> tuple[int, str]:
    """Return the number of deleted documents, and a text that changes with each progress.

    While slices run, they have their own counts, not their parent; a slice that is over may be in neither answer.
    """
    parent = (answer or {}).get("task", {}).get("status", {})
    statuses = [
        task.get("status", {})
        for node in children.get("nodes", {}).values()
        for task in node["tasks"].values()
    ]
    gone = parent.get("deleted", 0) + sum(status.get("deleted", 0) for status in statuses)
    done = [f"{status.get('deleted', 0)}/{status.get('batches', 0)}" for status in (parent, *statuses)]
    return gone, " ".join(sorted(done))


def failed(reason: str, *, alive: bool = False) -> DeletionError:
    """Return the error of a deletion that failed on the server."""
    return DeletionError(f"the deletion failed on the server: {reason}", alive=alive)


class Follower:
    """Follows tasks of one index.

    `deleted`, `conflicts` and `reason` are those of the last task: the number of deleted documents (`exact` if it is its own
    final count), of documents that were changed meanwhile, and the cause of its loss.
    """

    def __init__(self, index: Index, stop: Stop, patience: PollPolicy, progress: Progress) -> None:
        self._index = index
        self._search = index.search
        self._stop = stop
        self._patience = patience
        self._progress = progress
        self.deleted = 0
        self.exact = False
        self.conflicts = 0
        self.reason = ""

    async def start(self, query: dict[str, Any], mark: str, rate: int) -> str:
        """Start a task, sent once and never again, and return its number; `rate` is documents a second."""
        self.conflicts = 0
        answer = await self._search.ask(
            "POST",
            f"{self._index.path}/_delete_by_query",
            {"query": query},
            mark=mark,
            wait_for_completion="false",
            # Documents that were changed meanwhile are left, and searched for again.
            conflicts="proceed",
            slices="auto",
            refresh="true",
            requests_per_second=str(rate),
            # After each batch the server waits as long as its documents take at that rate.
            scroll_size=str(min(_BATCH, rate)),
            allow_no_indices="false",
            **THERE,
        )
        return str(answer["task"])

    async def pause(self) -> None:
        """Wait for a moment before the next round, or until a stop is requested."""
        await self._stop.wait(self._patience.between)

    async def find(self, mark: str) -> str | None:
        """Return the running task with the mark; a dead node has no tasks any more."""
        return await self._index.again(lambda: self._find(mark))

    async def _find(self, mark: str) -> str | None:
        answer = await self._search.ask("GET", "/_tasks", actions=_ACTION, detailed="true")
        if answer.get("node_failures"):
            raise UnreachableError(
                "a node does not report its tasks, and may still run the last purge; look at the cluster's health, "
                "then run it again"
            )
        for node in answer.get("nodes", {}).values():
            for name, task in node["tasks"].items():
                if task.get("headers", {}).get("X-Opaque-Id") == mark and "parent_task_id" not in task:
                    return str(name)
        return None

    async def to_the_end(self, task: str, mark: str, on_look: Callable[[], Awaitable[None]]) -> bool:
        """Wait until a task is over; False if it was lost with a node or a shard. Raises DeletionError, StoppedError."""
        self.reason = ""
        stall = self._patience.stall()
        self.deleted, self.exact, self.conflicts = 0, False, 0
        cancelled = False
        async for _ in self._patience.looks(self._stop):
            answer = await self._index.again(lambda: ask_for(self._search, "GET", f"/_tasks/{task}"))
            look = look_at(answer, mark)
            if look.state == "gone":
                return False
            progress = await self._count(task, answer, look)
            if look.state != "running":
                await self._forget(task)
                if look.state == "failed":
                    raise failed(_STALLED if cancelled else look.reason)
                self.reason = look.reason
                return look.state == "over"
            await on_look()
            if stall.lasts(progress):
                if cancelled:
                    raise failed(
                        "it makes no progress, and cannot be cancelled; look at the cluster's health",
                        alive=True,
                    )
                # If it has ended meanwhile, the next look finds it.
                await self._search.ask("POST", f"/_tasks/{task}/_cancel")
                cancelled = True
                stall.begin(progress)
        raise AssertionError("the looks ended by themselves")

    async def _count(self, task: str, answer: Mapping[str, Any] | None, look: TaskLook) -> str:
        """Count the deletions since the last look; return a text that changes with each progress."""
        children: Mapping[str, Any] = {}
        if look.state == "running":
            children = await self._index.again(
                lambda: self._search.ask("GET", "/_tasks", parent_task_id=task, detailed="true")
            )
        deleted, progress = progress_of(answer, children)
        final = None if look.state == "running" else _final_count(answer, "deleted")
        self.exact = final is not None and not look.in_doubt
        self.conflicts = _final_count(answer, "version_conflicts") or 0
        # A slice that ended between the two requests is in neither answer: it is counted at the next look.
        more = max((deleted if final is None else final) - self.deleted, 0)
        self._progress.advance(more)
        self.deleted += more
        return progress

    async def _forget(self, task: str) -> None:
        """Remove the result that the server would keep for ever; if that is not allowed, it does no harm."""
        try:
            await self._search.ask("DELETE", f"/.tasks/_doc/{task}")
        except (ServerError, UnreachableError):
            return
