"""Policies and quotas: the media that each matches, and how long or how much is kept."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field

from retentiond.config.section import Conflict, Section
from retentiond.config.units import parse_duration
from retentiond.config.values import (
    Day,
    Duration,
    DurationText,
    LongerThanZero,
    OriginPattern,
    Pattern,
    RoomKind,
    Share,
    Size,
    TypePattern,
    UserPattern,
)
from retentiond.model.fields import all_handled
from retentiond.model.match import CONDITIONS, OF_REFERENCES, Match
from retentiond.model.mentions import ENCRYPTION
from retentiond.model.policy import Policy
from retentiond.model.quota import Quota

FOREVER: Final = "forever"


def _keep(value: object) -> timedelta | None:
    return None if value == FOREVER else parse_duration(value)


Keep = Annotated[
    timedelta | None, BeforeValidator(_keep, json_schema_input_type=DurationText | Literal["forever"])
]
"""How long an item is kept; None is forever."""


class MatchConfig(Section):
    """The conditions of a policy: all that are set must hold."""

    origin: OriginPattern | None = Field(
        default=None,
        description="remote, local, the name of a server, or a glob of names (a glob never matches local media).",
        examples=["remote"],
    )
    user: UserPattern | None = Field(
        default=None,
        description="A glob of user IDs: media that such a local user uploaded.",
        examples=["@bot-*:example.org"],
    )
    content_type: TypePattern | None = Field(
        default=None,
        description="A glob of content types, as declared by the uploader.",
        examples=["video/*"],
    )
    larger_than: Size | None = Field(
        default=None, description="A size with its unit: media larger than that.", examples=["20MiB"]
    )
    uploaded_before: Day | None = Field(
        default=None,
        description="A day in UTC: media that this server stored before that day.",
        examples=["2025-01-31"],
    )
    upload_name: Pattern | None = Field(
        default=None, description="A glob of file names, as chosen by the uploader.", examples=["*.mp4"]
    )
    room: RoomKind | None = Field(
        default=None,
        description="Media to which messages in such rooms refer, and messages in no other room: no_local_members (no user of this server "
        "is joined, invited or knocking any more), upgraded, or the ID of a room. Media that an encrypted room may show never "
        "match. For no_local_members and upgraded the age counts from the last leave or from the upgrade, if that is later than "
        "the upload. If only another server's clock dates it, the age counts from the first pass that finds the room so.",
        examples=["no_local_members"],
    )
    unreferenced: Literal[True] | None = Field(
        default=None,
        description="true: media to which no message, no room state, no profile, no account data and no pending invite on this server "
        "refers. Media that an encrypted room may show never match: uploads of users who have been in one since, and media of "
        "other servers (see encrypted_remote). application/octet-stream (the type of encrypted files) and media without a type "
        "match only if content_type names that type; delete_media_of_encrypted_rooms does not replace this.",
        examples=[True],
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield that there is no condition: it would match everything."""
        if all(value is None for value in given.values()):
            yield Conflict(
                (), "is empty and would match everything; name what it means, such as origin: remote"
            )

    @property
    def asks_mentions(self) -> bool:
        """Whether a condition depends on references, which are invisible in encrypted rooms."""
        return any(getattr(self, name) is not None for name in OF_REFERENCES)

    def to_match(self, accepts: frozenset[str]) -> Match:
        """Return the conditions as the decisions take them; a key that they do not know raises TypeError."""
        return Match(**dict(self), accepts=accepts)


all_handled(MatchConfig, CONDITIONS, "config/policies.py and model/match.py: CONDITIONS")


AcceptsLoss = Annotated[
    bool,
    Field(
        description="true accepts a loss: with `unreferenced` or `room`, media are deleted even if an encrypted room may show them. Room "
        "members then see a broken picture, and an upload to this server cannot be fetched again."
    ),
]
"""Whether a rule takes media that an encrypted room may show."""


def loss_conflicts(given: Mapping[str, Any]) -> Iterator[Conflict]:
    """Yield that a rule accepts a loss that its match cannot cause."""
    match = given.get("match")
    asks = isinstance(match, Mapping) and not OF_REFERENCES.isdisjoint(match)
    if given.get("delete_media_of_encrypted_rooms") is True and not asks:
        yield Conflict(
            ("delete_media_of_encrypted_rooms",),
            "needs `unreferenced` or `room` in the match: no other condition looks at rooms; leave it out",
        )


class PolicyConfig(Section):
    """A rule: matching media are deleted when they are older than `keep`."""

    name: str = Field(
        min_length=1,
        max_length=64,
        description="The name in plans and reports; each policy has its own.",
        examples=["remote"],
    )
    match: MatchConfig = Field(description="The conditions; all of them must hold.")
    keep: Keep = Field(
        description="How long media are kept: a time with its unit (30d, 24h), or forever.", examples=["30d"]
    )
    since: Literal["created", "accessed"] = Field(
        default="created",
        description="The start of that time: created, when this server stored the media; or accessed, when the file or one of its "
        "thumbnails was last read (see access_log and since_fallback).",
    )
    remove: Literal["media", "thumbnails"] = Field(
        default="media",
        description="media: delete media with their thumbnails. thumbnails: delete only thumbnails that are older than `keep`; dendrite "
        "makes them again. Policies of one sort do not affect those of the other.",
    )

    delete_media_of_encrypted_rooms: AcceptsLoss = False

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield that it accepts a loss that it cannot cause."""
        yield from loss_conflicts(given)

    def to_policy(self, accepts: frozenset[str] = frozenset()) -> Policy:
        """Return the rule as the decisions take it; `accepts` are the sources that the target accepts for all rules.

        A key that the decisions do not know raises TypeError.
        """
        given = dict(self)
        accepts_all = given.pop("delete_media_of_encrypted_rooms")
        match = given.pop("match").to_match(ENCRYPTION if accepts_all else accepts)
        return Policy(match=match, removes=given.pop("remove"), **given)


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
