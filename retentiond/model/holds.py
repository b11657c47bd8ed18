"""Holds: items that a user keeps regardless of the policies, until the hold is released or its last day is over."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, get_args

from retentiond.model.media import parse_media_uri
from retentiond.model.text import instant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

MediaKind = Literal["media", "user", "origin", "room"]
"""The ways to name media."""

HoldKind = MediaKind | Literal["account"]
"""The kinds of subject of a hold. A target defines which of them it supports."""

HoldState = Literal["in_force", "ended", "released"]
"""`ended`: its last day is over. `released`: a user released it."""

KINDS: tuple[MediaKind, ...] = get_args(MediaKind)


@dataclass(frozen=True, slots=True)
class Narrowing:
    """A limit of a hold on an account: one chat or visitor, and days from one up to another, not including it."""

    chat: str | None = None
    visitor: str | None = None
    begin: date | None = None
    before: date | None = None

    def as_json(self) -> dict[str, str]:
        """Return the fields that are set; an empty result means all of the account."""
        said = {"chat": self.chat, "visitor": self.visitor, "from": self.begin, "before": self.before}
        return {name: str(value) for name, value in said.items() if value is not None}

    @classmethod
    def from_json(cls, said: Mapping[str, str]) -> Narrowing:
        """Read the output of `as_json`."""
        begin, before = said.get("from"), said.get("before")
        return cls(
            said.get("chat"),
            said.get("visitor"),
            date.fromisoformat(begin) if begin else None,
            date.fromisoformat(before) if before else None,
        )


@dataclass(frozen=True, slots=True)
class HoldSubject:
    """The exact subject of a hold; globs are not allowed. Only an account can be narrowed down."""

    kind: HoldKind
    name: str
    narrowed: Narrowing = Narrowing()

    @classmethod
    def read(cls, kind: MediaKind, text: str) -> HoldSubject:
        """Read a user's text; raise ValueError with the expected form."""
        if kind == "media" and parse_media_uri(text) is None:
            raise ValueError("is not a media URI; write it as mxc://SERVER/ID")
        if kind == "user" and not (text.startswith("@") and ":" in text):
            raise ValueError("is not a user ID; write the whole ID, as @NAME:SERVER")
        # Since room version 12 the ID of a room holds no server.
        if kind == "room" and not (text.startswith("!") and len(text) > 1):
            raise ValueError(
                "is not a room ID; write its ID, as !ROOM:SERVER (an alias, which begins with #, is not an ID)"
            )
        if kind == "origin" and (not text or any(char in "*?/@ " for char in text)):
            raise ValueError("is no server's name; write it exactly, without wildcards")
        # The names of servers are the same in capitals.
        return cls(kind, text.lower() if kind == "origin" else text)


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """A hold to add: until the end of that day in UTC, or until it is released.

    `with_members` is for a room: its local members' uploads and its other members' servers are held with it.
    """

    subject: HoldSubject
    until: date | None = None
    reason: str = ""
    with_members: bool = False


@dataclass(frozen=True, slots=True)
class HeldMembers:
    """The media that a hold on a room keeps for its members: uploads of these users, all media of these servers."""

    users: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()

    def as_json(self) -> dict[str, list[str]]:
        """Return them as JSON."""
        return {"users": list(self.users), "servers": list(self.servers)}


@dataclass(frozen=True, slots=True)
class Hold:
    """A recorded hold, with the users who added and released it; the texts in it are untrusted.

    `members` are those that the last reading of its room found, if they are held, too.
    """

    hold_id: int
    subject: HoldSubject
    state: HoldState
    until: date | None
    reason: str
    added_at: datetime
    added_by: str
    released_at: datetime | None = None
    released_by: str | None = None
    release_reason: str | None = None
    with_members: bool = False
    members: HeldMembers = HeldMembers()

    def as_json(self) -> dict[str, Any]:
        """Return the hold as `hold list --json` prints it."""
        fields = asdict(self)
        subject = fields.pop("subject")
        del fields["with_members"], fields["members"]
        members = {"with_members": True, "members": self.members.as_json()} if self.with_members else {}
        return {
            "hold_id": fields.pop("hold_id"),
            "kind": subject["kind"],
            "subject": subject["name"],
            **self.subject.narrowed.as_json(),
            **fields,
            "until": self.until.isoformat() if self.until else None,
            "added_at": instant(self.added_at),
            "released_at": instant(self.released_at) if self.released_at else None,
            **members,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """The coverage of a hold now: rows, rows in quarantine (the next sweep restores them), and its blind spots.

    A room is taken as `encrypted` if it is, or if that cannot be read, which is not `encryption_known`. Of a
    `remote_user` no row records the uploads. To the stores `under_way` a purge had sent a deletion before the hold was
    added, and the hold may be too late for that.
    """

    items: int
    in_quarantine: int
    encrypted: bool = False
    under_way: tuple[str, ...] = ()
    encryption_known: bool = True
    remote_user: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return it as `hold add --json` prints it, without keys for the usual values."""
        fields = asdict(self)
        if self.encryption_known:
            del fields["encryption_known"]
        if not self.remote_user:
            del fields["remote_user"]
        return fields

    @property
    def nothing(self) -> bool:
        """Whether it would keep no item at all."""
        return not (self.items or self.in_quarantine)
