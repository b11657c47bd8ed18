"""Quotas: the bytes to free so that the media fit; the survey chooses the items.

A rename frees no space, so blobs in quarantine count as freed already: otherwise each check would evict the same
number of bytes again until the grace is over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from retentiond.model.policy import Keep, Policy, Remove, Rules, decide

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from retentiond.model.match import Match
    from retentiond.model.media import MediaRow
    from retentiond.model.policy import KeepReason

EvictionOrder = Literal["least_recently_accessed", "oldest"]
"""Which media go first."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The largest total size of matching media, and the least free space of the disk, in bytes; at least one is set.

    An eviction reaches the low-water mark: `max_size` times `low_water`, or `min_free_disk` divided by it. Media
    younger than `min_age` are kept.
    """

    name: str
    match: Match
    max_size: int | None = None
    min_free_disk: int | None = None
    low_water: float = 0.9
    evict: EvictionOrder = "least_recently_accessed"
    min_age: timedelta = timedelta(days=1)
    shorten_grace: bool = False

    def rules(self, names: frozenset[str]) -> Rules:
        """Return the quota as one policy: matching media may be deleted once they have their least age."""
        return Rules((Policy(self.name, self.match, self.min_age),), names)


@dataclass(frozen=True, slots=True)
class SpaceReading:
    """The free bytes of the disk at some moment, and how many bytes had been purged until then, in all."""

    free: int
    purged: int


def size_shortage(quota: Quota, live: int) -> int:
    """How many bytes of live files have to go, when they are this many."""
    if quota.max_size is None or live <= quota.max_size:
        return 0
    return live - math.floor(quota.max_size * quota.low_water)


def disk_shortage(quota: Quota, free: int, held: int = 0) -> int:
    """Return the bytes to free, from the free bytes and those in quarantine."""
    if quota.min_free_disk is None or free + held >= quota.min_free_disk:
        return 0
    return math.ceil(quota.min_free_disk / quota.low_water) - free - held


def purged_in_vain(before: SpaceReading, now: SpaceReading, stored: int) -> bool:
    """Return whether purging did not raise the free space, though more was purged than was stored in between."""
    return now.purged - before.purged > stored and now.free <= before.free


@dataclass(frozen=True, slots=True)
class Evictable:
    """A row that a quota may take; `stayed` is the reason for which the policies keep it."""

    stayed: KeepReason


def decide_eviction(
    row: MediaRow, quota: Quota, rules: Rules, now: datetime, mentions: AbstractSet[str] | None = None
) -> Evictable | None:
    """Judge whether a quota may take a row; None if it is kept: too young, undated, or kept forever by a policy."""
    if not isinstance(decide(row, quota.rules(rules.server_names), now, mentions), Remove):
        return None
    verdict = decide(row, rules, now, mentions)
    if isinstance(verdict, Remove):
        # The pass has kept it all the same: it was read lately, or it changed.
        by_access = rules.policies[verdict.index].since == "accessed"
        return Evictable("not_due" if by_access else "changed")
    return None if _forever(verdict, rules) else Evictable(verdict.reason)


def _forever(verdict: Keep, rules: Rules) -> bool:
    return any(policy.name == verdict.policy and policy.keep is None for policy in rules.policies)
