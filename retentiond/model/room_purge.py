"""The purge of a room: what keeps it at the last moment, the states of a purge, and the signs of trouble with dendrite.

Pure functions and values; `targets/dendrite_rooms/purges/` asks and acts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from retentiond.model.errors import Refusal

Obstacle = Literal[
    "purge_under_way",
    "room_gone",
    "joined",
    "invite",
    "knock",
    "hold",
    "room_not_listed",
    "changed",
    "sync_behind_room",
    "recent_event",
    "room_in_cache",
    "too_large",
    "purge_too_late",
]
"""The reasons for which the second look keeps a room, in the order in which they are asked."""

OBSTACLES: Final[Mapping[str, str]] = {
    "purge_under_way": "an earlier purge of it is not over",
    "room_gone": "the database does not have it any more",
    "joined": "a local user is in it",
    "invite": "a local user is invited to it",
    "knock": "a local user knocks at it",
    "hold": "on hold",
    "room_not_listed": "dendrite does not list it among the empty rooms",
    "changed": "it has changed since the pass looked at it",
    "sync_behind_room": "dendrite's sync has not caught up with it",
    "recent_event": "it had an event, such as a join or a leave, within the last minutes",
    "room_in_cache": "it had an event so lately that dendrite's cache may still have it",
    "too_large": "its purge would take longer than `limits: {max_duration: …}` allows",
    "purge_too_late": "too much time passed between the last look and the purge",
}
if tuple(OBSTACLES) != get_args(Obstacle):
    raise TypeError("model/room_purge.py: OBSTACLES must have each obstacle, in the same order")

BY_HAND: Final[frozenset[Obstacle]] = frozenset({"invite", "knock", "room_not_listed", "room_in_cache"})
"""The obstacles that a purge by hand passes over: a user has seen its plan. A hold is never among them."""

PurgeState = Literal["sent", "emptied", "purged", "rows_stay", "refused", "withdrawn", "undone"]
"""`sent`: recorded, and the request may be under way. `emptied`: the room server's rows are gone, those of sync are awaited.
`purged`: all are gone. `rows_stay`: rows of sync stay. `refused`: dendrite refused, and the room stays. `withdrawn`: no
request was sent. `undone`: dendrite was interrupted, and the room is whole.
"""
OPEN_STATES: Final = ("sent", "emptied")
"""The states in which no other purge of the room may begin."""
CHANGES: Final[Mapping[PurgeState | None, frozenset[PurgeState]]] = {
    None: frozenset({"sent"}),
    "sent": frozenset({"emptied", "purged", "refused", "withdrawn", "undone"}),
    "emptied": frozenset({"purged", "rows_stay"}),
    "rows_stay": frozenset({"purged"}),
    "purged": frozenset(),
    "refused": frozenset(),
    "withdrawn": frozenset(),
    "undone": frozenset(),
}
"""The states that a purge may get, by its present state; None is no purge."""
if set(CHANGES) - {None} != set(get_args(PurgeState)):
    raise TypeError("model/room_purge.py: CHANGES must have each state, and no other")

Trouble = Literal["dendrite_down", "sync_stuck", "rows_stay", "room_stays"]
"""The signs after a purge that dendrite does not work as it should."""

_QUEUE: Final = (
    "stop dendrite, move its jetstream directory (`global.jetstream.storage_path`) away, and start it: messages in its queue that "
    "need the purged room stop the rest. What was queued there is lost to clients"
)
TROUBLES: Final[Mapping[Trouble, tuple[str, str]]] = {
    "dendrite_down": (
        "dendrite does not answer since the purge",
        f"start it; if it ends again and again, {_QUEUE}",
    ),
    "sync_stuck": (
        "dendrite's sync has received no event since the purge, although there are new ones",
        _QUEUE,
    ),
    "rows_stay": (
        "the room server has purged the room, and rows of it stay in sync's tables",
        f"look into dendrite's log. If sync is stuck, {_QUEUE}; the rows that stay then are listed by `retentiond audit`",
    ),
    "room_stays": (
        "dendrite said that the room is purged, and its database still has it",
        "check that `admin_api` and `database` belong to the same dendrite",
    ),
}
"""Each sign in words, and its repair."""
if set(TROUBLES) != set(get_args(Trouble)):
    raise TypeError("model/room_purge.py: TROUBLES must have each sign, and no other")

_NANOSECONDS_PER_PAIR: Final = 13
"""Measured on dendrite 0.15.2: an array of a room's events is compared with each row of a table, without an index."""


def expected_duration(events: int, previous_events: int) -> timedelta:
    """Estimate the duration of a purge from the room's events and the rows of roomserver_previous_events on the server."""
    return timedelta(microseconds=events * previous_events * _NANOSECONDS_PER_PAIR / 1000)


@dataclass(frozen=True, slots=True)
class RoomLook:
    """A room as the databases had it in one moment, for the decision about its purge.

    `last_event` is the last event that was sent to sync; None without one. `seen_at` is when retentiond first saw the room
    without local members, with `seen_event_nid` as its newest event; both are None where it has not.
    """

    room_id: str
    room_nid: int
    at: datetime
    events: int
    joined: bool
    invited: bool
    knocked: bool
    held: bool
    last_event: str | None
    last_event_nid: int
    seen_at: datetime | None
    seen_event_nid: int | None

    @property
    def unchanged_for(self) -> timedelta:
        """The time in which the room was seen to have no new event, by the clock of its database."""
        if self.seen_at is None or self.seen_event_nid != self.last_event_nid:
            return timedelta()
        return self.at - self.seen_at


@dataclass(frozen=True, slots=True)
class PurgeTerms:
    """The conditions of a purge.

    `quiet`: how long the members must not have changed. `cache`: how long dendrite's cache keeps a room. `patience`: how long
    a change is waited for; dendrite sends a message again 30 s after its start. `answer`: how long its answer is waited for.
    `look_lasts`: the longest time from the last look to the request.
    `gives_up`: when an open purge whose rows stay is reported as such.
    """

    quiet: timedelta = timedelta(minutes=5)
    cache: timedelta = timedelta(hours=1)
    max_duration: timedelta = timedelta(minutes=4)
    patience: timedelta = timedelta(seconds=75)
    answer: timedelta = timedelta(seconds=330)
    poll: timedelta = timedelta(seconds=0.5)
    look_lasts: timedelta = timedelta(seconds=5)
    gives_up: timedelta = timedelta(hours=1)


def find_obstacle(
    look: RoomLook | None,
    terms: PurgeTerms,
    *,
    listed: bool,
    in_sync: bool,
    invited_in_sync: bool,
    events: int,
    passed_over: frozenset[Obstacle] = frozenset(),
) -> Obstacle | None:
    """Return the first reason for which the room must not be purged now; None: it may be.

    `listed`: by dendrite among the empty rooms. `in_sync`: sync has the last event. `invited_in_sync`: sync knows of an
    invite. `events` is what the room had when its rows were counted.
    """
    if look is None:
        return "room_gone"
    found: dict[Obstacle, bool] = {
        "joined": look.joined,
        "invite": look.invited or invited_in_sync,
        "knock": look.knocked,
        "hold": look.held,
        "room_not_listed": not listed,
        "changed": look.events != events,
        "sync_behind_room": not in_sync,
        "recent_event": look.unchanged_for < terms.quiet,
        "room_in_cache": look.unchanged_for < terms.cache,
    }
    return next((one for one, is_there in found.items() if is_there and one not in passed_over), None)


@dataclass(frozen=True, slots=True)
class RoomOrder:
    """One room to purge: by which policy, and its size, as the pass has found it; `about` is what the ledger keeps of it.

    `by_hand`: a user has named it.
    """

    room_id: str
    policy: str
    bytes: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)
    by_hand: bool = False


OutcomeKind = Literal["purged", "kept", "failed", "open"]


@dataclass(frozen=True, slots=True)
class PurgeOutcome:
    """What became of one purge: `kept` with its obstacle, `failed` with the reason, `open` where a sweep goes on.

    With `trouble` nothing more may be purged: the target is stopped.
    """

    kind: OutcomeKind
    obstacle: Obstacle | None = None
    reason: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    trouble: Refusal | None = None
