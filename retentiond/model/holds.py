"""Holds: what somebody has said must stay, whatever the policies say, until it is released or its last day is over."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from retentiond.model.media import parse_media_uri
from retentiond.model.text import instant

if TYPE_CHECKING:
    from datetime import date, datetime

HoldKind = Literal["media", "user", "origin", "room"]
"""What a hold is on. A target says which of them it knows."""

HoldState = Literal["in_force", "ended", "released"]
"""`ended`: its last day is over. `released`: somebody took it back."""

KINDS: tuple[HoldKind, ...] = get_args(HoldKind)


@dataclass(frozen=True, slots=True)
class HoldSubject:
    """What a hold is on, exactly: no glob is one."""

    kind: HoldKind
    name: str

    @classmethod
    def read(cls, kind: HoldKind, text: str) -> HoldSubject:
        """Read what a user wrote; raises ValueError with the form it should have."""
        if kind == "media" and parse_media_uri(text) is None:
            raise ValueError("is no medium; write it as mxc://SERVER/ID")
        if kind == "user" and not (text.startswith("@") and ":" in text):
            raise ValueError("is no user; write the whole ID, as @NAME:SERVER")
        # Since room version 12 the ID of a room holds no server.
        if kind == "room" and not (text.startswith("!") and len(text) > 1):
            raise ValueError(
                "is no room; write its ID, as !ROOM:SERVER (an alias, which begins with #, is none)"
            )
        if kind == "origin" and (not text or any(char in "*?/@ " for char in text)):
            raise ValueError("is no server's name; write it exactly, without wildcards")
        # The names of servers are the same in capitals.
        return cls(kind, text.lower() if kind == "origin" else text)


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """A hold to be put on: until the end of that day in UTC, or until it is released."""

    subject: HoldSubject
    until: date | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold on record, with who put it on and who released it; the texts in it are untrusted."""

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

    def as_json(self) -> dict[str, Any]:
        """Return the hold as `hold list --json` prints it."""
        fields = asdict(self)
        subject = fields.pop("subject")
        return {
            "hold_id": fields.pop("hold_id"),
            "kind": subject["kind"],
            "subject": subject["name"],
            **fields,
            "until": self.until.isoformat() if self.until else None,
            "added_at": instant(self.added_at),
            "released_at": instant(self.released_at) if self.released_at else None,
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a hold covers now: rows, rows in quarantine (the next sweep restores them), and what it cannot see."""

    items: int
    in_quarantine: int
    encrypted: bool = False

    @property
    def nothing(self) -> bool:
        """Whether there is nothing that it would keep."""
        return not (self.items or self.in_quarantine)
