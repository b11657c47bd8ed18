"""An invented dendrite store: real pictures, real rows, several servers, and the accidents of real stores.

Everything follows from the seed and the time, so that a demo can be run again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from retentiond.demo.writer import Content, DemoPicture, StoreWriter, draw_pictures, with_comment
from retentiond.model.errors import UsageError
from retentiond.model.media import Hash, MediaKey

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import asyncpg

SERVER_NAME: Final = "demo.example"
FEWEST_MEDIA: Final = 25
"""With fewer, the special cases would outweigh the ordinary ones, and the one without a file be over a limit."""

_USERS: Final = ("alice", "bob", "carol", "dave")
_ORIGINS: Final = ("matrix.example.org", "chat.example.net:8448", "synapse.example.com", "[2001:db8::7]:8448")
_HOSTILE_NAMES: Final = (
    "../../../etc/passwd",
    "$(reboot).jpg",
    "<script>alert(1)</script>.jpg",
    "[bold red]urgent[/bold red].jpg",
    "'; DROP TABLE mediaapi_media_repository; --.jpg",
    "photo\u202egnp.exe",
    "two\nlines.jpg",
    "\x1b[2Jgone.jpg",
    "long" * 100 + ".jpg",
    "",
)
_HOSTILE_EVERY: Final = 9
_ENCRYPTED_EVERY: Final = 10
_SHARED_EVERY: Final = 25
# Of twenty ordinary media; a policy `remote, keep: 30d` takes the old ones, some 35 % of all.
_CYCLE: Final = ("local",) * 8 + ("old",) * 7 + ("recent",) * 5
_PICTURES: Final = 32
_BATCH: Final = 500
_ROOM: Final = "!lobby:matrix.example.org"
_REMOTE_USER: Final = "@erin:matrix.example.org"
_EMOJI_EVENT: Final = "im.ponies.room_emotes"
_EMOJI_DATA: Final = "im.ponies.user_emotes"


@dataclass(frozen=True, slots=True)
class SpecialCases:
    """Which media plays which part; all are remote and older than 30 days unless they say otherwise."""

    references: References
    shared_leaving: MediaKey
    """Its blob is shared with a local upload: the row is deleted, the files stay."""
    shared_staying: MediaKey
    """That local upload, ten days old."""
    missing: MediaKey
    """Its file is not there."""
    restorable: MediaKey
    """A picture with all its thumbnails, to be deleted and restored."""
    orphan_blob: Hash
    """A directory with a file that no row references."""
    orphan_thumbnail: MediaKey
    """A key with a thumbnail row, and no media row."""


@dataclass(frozen=True, slots=True)
class MadeUpStore:
    """The created store: numbers of rows and files, and the size of all files in bytes."""

    cases: SpecialCases
    rows: int
    thumbnail_rows: int
    files: int
    size: int


async def make_tables(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Make dendrite's tables, as far as retentiond knows them, in an empty database."""
    await connection.execute(files("retentiond.demo").joinpath("dendrite.sql").read_text(encoding="utf-8"))


async def make_up_store(
    connection: asyncpg.Connection[asyncpg.Record], media_path: Path, media: int, seed: int, now: datetime
) -> MadeUpStore:
    """Fill dendrite's empty tables and an empty directory with `media` rows and their files, aged from `now`.

    UsageError where there are fewer than `FEWEST_MEDIA`, or the directory holds anything already.
    """
    if media < FEWEST_MEDIA:
        raise UsageError(f"{media} media are too few to show every case; ask for {FEWEST_MEDIA} or more")
    await asyncio.to_thread(_prepare, media_path)
    writer = StoreWriter(media_path)
    maker = await asyncio.to_thread(_Maker, writer, seed, now)
    cases = await asyncio.to_thread(maker.make_special_cases)
    await writer.insert(connection)
    while writer.rows < media:
        await asyncio.to_thread(maker.make_ordinary, min(_BATCH, media - writer.rows))
        await writer.insert(connection)
    await add_references(connection, SERVER_NAME, cases.references)
    # A server of some age has statistics, and plans that follow from them.
    await connection.execute("ANALYZE")
    return MadeUpStore(cases, writer.rows, writer.thumbnail_rows, writer.files, writer.size)


def _prepare(media_path: Path) -> None:
    media_path.mkdir(mode=0o750, parents=True, exist_ok=True)
    if any(media_path.iterdir()):
        raise UsageError(
            f"{media_path} is not empty, and a made-up store would mix with it; name a new directory"
        )


class _Maker:
    """Chooses names, ages and contents; the seed decides all of them."""

    def __init__(self, writer: StoreWriter, seed: int, now: datetime) -> None:
        self._writer = writer
        self._now = now
        self._rng = random.Random(seed)  # noqa: S311 - it must repeat itself, not be secret
        self._pictures = draw_pictures(_PICTURES, self._rng)
        self._hostile_names = cycle(_HOSTILE_NAMES)
        self._kinds: list[str] = []

    def make_special_cases(self) -> SpecialCases:
        """Make one of each case that the demo points at."""
        references = References(
            local_avatars={user: self._local(300, user) for user in _USERS[1:]},
            profile_avatar=(_USERS[0], self._remote(250)),
            member_avatar=self._remote(200),
            replaced_avatar=self._remote(220),
            room_avatar=self._remote(150),
            room_emoji=tuple(self._remote(120) for _ in range(3)),
            personal_emoji=tuple(self._remote(90) for _ in range(2)),
        )
        shared, forwarded = self._picture(), self._picture()
        self._remote(70, forwarded, origin=_ORIGINS[0])
        self._remote(60, forwarded, origin=_ORIGINS[1], first=False)
        # The first picture is large enough for every thumbnail that there is.
        whole = self._picture(self._pictures[0])
        orphan = self._picture()
        self._writer.write(orphan, self._now - timedelta(days=50))
        return SpecialCases(
            references=references,
            shared_leaving=self._remote(90, shared),
            shared_staying=self._local(10, _USERS[0], shared, first=False),
            # A content that comes a second time, though it never came a first, has no files.
            missing=self._remote(80, first=False),
            restorable=self._remote(45, whole),
            orphan_blob=orphan.base64hash,
            orphan_thumbnail=self._orphan_thumbnail(50),
        )

    def make_ordinary(self, count: int) -> None:
        """Make that many ordinary media: uploads, and media from other servers, old and new."""
        content = self._picture()
        for number in range(count):
            shared = number % _SHARED_EVERY == _SHARED_EVERY - 1
            if not shared:
                encrypted = number % _ENCRYPTED_EVERY == _ENCRYPTED_EVERY - 1
                content = self._encrypted() if encrypted else self._picture()
            if not self._kinds:
                self._kinds = self._rng.sample(_CYCLE, len(_CYCLE))
            kind = self._kinds.pop()
            if kind == "local":
                self._local(self._rng.uniform(0, 700), self._rng.choice(_USERS), content, first=not shared)
            else:
                days = self._rng.uniform(31, 400) if kind == "old" else self._rng.uniform(0, 28)
                self._remote(days, content, first=not shared)

    def _local(
        self, days: float, user: str, content: Content | None = None, *, first: bool = True
    ) -> MediaKey:
        key = MediaKey(self._rng.randbytes(32).hex(), SERVER_NAME)
        # dendrite keeps the names of uploads escaped, and those of other servers as they came.
        name = quote(self._upload_name(), safe="")
        self._add(key, f"@{user}:{SERVER_NAME}", name, days, content, first=first)
        return key

    def _remote(
        self, days: float, content: Content | None = None, *, origin: str | None = None, first: bool = True
    ) -> MediaKey:
        key = self._remote_key(origin)
        self._add(key, "", self._upload_name(), days, content, first=first)
        return key

    def _add(
        self, key: MediaKey, user_id: str, name: str, days: float, content: Content | None, *, first: bool
    ) -> None:
        created = self._now - timedelta(days=days)
        self._writer.add(key, user_id, name, created, content or self._picture(), first=first)

    def _orphan_thumbnail(self, days: float) -> MediaKey:
        key = self._remote_key(None)
        thumbnail = self._pictures[0].thumbnails[0]
        self._writer.add_thumbnail_row(key, thumbnail, self._now - timedelta(days=days))
        return key

    def _remote_key(self, origin: str | None) -> MediaKey:
        return MediaKey(
            urlsafe_b64encode(self._rng.randbytes(18)).decode(), origin or self._rng.choice(_ORIGINS)
        )

    def _upload_name(self) -> str:
        number = self._writer.rows
        return next(self._hostile_names) if number % _HOSTILE_EVERY == 0 else f"IMG_{number:05d}.jpg"

    def _picture(self, picture: DemoPicture | None = None) -> Content:
        picture = picture or self._rng.choice(self._pictures)
        return Content(with_comment(picture.data, self._rng.randbytes(16)), "image/jpeg", picture.thumbnails)

    def _encrypted(self) -> Content:
        return Content(self._rng.randbytes(self._rng.randrange(2_000, 20_000)), "application/octet-stream")


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
