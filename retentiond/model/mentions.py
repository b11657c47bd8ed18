"""What mentions a medium: the sources that protect it, and those that policies ask about.

A source is a plain name, as the references' copy has it beside each key. Which of them mention a medium is looked
up outside; what follows from it is decided in the policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

Protection = Literal["profile_avatars", "room_state", "account_data"]
"""A source of references whose media are never purged, unless `protect` leaves it out."""
MESSAGES_IN: Final = "messages_in"
"""The source of a protection more: messages in rooms that local members are in."""
MESSAGES: Final = "messages"
"""The source of a fact: any message at all."""
ANYWHERE: Final[frozenset[str]] = frozenset({"profile_avatars", "room_state", "account_data", MESSAGES})
"""All that keeps a medium from being unreferenced."""

ROOM_KINDS: Final = ("no_local_members", "upgraded")
"""The kinds of rooms that a policy may name, besides a room's ID."""

SENT_BY: Final = "sent_by"
"""The source of the local users whose messages plainly refer to a medium, each as a name of its own (`sent_by`)."""

_ROOM: Final = "room:"
_UNTOLD: Final = "application/octet-stream"


def room_source(room: str) -> str:
    """Return the source that has what messages in such rooms, and in no others, refer to."""
    return _ROOM + room


def sent_by(user_id: str) -> str:
    """Return the name under which a message of this user mentions a medium."""
    return f"{SENT_BY}:{user_id}"


def asked_of(mentions: AbstractSet[str], asked: AbstractSet[str]) -> frozenset[str]:
    """Return the mentions that answer for the sources asked about."""
    senders = f"{SENT_BY}:" if SENT_BY in asked else "\0"
    return frozenset(name for name in mentions if name in asked or name.startswith(senders))


def may_be_encrypted(content_type: str) -> bool:
    """Tell whether the picture of an encrypted message would bear this type: none of them tells what it is."""
    return _essence(content_type) in {"", _UNTOLD}


def names_encrypted(pattern: str | None) -> bool:
    """Tell whether a pattern of content types names that type itself; a wildcard does not."""
    return pattern is not None and _essence(pattern) == _UNTOLD


def is_unreferenced(mentions: AbstractSet[str] | None) -> bool:
    """Tell whether nothing mentions the medium; where nobody looked (None), something may."""
    return mentions is not None and not mentions & ANYWHERE


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
