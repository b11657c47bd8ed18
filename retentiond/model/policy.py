"""Policies: the media that a rule matches, and how long it keeps them.

`decide` is the whole decision: from one row, the rules and the time it makes a verdict with its reason.
The first policy that matches decides; a row that no policy matches is kept; in doubt a row is kept.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, get_args

from retentiond.model.fields import all_handled
from retentiond.model.match import Match, may_take, mismatches, uploaded_here
from retentiond.model.media import valid_hash
from retentiond.model.mentions import ENCRYPTION, counted_from
from retentiond.model.protections import ENCRYPTED, PROTECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from retentiond.model.media import MediaRow


KeepReason = Literal[
    "no_policy",
    "other_uploader",
    "other_rooms",
    "not_due",
    "undated",
    "invalid_hash",
    "unsafe_path",
    "hold",
    "restored",
    "encrypted",
    "changed",
]
"""The keep reasons that are given by name in the code."""
_AFTER_PROTECTIONS: Final = ("changed",)
_PROTECTED: Final = tuple(one.name for one in PROTECTIONS)
KEEP_REASONS: Final[tuple[str, ...]] = (
    *(name for name in get_args(KeepReason) if name not in {*_PROTECTED, *_AFTER_PROTECTIONS}),
    *_PROTECTED,
    *_AFTER_PROTECTIONS,
)
"""Every keep reason, protections too; of several the first in this order is reported."""

Since = Literal["created", "accessed"]
"""The start of a policy's time: when this server stored the media, or when they were last requested."""

FIRST_BELIEVABLE_MS: Final = int(datetime(2017, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Dates before it are no dates: a host without a clock wrote them."""
CLOCK_TOLERANCE_MS: Final = 60_000
"""The clocks of the database and of dendrite may differ by this much before a time counts as wrong."""


Removes = Literal["media", "thumbnails"]
"""The objects of a policy: media with their thumbnails, or thumbnails alone, which dendrite makes again."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule: matching media are deleted when they are older than `keep`; None keeps them forever.

    With `since` accessed, `decide` returns only media that may be due: an access is never before the creation. The disk
    and `accessed_lately` decide in the end.
    """

    name: str
    match: Match
    keep: timedelta | None
    since: Since = "created"
    removes: Removes = "media"


@dataclass(frozen=True, slots=True)
class Rules:
    """The policies of a target in their order, and the names of this server (empty: not known)."""

    policies: tuple[Policy, ...]
    server_names: frozenset[str] = frozenset()

    @property
    def by_access(self) -> tuple[int, ...]:
        """The places of the policies whose time counts from the last access."""
        return tuple(index for index, policy in enumerate(self.policies) if policy.since == "accessed")

    def keeping(self, keep: timedelta) -> Rules:
        """Return the same rules with another time; `keep: forever` stays."""
        policies = (policy if policy.keep is None else replace(policy, keep=keep) for policy in self.policies)
        return replace(self, policies=tuple(policies))

    @property
    def thumbnail_policies(self) -> bool:
        """Whether any policy takes thumbnails alone."""
        return any(policy.removes == "thumbnails" for policy in self.policies)

    @property
    def sources(self) -> frozenset[str]:
        """The sources of mentions that the policies ask about."""
        return frozenset(source for policy in self.policies for source in policy.match.sources)


@dataclass(frozen=True, slots=True)
class Keep:
    """The row is kept, for this reason; `policy` is the one that matched, if any."""

    reason: KeepReason
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """The row is due, by this policy; its place in the order is `index`.

    `counted_from` is when the policy's time began for it, in milliseconds.
    """

    policy: str
    index: int
    counted_from: int | None = field(default=None, compare=False)


def decide(
    row: MediaRow,
    rules: Rules,
    now: datetime,
    mentions: AbstractSet[str] | None = None,
    *,
    removes: Removes = "media",
) -> Keep | Remove:
    """Judge one row at the time `now` (aware); holds, protections and the disk are asked afterwards.

    A media item and its thumbnails are judged apart, each by the first matching policy that takes such objects.

    `mentions` are the sources that mention it, of those that the rules ask about; None if they were not read.

    If an encrypted room may show the row, a policy that asks for mentions may match or not. The row is deleted only if
    both outcomes delete it: that policy can keep it, and only a later policy can remove it.
    """
    now_ms = int(now.timestamp() * 1000)
    unmatched = Keep("no_policy")
    in_doubt: Keep | None = None
    for index, policy in enumerate(rules.policies):
        if policy.removes != removes:
            continue
        mismatch = next(mismatches(row, policy.match, rules.server_names, mentions), None)
        if mismatch not in {None, ENCRYPTED}:
            continue
        verdict = _judge_age(row, policy, index, now_ms, mentions)
        if mismatch is None and may_take(row, policy.match, rules.server_names, mentions):
            # Media that may be kept forever are kept from quotas, too, regardless of an earlier policy's time.
            return verdict if policy.keep is None else in_doubt or verdict
        if policy.keep is None:
            return verdict
        # A later policy may still take it, or keep it longer.
        if isinstance(verdict, Keep):
            in_doubt = in_doubt or verdict
            continue
        unmatched = Keep("other_uploader" if mismatch is None else "encrypted", policy.name)
        if policy.since == "accessed":
            # This policy keeps media that were read lately, and a later policy does not ask for the last access.
            in_doubt = in_doubt or unmatched
    return in_doubt or unmatched


# A key that `decide` leaves out would have no effect, and what it should keep would go.
all_handled(Policy, {"name", "match", "keep", "since", "removes"}, "model/policy.py: decide")
all_handled(Rules, {"policies", "server_names"}, "model/policy.py: decide")


def _judge_age(
    row: MediaRow, policy: Policy, index: int, now_ms: int, mentions: AbstractSet[str] | None
) -> Keep | Remove:
    if policy.keep is None:
        return Keep("not_due", policy.name)
    if not FIRST_BELIEVABLE_MS <= row.creation_ts <= now_ms + CLOCK_TOLERANCE_MS:
        return Keep("undated", policy.name)
    began = counted_from(row.creation_ts, policy.match.room, mentions)
    if began is None or now_ms - began < policy.keep // timedelta(milliseconds=1):
        return Keep("not_due", policy.name)
    if valid_hash(row.base64hash) is None:
        return Keep("invalid_hash", policy.name)
    return Remove(policy.name, index, began)


def accessed_lately(policy: Policy, accessed: float | None, now: datetime) -> bool:
    """Return whether the last access (seconds since the epoch; None: not known) keeps a due item."""
    if policy.since == "created" or policy.keep is None or accessed is None:
        return False
    # An access in the future keeps, too.
    return now.timestamp() - accessed < policy.keep.total_seconds()


@dataclass(slots=True)
class EncryptionCount:
    """By policy, the uploads to this server (True) and the media of other servers that an encrypted room may show."""

    kept: Counter[tuple[str, bool]] = field(default_factory=Counter)
    due: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def add(
        self, row: MediaRow, verdict: Keep | Remove, rules: Rules, mentions: AbstractSet[str] | None
    ) -> None:
        """Count one verdict of `decide`, with the mentions that it had."""
        if verdict.policy is None:
            return
        key = verdict.policy, uploaded_here(row, rules.server_names)
        if isinstance(verdict, Keep):
            self.kept[key] += verdict.reason == ENCRYPTED
        elif mentions and rules.policies[verdict.index].match.asks_mentions:
            self.due[key] += not ENCRYPTION.isdisjoint(mentions)

    def remarks(self) -> Iterator[str]:
        """Yield a sentence for each policy that encrypted media concern."""
        for policy in dict.fromkeys(name for name, _ in (*self.kept, *self.due)):
            for counted, words in (
                (self.kept, "stay, as an encrypted room may show them"),
                (self.due, "are due although an encrypted room may show them, as the configuration accepts"),
            ):
                here, elsewhere = counted[policy, True], counted[policy, False]
                if here or elsewhere:
                    yield f"{policy}: {here:,} uploads to this server and {elsewhere:,} media of other servers {words}"
