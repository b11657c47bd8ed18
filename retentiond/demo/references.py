"""The references of an invented store's users and rooms: avatars and emoji, which no policy may delete."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    import asyncpg

    from retentiond.model.media import MediaKey

_ROOM: Final = "!lobby:matrix.example.org"
_REMOTE_USER: Final = "@erin:matrix.example.org"
_EMOJI_EVENT: Final = "im.ponies.room_emotes"
_EMOJI_DATA: Final = "im.ponies.user_emotes"


@dataclass(frozen=True, slots=True)
class References:
    """Media that something refers to; all but `local_avatars` are old and remote, so a policy would take them."""

    local_avatars: dict[str, MediaKey]
    """By the user's name: uploads of local users, as their profiles reference them."""
    profile_avatar: tuple[str, MediaKey]
    """A local user, and the remote picture that is their avatar."""
    member_avatar: MediaKey
    """A remote user's avatar, which only an event of one of their rooms references."""
    replaced_avatar: MediaKey
    """That user's earlier avatar: the same event still has it, and it is not in use."""
    room_avatar: MediaKey
    room_emoji: tuple[MediaKey, ...]
    personal_emoji: tuple[MediaKey, ...]
    """Those of the user of `profile_avatar`."""


async def add_references(
    connection: asyncpg.Connection[asyncpg.Record], server_name: str, references: References
) -> None:
    """Write the profiles, the account data and the room's state that refer to these media."""
    borrower, borrowed = references.profile_avatar
    avatars = references.local_avatars | {borrower: borrowed}
    await connection.copy_records_to_table(
        "userapi_profiles",
        records=[(user, server_name, user.title(), key.uri) for user, key in avatars.items()],
    )
    emoji = json.dumps(_pack(references.personal_emoji))
    await connection.copy_records_to_table(
        "userapi_account_datas", records=[(borrower, server_name, "", _EMOJI_DATA, emoji)]
    )
    state = [
        _event("m.room.create", "", {"creator": _REMOTE_USER, "room_version": "10"}),
        _event("m.room.name", "", {"name": "Lobby"}),
        _event("m.room.avatar", "", {"url": references.room_avatar.uri}),
        _event(_EMOJI_EVENT, "lobby", _pack(references.room_emoji)),
        _event(
            "m.room.member",
            _REMOTE_USER,
            {"membership": "join", "displayname": "Erin", "avatar_url": references.member_avatar.uri},
            {"membership": "join", "displayname": "Erin", "avatar_url": references.replaced_avatar.uri},
        ),
    ]
    for user, key in avatars.items():
        member = {"membership": "join", "displayname": user.title(), "avatar_url": key.uri}
        state.append(_event("m.room.member", f"@{user}:{server_name}", member))
    await connection.copy_records_to_table("syncapi_current_room_state", records=state)


def _pack(keys: Iterable[MediaKey]) -> dict[str, Any]:
    return {"images": {f"smile{number}": {"url": key.uri} for number, key in enumerate(keys)}}


def _event(
    event_type: str, state_key: str, content: dict[str, Any], previous: dict[str, Any] | None = None
) -> tuple[object, ...]:
    """Return a row of `syncapi_current_room_state`, in the order of its columns."""
    sender = state_key if event_type == "m.room.member" else _REMOTE_USER
    digest = hashlib.sha256(f"{event_type} {state_key}".encode()).digest()
    event_id = f"${urlsafe_b64encode(digest).decode().rstrip('=')}"
    event = {
        "type": event_type,
        "room_id": _ROOM,
        "sender": sender,
        "state_key": state_key,
        "content": content,
    }
    if previous is not None:
        event["unsigned"] = {"prev_content": previous, "prev_sender": sender}
    event |= {"_room_version": "10", "_event_id": event_id}
    shows_url = event_type == "m.room.avatar"
    row = (_ROOM, event_id, event_type, sender, shows_url, state_key, json.dumps(event))
    return (*row, content.get("membership"), 1, 2)
