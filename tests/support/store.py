"""A dendrite store made by hand, row by row and file by file, for exact cases; and a judge of what became of it."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from retentiond.model.media import MediaKey, MediaRow, valid_hash

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import asyncpg

    Database = asyncpg.Connection[asyncpg.Record] | asyncpg.Pool[asyncpg.Record]

Thumbnail = tuple[int, int, str]
"""Width, height, and `crop` or `scale`."""

COMMON_THUMBNAILS: tuple[Thumbnail, ...] = ((32, 32, "crop"), (96, 96, "crop"), (640, 480, "scale"))
"""Those that dendrite makes unasked, as it is set up by default."""


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """What `DendriteStore.add` made."""

    key: MediaKey
    base64hash: str
    content: bytes

    @property
    def uri(self) -> str:
        return self.key.uri


class ThumbnailRow(NamedTuple):
    """A row of `mediaapi_thumbnail`, whole."""

    media_id: str
    media_origin: str
    width: int
    height: int
    resize_method: str
    content_type: str
    file_size_bytes: int
    creation_ts: int

    @property
    def key(self) -> MediaKey:
        return MediaKey(self.media_id, self.media_origin)

    @property
    def file_name(self) -> str:
        return f"thumbnail-{self.width}x{self.height}-{self.resize_method}"


def hash_of(content: bytes) -> str:
    """The base64hash that dendrite gives to a content."""
    return urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


class DendriteStore:
    """A store in a database and a media directory; everything that is added is there at once.

    It remembers each file that it wrote, so that `broken_references` can tell what a row has lost.
    """

    def __init__(self, database: Database, media_path: Path, server_name: str = "here.test") -> None:
        self.server_name = server_name
        self.media_path = media_path
        self._database = database
        self._added = 0
        self._written: dict[str, bytes] = {}

    async def add(
        self,
        *,
        media_id: str | None = None,
        origin: str = "there.test",
        content: bytes | None = None,
        age: timedelta = timedelta(days=100),
        created_ms: int | None = None,
        thumbnails: Iterable[Thumbnail] = (),
        user_id: str = "",
        upload_name: str = "picture.png",
        content_type: str = "image/png",
        size: int | None = None,
        base64hash: str | None = None,
        file: bool = True,
    ) -> StoredMedia:
        """Add one media row, with its file and thumbnails as dendrite would (none without `file`).

        Without `content` it gets one that no other key has; `base64hash` and `size` say something else than
        the content does. With an invalid hash there are no files.
        """
        self._added += 1
        key = MediaKey(f"media{self._added:04d}" if media_id is None else media_id, origin)
        content = hashlib.sha512(key.uri.encode()).digest() * 3 if content is None else content
        base64hash = hash_of(content) if base64hash is None else base64hash
        if created_ms is None:
            created_ms = int((datetime.now(UTC) - age).timestamp() * 1000)
        size = len(content) if size is None else size
        row = (*key, content_type, size, created_ms, upload_name, base64hash, user_id)
        await self._database.execute(
            "INSERT INTO mediaapi_media_repository (media_id, media_origin, content_type, file_size_bytes,"
            " creation_ts, upload_name, base64hash, user_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            *row,
        )
        if file and valid_hash(base64hash):
            self.write_file(base64hash, "file", content)
        media = StoredMedia(key, base64hash, content)
        for thumbnail in thumbnails:
            await self.add_thumbnail(media, thumbnail, created_ms=created_ms, file=file)
        return media

    async def add_thumbnail(
        self,
        media: StoredMedia,
        thumbnail: Thumbnail,
        *,
        created_ms: int | None = None,
        size: int | None = None,
        row: bool = True,
        file: bool = True,
    ) -> None:
        """Add a thumbnail's row and its file, or only one of them; media of one content share the file."""
        width, height, method = thumbnail
        name = f"thumbnail-{width}x{height}-{method}"
        content = f"{name} of {media.base64hash}".encode()
        if file and valid_hash(media.base64hash):
            self.write_file(media.base64hash, name, content)
        if row:
            if created_ms is None:
                created_ms = int(datetime.now(UTC).timestamp() * 1000)
            size = len(content) if size is None else size
            await self._database.execute(
                "INSERT INTO mediaapi_thumbnail (media_id, media_origin, content_type, file_size_bytes,"
                " creation_ts, width, height, resize_method) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                *(*media.key, "image/jpeg", size, created_ms, width, height, method),
            )

    async def add_profile(self, localpart: str, avatar_url: str | None, *, display_name: str = "") -> None:
        """Set a local user's profile."""
        await self._database.execute(
            "INSERT INTO userapi_profiles (localpart, server_name, display_name, avatar_url)"
            " VALUES ($1, $2, $3, $4)"
            " ON CONFLICT (localpart, server_name) DO UPDATE SET avatar_url = EXCLUDED.avatar_url",
            *(localpart, self.server_name, display_name or localpart, avatar_url),
        )

    async def add_account_data(
        self, localpart: str, event_type: str, content: dict[str, Any] | str, *, room_id: str = ""
    ) -> None:
        """Set a local user's account data; a text is stored as it is, JSON or not."""
        text = content if isinstance(content, str) else json.dumps(content)
        await self._database.execute(
            "INSERT INTO userapi_account_datas (localpart, server_name, room_id, type, content)"
            " VALUES ($1, $2, $3, $4, $5)"
            " ON CONFLICT (localpart, server_name, room_id, type) DO UPDATE SET content = EXCLUDED.content",
            *(localpart, self.server_name, room_id, event_type, text),
        )

    async def add_state_event(
        self,
        room_id: str,
        event_type: str,
        state_key: str,
        content: dict[str, Any] | str,
        *,
        sender: str = "@admin:there.test",
        previous: dict[str, Any] | None = None,
        sent_at: int | str | None = None,
        added_at: int = 1,
    ) -> None:
        """Set one piece of a room's state, in the place of what was there.

        `content` as a text is the whole event, JSON or not; `previous` is the content that dendrite keeps
        beside it under `unsigned`; `sent_at` is the time in milliseconds that the event claims, `added_at` its place
        in the stream of events.
        """
        event_id = f"${hash_of(repr((room_id, event_type, state_key, content, previous)).encode())}"
        event: dict[str, Any] = {"room_id": room_id, "type": event_type, "state_key": state_key}
        event |= {"sender": sender, "content": content, "_event_id": event_id}
        if sent_at is not None:
            event["origin_server_ts"] = sent_at
        if previous is not None:
            event["unsigned"] = {"prev_content": previous, "prev_sender": sender}
        membership = content.get("membership") if isinstance(content, dict) else None
        await self._database.execute(
            "INSERT INTO syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key,"
            " headered_event_json, membership, added_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            " ON CONFLICT (room_id, type, state_key) DO UPDATE SET event_id = EXCLUDED.event_id,"
            " added_at = EXCLUDED.added_at, sender = EXCLUDED.sender, headered_event_json = EXCLUDED.headered_event_json,"
            " membership = EXCLUDED.membership",
            *(room_id, event_id, event_type, sender, event_type == "m.room.avatar", state_key),
            *(content if isinstance(content, str) else json.dumps(event), membership, added_at),
        )

    async def add_invite(
        self,
        room_id: str,
        user_id: str,
        *state: dict[str, Any],
        answered: bool = False,
        event: str | None = None,
    ) -> None:
        """Invite a local user; `state` is what the inviting server sends along, `event` a whole event as a text."""
        content = {"membership": "invite"}
        whole = {"room_id": room_id, "type": "m.room.member", "state_key": user_id, "content": content}
        text = json.dumps(whole | {"unsigned": {"invite_room_state": state}}) if event is None else event
        await self._database.execute(
            "INSERT INTO syncapi_invite_events (event_id, room_id, target_user_id, headered_event_json, deleted)"
            " VALUES ($1, $2, $3, $4, $5)",
            *(f"${hash_of(text.encode())}", room_id, user_id, text, answered),
        )

    async def add_room(self, room_id: str, *memberships: tuple[bool, int]) -> None:
        """Let dendrite know a room: each member is local or not, and 1 (left), 2 (invited) or 3 (joined)."""
        room = await self._database.fetchval(
            "INSERT INTO roomserver_rooms (room_id, room_version) VALUES ($1, '10') RETURNING room_nid",
            room_id,
        )
        for number, (is_local, membership) in enumerate(memberships):
            await self._database.execute(
                "INSERT INTO roomserver_membership (room_nid, target_nid, target_local, membership_nid)"
                " VALUES ($1, $2, $3, $4)",
                *(room, number, is_local, membership),
            )

    async def add_event(
        self,
        room_id: str,
        content: dict[str, Any] | str,
        *,
        event_type: str = "m.room.message",
        sender: str = "@admin:there.test",
        state_key: str | None = None,
        sent_at: int | None = None,
    ) -> str:
        """Add an event to a room's timeline, and return its ID; `content` as a text is the whole event, JSON or not.

        With a `state_key` it is one of the room's state, as it was at some time; `sent_at` is the time that it claims.
        """
        event_id = f"${hash_of(repr((room_id, event_type, sender, content)).encode())}"
        event: dict[str, Any] = {
            "room_id": room_id,
            "type": event_type,
            "sender": sender,
            "content": content,
        }
        if sent_at is not None:
            event["origin_server_ts"] = sent_at
        if state_key is not None:
            event["state_key"] = state_key
        await self._database.execute(
            "INSERT INTO syncapi_output_room_events (event_id, room_id, headered_event_json, type, sender,"
            " contains_url) VALUES ($1, $2, $3, $4, $5, $6)",
            *(event_id, room_id, content if isinstance(content, str) else json.dumps(event)),
            *(event_type, sender, isinstance(content, dict) and "url" in content),
        )
        return event_id

    def path_of(self, base64hash: str) -> Path:
        """The directory of a blob; `file` and the thumbnails lie in it."""
        return self.media_path / base64hash[0] / base64hash[1] / base64hash[2:]

    def write_file(self, base64hash: str, name: str, content: bytes) -> None:
        """Put a file where dendrite would; one that is there already stays, as with dendrite."""
        path = self.media_path
        for part in self.path_of(base64hash).relative_to(path).parts:
            path /= part
            if not path.is_dir():
                path.mkdir()
                path.chmod(0o750)
        if not (path / name).exists():
            (path / name).write_bytes(content)
        self._written[str((path / name).relative_to(self.media_path))] = (path / name).read_bytes()

    async def rows(self) -> dict[MediaKey, MediaRow]:
        """All media rows."""
        records = await self._database.fetch(
            "SELECT media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash,"
            " user_id FROM mediaapi_media_repository"
        )
        return {row.key: row for row in (MediaRow(*record) for record in records)}

    async def thumbnail_rows(self) -> list[ThumbnailRow]:
        """All thumbnail rows, sorted."""
        records = await self._database.fetch(
            f"SELECT {', '.join(ThumbnailRow._fields)} FROM mediaapi_thumbnail"
        )
        return sorted(ThumbnailRow(*record) for record in records)

    def files(self) -> dict[str, bytes]:
        """All files by their path below the media directory; what is ours, `.retentiond`, is left out."""
        found = {}
        for path in self.media_path.rglob("*"):
            relative = path.relative_to(self.media_path)
            if relative.parts[0] != ".retentiond" and path.is_file():
                found[str(relative)] = path.read_bytes()
        return found

    def left_of_ours(self) -> list[str]:
        """Every file below `.retentiond` but the mark: what lies in quarantine, and what lies there by mistake."""
        own = self.media_path / ".retentiond"
        found = [str(path.relative_to(own)) for path in own.rglob("*") if not path.is_dir()]
        return sorted(path for path in found if path != "store")

    def copied_to(self, database: Database, media_path: Path) -> DendriteStore:
        """Return the same store elsewhere, with the same knowledge of what each file must hold."""
        copy = DendriteStore(database, media_path, self.server_name)
        copy._added, copy._written = self._added, dict(self._written)
        return copy

    def written(self, base64hash: str, name: str = "file") -> bytes:
        """What was once written to a blob's file."""
        return self._written[self._name(base64hash, name)]

    def remember_files(self) -> None:
        """Take note of what lies there now, for a store that was not made by `add`."""
        self._written |= self.files()

    async def broken_references(self) -> list[str]:
        """Every row, of media or of a thumbnail, whose file was written once and is not there, whole, now.

        It asks the tables and the disk, and knows of nothing else. Empty is well.
        """
        there = self.files()
        rows = await self.rows()
        wanted = {f"row {row.key.uri}": self._name(row.base64hash, "file") for row in rows.values()}
        for thumbnail in await self.thumbnail_rows():
            if thumbnail.key in rows:
                base64hash = rows[thumbnail.key].base64hash
                name = f"thumbnail row {thumbnail.key.uri} {thumbnail.file_name}"
                wanted[name] = self._name(base64hash, thumbnail.file_name)
        return [
            f"{who}: {path} is {'damaged' if path in there else 'missing'}"
            for who, path in wanted.items()
            if path in self._written and there.get(path) != self._written[path]
        ]

    async def dead_references(self) -> list[str]:
        """Every row, of media or of a thumbnail, that dendrite answers with 404, whoever wrote its file. Empty is well.

        It asks the tables and the disk, and knows of nothing else, not even what was written once.
        """
        sizes = {path: len(content) for path, content in self.files().items()}
        rows = await self.rows()
        wanted = [
            (row.key.uri, self._name(row.base64hash, "file"), row.file_size_bytes) for row in rows.values()
        ]
        for thumbnail in await self.thumbnail_rows():
            if thumbnail.key in rows:
                path = self._name(rows[thumbnail.key].base64hash, thumbnail.file_name)
                wanted.append((f"{thumbnail.key.uri} {thumbnail.file_name}", path, thumbnail.file_size_bytes))
        return [f"{who}: {path}" for who, path, size in wanted if sizes.get(path) != size]

    async def orphan_files(self) -> list[str]:
        """Every file below a blob's path that no media row stands for, sorted."""
        blobs = {self._name(row.base64hash, "") for row in (await self.rows()).values()}
        return sorted(path for path in self.files() if path.rpartition("/")[0] + "/" not in blobs)

    async def orphan_thumbnail_rows(self) -> list[ThumbnailRow]:
        """Every thumbnail row that has no media row, sorted."""
        rows = await self.rows()
        return [thumbnail for thumbnail in await self.thumbnail_rows() if thumbnail.key not in rows]

    def _name(self, base64hash: str, name: str) -> str:
        return f"{base64hash[:1]}/{base64hash[1:2]}/{base64hash[2:]}/{name}"
