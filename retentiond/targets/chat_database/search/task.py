"""How a purge in the background stands, from what the server says of its task. Nothing in here does I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Standing = Literal["running", "over", "failed", "gone"]
"""`gone`: it is not there, or another has its number: it died with its node."""


@dataclass(frozen=True, slots=True)
class TaskLook:
    """How it stands, and why it failed."""

    standing: Standing
    reason: str = ""


def look_at(answer: Mapping[str, Any] | None, mark: str) -> TaskLook:
    """Tell from a poll's answer (None: not found); a result that does not bear the mark is another purge's."""
    if answer is None or answer.get("task", {}).get("headers", {}).get("X-Opaque-Id") != mark:
        return TaskLook("gone")
    if not answer.get("completed"):
        return TaskLook("running")
    if "error" in answer:
        return TaskLook("failed", _reason(answer["error"]))
    response = answer.get("response", {})
    if response.get("canceled"):
        return TaskLook("failed", f"it was cancelled ({response['canceled']})")
    failures = response.get("failures") or []
    if failures:
        return TaskLook(
            "failed", _reason(failures[0].get("cause") or failures[0].get("reason") or failures[0])
        )
    return TaskLook("over")


def last_word(answer: Mapping[str, Any] | None) -> int | None:
    """Return how many documents a purge that is over has deleted, by its own count; None where it has none."""
    deleted = ((answer or {}).get("response") or {}).get("deleted")
    return deleted if isinstance(deleted, int) else None


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
