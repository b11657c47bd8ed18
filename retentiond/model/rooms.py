"""Rooms of a dendrite that no local user is in: whether a policy takes one, and since when; else the reason to keep it.

A purge cannot be undone, so each unknown keeps. No time is believed alone: another server may claim any. A policy's time
starts no earlier than retentiond first saw the room without local members and without a newer event (`first_seen`);
a claimed time only starts it later.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, get_args

from retentiond.model.errors import Refusal
from retentiond.model.fields import all_handled
from retentiond.model.limits import Headroom
from retentiond.model.match import glob
from retentiond.model.text import instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from retentiond.model.errors import PassLimit

RoomKeepReason = Literal[
    "joined",
    "invite",
    "members_differ",
    "no_policy",
    "undated",
    "first_seen",
    "not_due",
    "hold",
    "local_alias",
    "space_child",
    "media",
]
"""Why a room is kept; of several the first in this order is reported. The last look has its own, in `room_purge.py`."""
ROOM_KEEP_REASONS: Final[tuple[str, ...]] = get_args(RoomKeepReason)
RoomSince = Literal["left", "upgraded", "last_event"]
"""The event from which a policy's time counts."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK_TOLERANCE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Room:
    """A room as dendrite's databases have it; the texts in it are untrusted, and times that servers claim, too.

    `joined` and `invites` are local users: joined; invited or knocking. `creator` is the server of its creator, None if
    that cannot be read; so is `encrypted`. `events` and `bytes` are those of the room server and of sync. `left_ms`,
    `upgraded_ms` and `last_event_ms` are what the events claim, in milliseconds; None if one of them cannot be read.
    `first_seen` is when retentiond first saw it so, with `last_event_nid` as its newest event; None before.
    `successor` is the room that an upgrade names, `in_successor` whether a local user is in it. `parents` are other rooms
    whose state names it as their child. `state_disagrees`: sync's tables show a local member, or an invite of one.
    `media` is the number of media that only such rooms refer to and that are still there.
    """

    room_id: str
    room_nid: int
    version: str = ""
    creator: str | None = None
    encrypted: bool | None = None
    events: int = 0
    bytes: int = 0
    joined: int = 0
    invites: int = 0
    left_ms: int | None = None
    last_event_ms: int | None = None
    last_event_nid: int = 0
    first_seen: datetime | None = None
    upgraded_ms: int | None = None
    successor: str | None = None
    in_successor: bool = False
    aliases: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    state_disagrees: bool = False
    held: bool = False
    media: int = 0

    @property
    def empty(self) -> bool:
        """Whether no local user is in it, is invited to it, or knocks, by any table."""
        return not (self.joined or self.invites or self.state_disagrees)

    def as_json(self) -> dict[str, Any]:
        """Return the room as JSON."""
        shown = asdict(self)
        del shown["room_nid"], shown["last_event_nid"]
        shown |= {name: _instant(shown.pop(f"{name}_ms")) for name in ("left", "upgraded", "last_event")}
        return shown | {"first_seen": instant(self.first_seen) if self.first_seen else None}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomMatch:
    """The conditions of a policy; all that are given must hold, and at least one must be given."""

    left_by_all: Literal[True] | None = None
    upgraded: Literal[True] | None = None
    room: str | None = None
    creator: str | None = None
    encrypted: bool | None = None
    larger_than: int | None = None
    more_events_than: int | None = None

    def __post_init__(self) -> None:
        if all(getattr(self, name) is None for name in CONDITIONS):
            raise ValueError("a match without a condition would match every room")


CONDITIONS: Final[Mapping[str, Callable[[Any, Room], bool]]] = {
    "left_by_all": lambda _true, room: room.empty,
    "upgraded": lambda _true, room: room.successor is not None and room.in_successor,
    "room": lambda pattern, room: bool(glob(pattern).match(room.room_id)),
    "creator": lambda pattern, room: (
        room.creator is not None and bool(glob(pattern, ignore_case=True).match(room.creator))
    ),
    "encrypted": lambda wanted, room: room.encrypted is wanted,
    "larger_than": lambda size, room: room.bytes > size,
    "more_events_than": lambda count, room: room.events > count,
}
"""Every condition of a match. A condition without a line would match by being skipped."""
all_handled(RoomMatch, CONDITIONS, "model/rooms.py: CONDITIONS")


def mismatches(room: Room, match: RoomMatch) -> Iterator[str]:
    """Yield the conditions of the match that do not hold for this room."""
    for name, holds in CONDITIONS.items():
        wanted = getattr(match, name)
        if wanted is not None and not holds(wanted, room):
            yield name


def contains(wide: RoomMatch, narrow: RoomMatch) -> bool:
    """Return whether all rooms of `narrow` are certain to match `wide`: each condition of it is in `narrow`, too."""
    return all(getattr(wide, one.name) in {None, getattr(narrow, one.name)} for one in fields(RoomMatch))


@dataclass(frozen=True, slots=True)
class RoomPolicy:
    """A rule: matching rooms are purged when they are older than `keep`; None keeps them forever."""

    name: str
    match: RoomMatch
    keep: timedelta | None
    since: RoomSince = "left"


@dataclass(frozen=True, slots=True)
class RoomRules:
    """The policies of a target in their order, the cool-off, and the protections in force."""

    policies: tuple[RoomPolicy, ...]
    cool_off: timedelta
    protect: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a room: `due` since that time by `policy`, or kept for `reason`.

    `due_from` is when a kept room would become due by its age, or did.
    """

    reason: RoomKeepReason | None
    policy: str | None = None
    due: datetime | None = None
    due_from: datetime | None = None


def decide(room: Room, rules: RoomRules, now: datetime) -> Verdict:
    """Judge one room at the time `now` (aware); the first policy that matches decides."""
    if room.joined:
        return Verdict("joined")
    if room.invites:
        return Verdict("invite")
    if room.state_disagrees:
        return Verdict("members_differ")
    policy = next((one for one in rules.policies if next(mismatches(room, one.match), None) is None), None)
    if policy is None:
        return Verdict("no_policy")
    return judge(room, policy, rules, now)


def judge(room: Room, policy: RoomPolicy, rules: RoomRules, now: datetime) -> Verdict:
    """Judge a room by a policy that matches it."""
    if policy.keep is None:
        return Verdict("not_due", policy.name)
    claimed = claimed_time(room, policy.since)
    if claimed is None:
        return Verdict("undated", policy.name)
    if room.first_seen is None:
        return Verdict("first_seen", policy.name, due_from=now + max(policy.keep, rules.cool_off))
    if room.first_seen > now + _CLOCK_TOLERANCE:
        return Verdict("undated", policy.name)
    due = counted_from(room, claimed, now) + max(policy.keep, rules.cool_off)
    if due > now:
        return Verdict("not_due", policy.name, due_from=due)
    reason = next(_keeping(room, rules), None)
    return Verdict(reason, policy.name, due_from=due) if reason else Verdict(None, policy.name, due)


# A key that `decide` and `judge` leave out would have no effect, and what it should keep would go.
all_handled(RoomPolicy, {"name", "match", "keep", "since"}, "model/rooms.py: judge")
all_handled(RoomRules, {"policies", "cool_off", "protect"}, "model/rooms.py: judge")


def claimed_time(room: Room, since: RoomSince) -> datetime | None:
    """Return the time of the event that a policy counts from, as its server claims it; None if that is not known.

    A policy by the upgrade or the last event still needs to know that all have left: the later of the two times counts.
    """
    claims = {"left": room.left_ms, "upgraded": room.upgraded_ms, "last_event": room.last_event_ms}
    times = [_moment(claims[name]) for name in dict.fromkeys(("left", since))]
    if any(one is None for one in times):
        return None
    return max(one for one in times if one is not None)


def counted_from(room: Room, claimed: datetime, now: datetime) -> datetime:
    """Return the start of a policy's time: the claimed time, but never before the room was first seen so.

    A time in the future is no time: the event was here when the room was first seen.
    """
    assert room.first_seen is not None  # noqa: S101 - `judge` has asked
    return room.first_seen if claimed > now + _CLOCK_TOLERANCE else max(room.first_seen, claimed)


def empty_since(room: Room, now: datetime) -> datetime | None:
    """Return since when a room is empty as far as is known: the last leave, but no earlier than the first look."""
    left = None if room.joined else claimed_time(room, "left")
    return left if left is None or room.first_seen is None else counted_from(room, left, now)


@dataclass(frozen=True, slots=True)
class RoomTotals:
    """Rooms, their events, and the bytes that these take in the database."""

    rooms: int = 0
    events: int = 0
    bytes: int = 0

    def __add__(self, other: RoomTotals) -> RoomTotals:
        return RoomTotals(self.rooms + other.rooms, self.events + other.events, self.bytes + other.bytes)


class Limits(Protocol):
    """The limits as the configuration has them."""

    @property
    def max_share(self) -> float:
        """The largest share of all rooms that may be due."""

    @property
    def max_items(self) -> int:
        """The most rooms that may be due."""

    @property
    def max_events_share(self) -> float:
        """The largest share of all events that may be due."""

    @property
    def max_database_share(self) -> float:
        """The largest share of the tables of events that may be due."""


def room_headroom(limits: Limits, due: RoomTotals, stored: RoomTotals) -> tuple[Headroom, ...]:
    """Return how near the due rooms are to the limits; the shares come in the order in which they refuse a pass."""
    shares: tuple[tuple[PassLimit, int, int, float], ...] = (
        ("max_share", due.rooms, stored.rooms, limits.max_share),
        ("max_events_share", due.events, stored.events, limits.max_events_share),
        ("max_database_share", due.bytes, stored.bytes, limits.max_database_share),
    )
    return (
        *(
            Headroom(limit, part / whole if whole else float(part > 0), allowed)
            for limit, part, whole, allowed in shares
        ),
        Headroom("max_items", due.rooms, limits.max_items),
    )


def judge_room_limits(
    target: str, limits: Limits, due: RoomTotals, stored: RoomTotals, *, first: bool
) -> Refusal | None:
    """Compare what is due with the limits that `once --yes` exceeds. A first purge is always refused without it."""
    if not due.rooms:
        return None
    next_step = (
        f"look with `retentiond plan {target}`, and if it is right, run `retentiond once {target} --yes`"
    )
    found = f"{due.rooms} of {stored.rooms} rooms with {due.events} events would be purged"
    opening = (
        f"this is the first pass that purges rooms, which cannot be undone, and {found}" if first else found
    )
    for one in room_headroom(limits, due, stored):
        if one.limit != "max_items" and one.value > one.allowed:
            return Refusal(one.limit, round(one.value, 4), one.allowed, f"{opening}; {next_step}")
    if due.rooms > limits.max_items:
        return Refusal("max_items", due.rooms, limits.max_items, f"{opening}; {next_step}")
    if first:
        return Refusal("first_pass", due.rooms, "confirmed with --yes", f"{opening}; {next_step}")
    return None


def _keeping(room: Room, rules: RoomRules) -> Iterator[RoomKeepReason]:
    """Yield what keeps a room that is old enough."""
    if room.held:
        yield "hold"
    if room.aliases and "local_alias" in rules.protect:
        yield "local_alias"
    if room.parents and "space_child" in rules.protect:
        yield "space_child"


def _moment(milliseconds: int | None) -> datetime | None:
    if milliseconds is None:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def _instant(milliseconds: int | None) -> str | None:
    moment = _moment(milliseconds)
    return None if moment is None else instant(moment)
