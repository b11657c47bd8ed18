"""Sources of mentions of media, other than protections: those that policies ask about.

A source is a plain name, as the references' copy has it beside each key. Which of them mention an item is looked
up outside; the policies decide on the consequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from retentiond.model.protections import ENCRYPTED, ENCRYPTED_REMOTE, KEEPS_REFERENCED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

MESSAGES: Final = "messages"
"""The source of a fact: any message at all."""
ANYWHERE: Final[frozenset[str]] = KEEPS_REFERENCED | {MESSAGES}
"""Every source that keeps a media item from being unreferenced."""

ENCRYPTION: Final[frozenset[str]] = frozenset({ENCRYPTED, ENCRYPTED_REMOTE})
"""The pseudo-sources: references that are invisible to this program."""

ROOM_KINDS: Final = ("no_local_members", "upgraded")
"""The kinds of rooms that a policy may name, besides a room's ID."""

SENT_BY: Final = "sent_by"
"""The source of local users whose messages plainly refer to a media item, each as a name of its own (`sent_by`)."""
EVENTS: Final = "events"
"""The source of a fact: any event of a room at all, a message or its state."""

_ROOM: Final = "room:"
_ONLY: Final = "only:"
_UNTOLD: Final = "application/octet-stream"


def room_source(room: str) -> str:
    """Return the source of media that only messages in rooms of this kind reference."""
    return _ROOM + room


def sent_by(user_id: str) -> str:
    """Return the name under which a message of this user mentions a media item."""
    return f"{SENT_BY}:{user_id}"


class Mentioned(frozenset[str]):
    """The sources that mention a media item, and the time since when rooms are of the kind that a source stands for.

    `since` has the milliseconds by source; a source without a time is not in it.
    """

    since: Mapping[str, int]

    def __new__(cls, sources: Iterable[str] = (), since: Iterable[int | None] = ()) -> Self:
        """Take the sources, and the time of each where there is one."""
        named = tuple(sources)
        mentioned = super().__new__(cls, named)
        mentioned.since = {
            name: moment for name, moment in zip(named, since, strict=False) if moment is not None
        }
        return mentioned


def counted_from(created_ms: int, room: str | None, mentions: AbstractSet[str] | None) -> int | None:
    """Return when the time of a policy began for a media item, in milliseconds; None if that is not known.

    For a kind of rooms it is the later of the upload and the moment when the last of the rooms became of that kind:
    leaving a room by mistake must not cost everything that is older.
    """
    if room not in ROOM_KINDS:
        return created_ms
    since = mentions.since.get(room_source(room)) if isinstance(mentions, Mentioned) else None
    return None if since is None else max(created_ms, since)


def asked_of(mentions: Mentioned, asked: AbstractSet[str]) -> Mentioned:
    """Return the mentions that answer for the sources asked about."""
    senders = f"{SENT_BY}:" if SENT_BY in asked else "\0"
    named = [name for name in mentions if name in asked or name.startswith(senders)]
    return Mentioned(named, [mentions.since.get(name) for name in named])


def only_source(room: str) -> str:
    """Return the source of media that only events of this room reference."""
    return _ONLY + room


def asks_events(source: str) -> bool:
    """Return whether a source is read from messages and state together."""
    return source == EVENTS or source.startswith(_ONLY)


def is_room_source(source: str) -> bool:
    """Return whether a source is one of those that `room_source` returns."""
    return source.startswith(_ROOM)


def has_type_of_ciphertext(content_type: str) -> bool:
    """Return whether clients give this type to encrypted files; any other type is no proof."""
    return _essence(content_type) in {"", _UNTOLD}


def names_type_of_ciphertext(pattern: str | None) -> bool:
    """Return whether a pattern of content types names that type itself; a wildcard does not."""
    return pattern is not None and _essence(pattern) == _UNTOLD


def is_unreferenced(mentions: AbstractSet[str] | None) -> bool:
    """Return whether no mention of the media item was seen; if mentions were not read (None), there may be one."""
    return mentions is not None and not mentions & ANYWHERE


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
