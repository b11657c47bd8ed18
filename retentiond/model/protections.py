"""The protections: sources of references whose media are never removed.

`PROTECTIONS` is the only list of them. The values that `protect` takes, its default, the order of keep reasons, their
words, the sources that are read, and the sources that `unreferenced` asks all follow from it. A statement of the references' SQL
has to yield a protection's sources by name; a protection that no statement yields cannot be imported there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGES_IN: Final = "messages_in"
"""The source of messages in rooms that local members are in, and the configuration's key for them."""
ENCRYPTED: Final = "encrypted"
"""The pseudo-source of uploads to this server that an encrypted room may show, and the reason that keeps them."""
ENCRYPTED_REMOTE: Final = "encrypted_remote"
"""The same for media of other servers, which dendrite can fetch again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """A source of references whose media stay.

    `name` is the keep reason, and `reason` its words; `media` names the protected media in the description of the key
    that asks for the protection; by `default` that key does. `sources` are the names that statements yield, the
    protection's own if none are given. With `keeps_referenced` a mention there keeps media from being `unreferenced`.
    """

    name: str
    reason: str
    media: str = ""
    key: Literal["protect", "messages_in"] = "protect"
    default: bool = True
    keeps_referenced: bool = True
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.key == "protect" and not self.media:
            raise ValueError(f"the protection {self.name} does not say which media it protects")
        if not self.sources:
            object.__setattr__(self, "sources", (self.name,))


PROTECTIONS: Final = (
    Protection(name="profile_avatars", reason="a user's avatar", media="avatars of users"),
    Protection(
        name="room_state",
        reason="the state of a room refers to it",
        media="media in the state of rooms",
    ),
    Protection(
        name="account_data",
        reason="a user's account data refers to it: emoji, stickers",
        media="media in account data (emoji, stickers)",
    ),
    Protection(
        name="invites",
        reason="a pending invite of a local user shows it: the room's avatar, the inviter's",
        media="media in pending invites of local users",
    ),
    Protection(
        name=MESSAGES_IN,
        reason="a message in a room with local members refers to it",
        key="messages_in",
        default=False,
        # `unreferenced` asks for messages in any room.
        keeps_referenced=False,
    ),
    Protection(
        name=ENCRYPTED,
        reason="an encrypted room may show it: references in such rooms are invisible",
        key="messages_in",
        default=False,
        # No reference is seen there; `accepts` of a match has the say.
        keeps_referenced=False,
        sources=(ENCRYPTED, ENCRYPTED_REMOTE),
    ),
)
"""Every protection, in the order in which keep reasons are reported."""

PROTECT: Final = tuple(one.name for one in PROTECTIONS if one.key == "protect")
"""The values that `protect` takes."""
PROTECT_DEFAULT: Final = tuple(one.name for one in PROTECTIONS if one.key == "protect" and one.default)
"""The value of `protect` if the configuration has none."""
KEEPS_REFERENCED: Final = frozenset(
    source for one in PROTECTIONS if one.keeps_referenced for source in one.sources
)
"""The sources of protections that keep media from being `unreferenced`."""
_REASON_OF: Final = {source: one.name for one in PROTECTIONS for source in one.sources}

if TYPE_CHECKING:
    ProtectKey: TypeAlias = str
else:
    # The schema tells a typing error from a name, and the nearest name, by this type.
    ProtectKey = Literal[PROTECT]


def keep_reason(kept: str) -> str:
    """Return the keep reason of media that a source, a hold or a mark keeps."""
    return _REASON_OF.get(kept, kept)


def protecting(protect: tuple[str, ...], *, messages_in: bool, accepts: frozenset[str]) -> Iterator[str]:
    """Yield the sources whose media stay under a configuration, in the order of the table.

    `protect` has names of the table, `accepts` the pseudo-sources of encryption that do not protect. Raise ValueError
    for a name that is no protection: it would protect nothing.
    """
    if unknown := sorted(set(protect) - set(PROTECT)):
        raise ValueError(f"no protection is called {', '.join(unknown)}")
    for one in PROTECTIONS:
        if one.name in protect or (one.key == "messages_in" and messages_in):
            yield from (source for source in one.sources if source not in accepts)
