"""The explanation of one room: each policy and why it matches or not, everything that keeps it, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from retentiond.model.rooms import Verdict, judge, mismatches
from retentiond.model.text import instant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from retentiond.model.errors import Refusal
    from retentiond.model.rooms import Room, RoomPolicy, RoomRules


@dataclass(frozen=True, slots=True)
class RoomPolicyExplanation:
    """One policy's judgement of the room; `due_from` is when it is due by that policy, None if that is not known."""

    policy: RoomPolicy
    mismatches: tuple[str, ...]
    decides: bool
    due_from: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON; `keep_seconds` is None for `keep: forever`."""
        keep = self.policy.keep
        return {
            "name": self.policy.name,
            "matches": not self.mismatches,
            "mismatches": list(self.mismatches),
            "decides": self.decides,
            "keep_seconds": None if keep is None else int(keep.total_seconds()),
            "since": self.policy.since,
            "due_from": instant(self.due_from) if self.due_from else None,
        }


@dataclass(slots=True)
class RoomExplanation:
    """The explanation of one room in a target; the texts in it are untrusted.

    `name` is as it was asked for. Without a `room` the databases have none of that name. `refusal` is why a pass would be
    refused.
    """

    target: str
    name: str
    now: datetime
    room: Room | None = None
    verdict: Verdict | None = None
    policies: list[RoomPolicyExplanation] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    media: list[str] = field(default_factory=list)
    refusal: Refusal | None = None

    def judge(self, room: Room, verdict: Verdict, rules: RoomRules) -> None:
        """Add the room with its verdict, and the judgement of each policy."""
        self.room, self.verdict = room, verdict
        self.policies = list(room_policies(room, rules, self.now))

    def as_json(self) -> dict[str, Any]:
        """Return the explanation as JSON."""
        verdict = self.verdict
        return {
            "target": self.target,
            "item": self.name,
            "now": instant(self.now),
            "room": self.room.as_json() if self.room else None,
            "policies": [policy.as_json() for policy in self.policies],
            "holds": self.holds,
            "media": self.media,
            "verdict": {
                "action": "keep" if verdict.reason else "remove",
                "reason": verdict.reason or "due",
                "policy": verdict.policy,
                "since": instant(verdict.due) if verdict.due else None,
                "due_from": instant(verdict.due_from) if verdict.due_from else None,
            }
            if verdict
            else None,
            "refused": asdict(self.refusal) if self.refusal else None,
        }


def room_policies(room: Room, rules: RoomRules, now: datetime) -> Iterator[RoomPolicyExplanation]:
    """Judge a room by each policy, in order; the first without a mismatch decides."""
    decided = False
    for policy in rules.policies:
        failed = tuple(mismatches(room, policy.match))
        verdict = Verdict("no_policy") if failed else judge(room, policy, rules, now)
        yield RoomPolicyExplanation(
            policy, failed, not failed and not decided, verdict.due or verdict.due_from
        )
        decided = decided or not failed
