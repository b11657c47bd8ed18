"""The explanation of one item: each policy and why it matches or not, everything that keeps it, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.match import mismatches
from retentiond.model.mentions import ROOM_KINDS, counted_from
from retentiond.model.policy import Keep, Remove, decide
from retentiond.model.protections import ENCRYPTED
from retentiond.model.text import instant

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from retentiond.model.errors import Refusal
    from retentiond.model.media import MediaRow
    from retentiond.model.policy import Removes, Rules
    from retentiond.model.report import Item


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PolicyExplanation:
    """One policy's judgement of the item: the conditions that do not hold, and whether this policy decides.

    `due` leaves accesses aside; None for a policy that does not decide. `counted_from` is when the time of a policy by
    a kind of rooms began; it is None for other policies, and where that is not known (then it is not due).
    """

    name: str
    keep: timedelta | None
    since: str
    mismatches: tuple[str, ...]
    decides: bool
    due: bool | None
    removes: Removes = "media"
    by_room_kind: bool = False
    counted_from: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON; `keep_seconds` is None for `keep: forever`."""
        return {
            "name": self.name,
            "matches": not self.mismatches,
            "mismatches": list(self.mismatches),
            "decides": self.decides,
            "keep_seconds": None if self.keep is None else int(self.keep.total_seconds()),
            "since": self.since,
            "remove": self.removes,
            "due": self.due,
            "counted_from": instant(self.counted_from) if self.counted_from else None,
        }


@dataclass(frozen=True, slots=True)
class DiskState:
    """The content of the item's directory; `accessed` is the last read of any file in it."""

    result: str
    files: int
    bytes: int
    has_file: bool
    accessed: datetime | None
    problem: str

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"accessed": instant(self.accessed) if self.accessed else None}


@dataclass(slots=True)
class Explanation:
    """The explanation of one media item in a target; the texts in it are untrusted.

    `encrypted`: whether an encrypted room may show it, where references are invisible; None if no policy
    and no protection asks. Without a `row` the database has no entry of that name. `bearers` are all rows of its blob.
    `quarantine` are released rows of that name that can be restored. `refusal` is why a pass would be refused; if
    even a plan was refused, `verdict` is None and the fields after `row` are not known.
    """

    target: str
    media: str
    now: datetime
    row: MediaRow | None = None
    created_at: datetime | None = None
    policies: list[PolicyExplanation] = field(default_factory=list)
    protections: dict[str, bool] = field(default_factory=dict)
    encrypted: bool | None = None
    holds: list[str] = field(default_factory=list)
    restored: str | None = None
    bearers: int = 0
    disk: DiskState | None = None
    quarantine: list[str] = field(default_factory=list)
    verdict: Item | None = None
    refusal: Refusal | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the explanation as JSON."""
        return {
            "target": self.target,
            "media": self.media,
            "now": instant(self.now),
            "row": asdict(self.row) if self.row else None,
            "created_at": instant(self.created_at) if self.created_at else None,
            "policies": [policy.as_json() for policy in self.policies],
            "protections": self.protections,
            "encrypted": self.encrypted,
            "holds": self.holds,
            "restored": self.restored,
            "rows_of_its_content": self.bearers,
            "disk": self.disk.as_json() if self.disk else None,
            "quarantine": self.quarantine,
            "verdict": self.verdict.as_json() if self.verdict else None,
            "refused": asdict(self.refusal) if self.refusal else None,
        }


def moment(milliseconds: int) -> datetime | None:
    """Return a time of the database; None for one that no calendar has."""
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def policy_stories(
    row: MediaRow, rules: Rules, now: datetime, mentions: AbstractSet[str] | None
) -> list[PolicyExplanation]:
    """Judge each policy, in order; the first without a mismatch decides, separately for media and for thumbnails.

    After a policy by access that may match, a later one decides only that the item is kept forever.
    """
    stories: list[PolicyExplanation] = []
    decided: set[Removes] = set()
    in_doubt: set[Removes] = set()
    for policy in rules.policies:
        verdict = decide(row, replace(rules, policies=(policy,)), now, mentions, removes=policy.removes)
        failed = tuple(mismatches(row, policy.match, rules.server_names, mentions))
        if not failed and verdict == Keep("other_uploader", policy.name):
            failed = ("uploader",)
        if failed == (ENCRYPTED,) and verdict != Keep("encrypted", policy.name):
            # It may match, and then keeps.
            failed = ()
        decides = not failed and policy.removes not in decided
        if decides and policy.removes in in_doubt and policy.keep is not None:
            decided.add(policy.removes)
            decides = False
        if failed in {("uploader",), (ENCRYPTED,)} and policy.since == "accessed":
            in_doubt.add(policy.removes)
        if decides:
            decided.add(policy.removes)
        due = isinstance(verdict, Remove) if decides else None
        story = PolicyExplanation(
            policy.name, policy.keep, policy.since, failed, decides, due, policy.removes
        )
        if decides and policy.match.room in ROOM_KINDS:
            began = counted_from(row.creation_ts, policy.match.room, mentions)
            story = replace(story, by_room_kind=True, counted_from=None if began is None else moment(began))
        stories.append(story)
    return stories
