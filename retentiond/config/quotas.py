"""Quotas as the configuration writes them."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field

from retentiond.config.policies import AcceptsLoss, MatchConfig, loss_conflicts
from retentiond.config.section import Conflict, Section
from retentiond.config.values import Duration, LongerThanZero, Share, Size
from retentiond.model.mentions import ENCRYPTION
from retentiond.model.quota import Quota


class QuotaConfig(Section):
    """The space that media may take: above it the oldest are deleted, regardless of their policy's age."""

    name: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="The name in plans and reports; the default is quota, then quota 2 and so on.",
        examples=["remote-quota"],
    )
    match: MatchConfig = Field(description="The conditions; all of them must hold.")
    max_size: Size | None = Field(
        default=None,
        description="The largest total size of the files outside the quarantine.",
        examples=["50GiB"],
    )
    min_free_disk: Size | None = Field(
        default=None,
        description="The free space to maintain on the media's file system. Files in quarantine count as freed.",
        examples=["10GiB"],
    )
    low_water: Annotated[Share, Field(gt=0)] = Field(
        default=0.9,
        description="How far a quota goes below its limit, from 0 to 1: down to max_size times low_water, or until min_free_disk divided by "
        "low_water is free.",
    )
    evict: Literal["least_recently_accessed", "oldest"] = Field(
        default="least_recently_accessed",
        description="The order of deletion: least_recently_accessed or oldest first.",
    )
    min_age: Duration = Field(
        default=timedelta(days=1), description="Younger media are never deleted by the quota."
    )
    every: LongerThanZero = Field(
        default=timedelta(minutes=10), description="How often the daemon checks the quota between passes."
    )
    shorten_grace: bool = Field(
        default=False,
        description="true: if free space is below min_free_disk, purge the oldest files in quarantine before their grace ends, but never "
        "before settle.",
    )
    delete_media_of_encrypted_rooms: AcceptsLoss = False

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the problems of a quota without a size, and of a grace that has no limit to yield to."""
        yield from loss_conflicts(given)
        if given.get("max_size") is None and given.get("min_free_disk") is None:
            yield Conflict((), "needs `max_size` or `min_free_disk`")
        if given.get("shorten_grace") is True and given.get("min_free_disk") is None:
            yield Conflict(("shorten_grace",), "has no effect without `min_free_disk`; set both or neither")

    def to_quota(self, place: int, accepts: frozenset[str] = frozenset()) -> Quota:
        """Return the quota as the decisions take it; `place` is its place among the target's, from 0.

        A key that the decisions do not know raises TypeError.
        """
        given = dict(self)
        # How often to check is the daemon's matter.
        del given["every"]
        accepts_all = given.pop("delete_media_of_encrypted_rooms")
        match = given.pop("match").to_match(ENCRYPTION if accepts_all else accepts)
        return Quota(given.pop("name") or unnamed_quota(place), match, **given)


def unnamed_quota(place: int) -> str:
    """Return the name of a quota without one, by its position among the target's, from 0."""
    return "quota" if place == 0 else f"quota {place + 1}"
