"""How a purge in the background stands, from what the server says of its task. Nothing in here does I/O."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

TargetState = Literal["running", "over", "failed", "lost", "gone"]
"""`lost`: it lost a node or a shard on its way, and another round goes on. `gone`: it is not there, or another has its
number: it died with its node."""
_OF_STATE: Final = ("cluster_block_exception", "index_not_found_exception", "index_closed_exception")
"""Failures that come of the state of an index, which a policy may change at any time."""
_FINAL: Final = (*_OF_STATE, "security_exception", "task_cancelled_exception")
"""Failures that another round would meet again; or that somebody caused on purpose."""
_NOT_NOW: Final = "SERVICE_UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class TaskLook:
    """How it stands, and why it failed.

    `in_doubt`: a batch may have been deleted though it counts as failed, since its shard was lost before the answer.
    """

    standing: TargetState
    reason: str = ""
    in_doubt: bool = False


def look_at(answer: Mapping[str, Any] | None, mark: str) -> TaskLook:
    """Tell from a poll's answer (None: not found); a result that does not bear the mark is another purge's."""
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
            (look for cause in causes if (look := _failed(cause)).standing == "failed"), _failed(causes[0])
        )
        # Failures to search have no `cause`.
        in_doubt = any(
            "cause" in failure and _failed(failure["cause"]).standing == "lost" for failure in failures
        )
        return replace(look, in_doubt=in_doubt)
    return TaskLook("over")


def _failed(error: Any) -> TaskLook:
    """Tell whether a failure is final; any other may be of a server that was lost, and a round does no harm."""
    reason = _reason(error)
    final = any(kind in str(error) for kind in _FINAL) and _NOT_NOW not in str(error)
    return TaskLook("failed" if final else "lost", reason)


def is_of_state(failure: str) -> bool:
    """Tell whether a failure comes of the state of an index: once that is as it was, another round does no harm."""
    return any(kind in failure for kind in _OF_STATE)


def last_word(answer: Mapping[str, Any] | None) -> int | None:
    """Return how many documents a purge that is over has deleted, by its own count; None where it has none."""
    deleted = ((answer or {}).get("response") or {}).get("deleted")
    return deleted if isinstance(deleted, int) else None


def conflicts_of(answer: Mapping[str, Any] | None) -> int:
    """Return how many documents were not as the purge had found them: changed by another, or deleted already."""
    conflicts = ((answer or {}).get("response") or {}).get("version_conflicts")
    return conflicts if isinstance(conflicts, int) else 0


def _reason(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    inner = error.get("caused_by") or (error.get("root_cause") or [{}])[0]
    told = f"{error.get('type', 'error')}: {error.get('reason', '')}"
    deeper = inner.get("reason") if isinstance(inner, dict) else None
    return told if not deeper or deeper in told else f"{told} ({deeper})"


def progress_of(answer: Mapping[str, Any] | None, children: Mapping[str, Any]) -> tuple[int, str]:
    """Return how many documents are gone, and a text that differs while anything is done.

    While slices run their parent knows nothing of them, so they are asked themselves; one that is over is in neither.
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
