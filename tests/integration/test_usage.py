"""The usage of a media store's space: the rows of each division, and their sums."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

import asyncpg
import pytest

from retentiond.engine.target import NullProgress
from retentiond.model.errors import UnreachableError
from retentiond.model.usage import (
    LONGEST_KEY,
    NOT_KNOWN,
    OTHERS,
    SEVERAL_ROOMS,
    SEVERAL_USERS,
    UsageBy,
    UsageRow,
    usage_document,
)
from retentiond.report.page import render
from retentiond.report.target_report import collect
from tests.support.chance import AGAIN, SEED
from tests.support.media_target import configure, media_target
from tests.support.store import COMMON_THUMBNAILS, DendriteStore

if TYPE_CHECKING:
    from retentiond.targets.dendrite_media.target import DendriteMedia
    from tests.support.database import DatabaseServer
    from tests.support.media_target import Retention
    from tests.support.store import StoredMedia

    Connection = asyncpg.Connection[asyncpg.Record]

_DIVISIONS: tuple[UsageBy, ...] = ("server", "room", "user", "type", "age", "file")
_BY_EVENTS: tuple[UsageBy, ...] = ("room", "user")
_HOUR = timedelta(hours=1)
_ROOMS = ("!one:here.test", "!two:there.test", "!three:here.test")
_SENDERS = ("@ann:here.test", "@bob:there.test", "@cat:far.test")


class Oracle:
    """The store as a reader of its events knows it."""

    def __init__(self) -> None:
        self.media: list[StoredMedia] = []
        self.uploaders: dict[str, str] = {}
        self.types: dict[str, str] = {}
        self.shown: dict[str, set[tuple[str, str]]] = {}
        self.thumbnails: dict[str, set[tuple[int, int, str]]] = {}

    def size(self, blob: str) -> int:
        content = next(media.content for media in self.media if media.base64hash == blob)
        thumbnails = (
            len(f"thumbnail-{width}x{height}-{method} of {blob}")
            for width, height, method in self.thumbnails[blob]
        )
        return len(content) + sum(thumbnails)

    def expected(self, by: str) -> dict[str, tuple[int, int]]:
        """Return the items and bytes of each key; the media are in the order of their age, the oldest first."""
        items: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        counted: set[str] = set()
        for media in self.media:
            key = getattr(self, f"_{by}")(media)
            items[key] += 1
            if media.base64hash not in counted:
                counted.add(media.base64hash)
                sizes[key] += self.size(media.base64hash)
        return {key: (items[key], sizes[key]) for key in items}

    def _server(self, media: StoredMedia) -> str:
        return media.key.media_origin

    def _type(self, media: StoredMedia) -> str:
        return self.types[media.uri] or NOT_KNOWN

    def _room(self, media: StoredMedia) -> str:
        return self._of({room for room, _ in self.shown.get(media.uri, ())}, SEVERAL_ROOMS)

    def _user(self, media: StoredMedia) -> str:
        if uploader := self.uploaders[media.uri]:
            return uploader
        return self._of({sender for _, sender in self.shown.get(media.uri, ())}, SEVERAL_USERS)

    def _of(self, names: set[str], several: str) -> str:
        return next(iter(names)) if len(names) == 1 else several if names else NOT_KNOWN

    def _file(self, media: StoredMedia) -> str:
        return next(first.uri for first in self.media if first.base64hash == media.base64hash)


async def filled(store: DendriteStore, chance: random.Random) -> Oracle:
    """Add media that share contents, and events that show some of them, of messages and of states of rooms."""
    oracle = Oracle()
    contents = [chance.randbytes(chance.randrange(1, 5000)) for _ in range(25)]
    for number in range(40):
        local = chance.random() < 0.3
        uploader = chance.choice(["@ann:here.test", "@dan:here.test"]) if local else ""
        thumbnails = [thumbnail for thumbnail in COMMON_THUMBNAILS if chance.random() < 0.3]
        content_type = chance.choice(["video/mp4", "image/png", ""])
        media = await store.add(
            origin="here.test" if local else chance.choice(["there.test", "far.test"]),
            user_id=uploader,
            content=chance.choice(contents),
            content_type=f" {content_type.upper()} ; a=b" if content_type else "",
            age=(2000 - number) * _HOUR,
            thumbnails=thumbnails,
        )
        oracle.media.append(media)
        oracle.uploaders[media.uri] = uploader
        oracle.types[media.uri] = content_type
        oracle.thumbnails.setdefault(media.base64hash, set()).update(thumbnails)
    for number in range(40):
        media, room, sender = chance.choice(oracle.media), chance.choice(_ROOMS), chance.choice(_SENDERS)
        if chance.random() < 0.7:
            await store.add_event(room, {"body": f"{number}", "url": media.uri}, sender=sender)
        else:
            await store.add_state_event(
                room, "m.room.member", f"@{number}:far.test", {"avatar_url": media.uri}, sender=sender
            )
        oracle.shown.setdefault(media.uri, set()).add((room, sender))
    # What an encrypted message shows cannot be seen, and a mention beside an event's content shows nothing.
    await store.add_event(_ROOMS[0], {"ciphertext": "AwgAEnACgAkLmt6q"}, event_type="m.room.encrypted")
    return oracle


async def usage(target: DendriteMedia, by: UsageBy, top: int = 1000) -> list[UsageRow]:
    return await target.usage(by, top, NullProgress())


def by_key(rows: list[UsageRow]) -> dict[str, tuple[int, int]]:
    found = {row.key: (row.items, row.bytes) for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("run", range(2))
async def test_each_division_of_a_store_names_what_a_reader_of_its_tables_and_events_counts(
    retention: Retention, store: DendriteStore, run: int
) -> None:
    oracle = await filled(store, random.Random(f"{SEED} {run}"))
    async with retention.opened() as target:
        assert target.divisions == _DIVISIONS
        for by in _DIVISIONS:
            if by == "age":
                continue
            assert by_key(await usage(target, by)) == oracle.expected(by), (by, AGAIN)


async def test_the_rows_of_each_division_sum_up_to_the_store_however_few_are_named(
    retention: Retention, store: DendriteStore
) -> None:
    await filled(store, random.Random(SEED))
    on_disk = sum(len(content) for content in store.files().values())
    async with retention.opened() as target:
        for by in target.divisions:
            for top in (1, 2, 3, 1000):
                rows = await usage(target, by, top)
                assert (sum(row.items for row in rows), sum(row.bytes for row in rows)) == (40, on_disk), (
                    AGAIN
                )
                named = [row for row in rows if row.key != OTHERS]
                assert len(named) <= top
                assert rows == named or rows[-1].key == OTHERS
                if by != "age":
                    assert named == sorted(named, key=lambda row: (-row.bytes, -row.items)), (by, AGAIN)


async def test_the_ages_are_those_of_the_report_in_their_order(
    retention: Retention, store: DendriteStore
) -> None:
    for age in (400, 1, 20, 1):
        await store.add(age=timedelta(days=age))
    async with retention.opened() as target:
        rows = await usage(target, "age")
        report = (await target.statistics(NullProgress())).by_age
    assert [(row.key, row.items) for row in rows] == [
        ("up to a week", 2),
        ("up to a month", 1),
        ("older than that", 1),
    ]
    assert [(part.name, part.items, part.bytes) for part in report] == [
        (row.key, row.items, row.bytes) for row in rows
    ]


async def test_a_redacted_event_and_an_empty_store_show_nothing(
    retention: Retention, store: DendriteStore
) -> None:
    async with retention.opened() as target:
        for by in target.divisions:
            assert await usage(target, by) == []
        await store.add()
        await store.add_event(_ROOMS[0], {})
        assert [row.key for row in await usage(target, "room")] == [NOT_KNOWN]


async def test_a_name_of_a_stranger_is_no_name_of_ours_and_has_a_bound(
    retention: Retention, store: DendriteStore
) -> None:
    long = "a" * 2000
    await store.add(content=b"1", origin="(others)")
    await store.add(content=b"22", origin="\\(others)")
    await store.add(content=b"333", origin=f"{long}.one")
    await store.add(content=b"4444", origin=f"{long}.two", content_type="x" * 100_000)
    async with retention.opened() as target:
        keys = [row.key for row in await usage(target, "server")]
        types = [row.key for row in await usage(target, "type", 1)]
        files = [row.key for row in await usage(target, "file")]
    assert keys[2:] == ["\\\\(others)", "\\(others)"]
    assert len(set(keys)) == 4
    assert all(len(key) <= LONGEST_KEY and key.startswith("aaa") for key in keys[:2])
    assert all(len(key) <= LONGEST_KEY for key in types + files)
    assert len(set(files)) == 4


async def test_names_of_100_kb_make_no_large_document_and_no_large_page(
    retention: Retention, store: DendriteStore
) -> None:
    """A thousand files with such IDs were 26 MB of `usage --by file`."""
    for number in range(40):
        long = chr(97 + number % 26) * 100_000 + str(number)
        await store.add(media_id=long, origin=f"{long}.test", content_type=long, file=False)
        await store.add(origin="here.test", user_id=f"@{long}:here.test", file=False)
        # An event has at most 64 KiB.
        await store.add_event(f"!{long[-60_000:]}", {"body": f"{number}"}, sender=f"@{long[-60_000:]}")
    async with retention.opened() as target:
        for by in _DIVISIONS:
            document = json.dumps(usage_document([("media", by, await usage(target, by, 1000))]))
            assert len(document) < 100_000, by
        config = media_target(configure(retention.database, retention.media_path))
        page = render(
            [await collect(target, config, datetime.now(UTC), NullProgress())], datetime.now(UTC), "1"
        )
    assert len(page.encode()) < 300_000


async def test_events_that_cannot_be_read_are_an_error_with_the_next_step_and_other_divisions_need_none(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    await connection.execute("ALTER TABLE syncapi_output_room_events RENAME TO elsewhere")
    async with retention.opened() as target:
        for by in _BY_EVENTS:
            with pytest.raises(
                UnreachableError,
                match=r"^syncapi_output_room_events, .* let this role read syncapi_output_room_events",
            ):
                await usage(target, by)
        for by in set(_DIVISIONS) - set(_BY_EVENTS):
            assert sum(row.items for row in await usage(target, by)) == 1


async def test_events_in_a_database_of_their_own_are_read_from_there(
    retention: Retention, store: DendriteStore, postgres: DatabaseServer
) -> None:
    shown = await store.add()
    url = await postgres.clone()
    try:
        elsewhere = await asyncpg.connect(url)
        await DendriteStore(elsewhere, store.media_path).add_event(
            _ROOMS[0], {"url": shown.uri}, sender=_SENDERS[1]
        )
        await elsewhere.close()
        async with retention.opened(databases={"sync_api": url}) as target:
            assert [row.key for row in await usage(target, "room")] == [_ROOMS[0]]
            assert [row.key for row in await usage(target, "user")] == [_SENDERS[1]]
        async with retention.opened() as target:
            assert [row.key for row in await usage(target, "room")] == [NOT_KNOWN]
    finally:
        await postgres.drop(url)


def test_each_division_of_media_is_known() -> None:
    assert set(_DIVISIONS) < set(get_args(UsageBy))
