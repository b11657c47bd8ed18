"""What profiles, room state and account data refer to stays, however it is written; what they no longer do, goes."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from retentiond.model.protections import PROTECT
from retentiond.targets.dendrite_media.references.sources import ROOM_SQL, SQL, prepare

if TYPE_CHECKING:
    import asyncpg

    from retentiond.model.report import Item
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

ROOM = "!room:there.test"


def fates(items: list[Item]) -> dict[str, str]:
    """What becomes of each medium: the reason why it stays, or `due`."""
    return {item.media: item.reason for item in items}


async def planned(retention: Retention, **keys: Any) -> dict[str, str]:
    report, items = await retention.one_plan(**keys)
    assert report.refused is None
    return fates(items)


async def test_a_member_event_is_room_state_like_any_other_but_for_its_avatar(
    store: DendriteStore, retention: Retention
) -> None:
    avatar, banner = await store.add(), await store.add()
    content = {"avatar_url": avatar.uri, "org.example.banner": [{"picture": banner.uri}]}
    await store.add_state_event(ROOM, "m.room.member", "@b:there.test", content)
    assert await planned(retention) == {avatar.uri: "profile_avatars", banner.uri: "room_state"}
    assert await planned(retention, protect=["room_state"]) == {
        avatar.uri: "due",
        banner.uri: "room_state",
    }


def disguises(uri: str) -> dict[str, str]:
    """Ways to refer to a medium in the text of an event, JSON or not."""
    slashes = uri.replace("/", "\\/")
    letters = "".join(f"\\u{ord(char):04x}" for char in uri)
    capitals = uri.replace("mxc:", "\\u006D\\u0078c\\u003A")
    entities = uri.replace(":", "&#58;").replace("/", "&#x2F;")
    names = f'{{"state_key": "", "content": {{"{uri}": 1}}}}'
    return {
        "escaped slashes": f'{{"content": {{"url": "{slashes}"}}}}',
        "escaped letters": f'{{"content": {{"url": "{letters}"}}}}',
        "some letters": f'{{"content": {{"url": "{capitals}"}}}}',
        "a key": names,
        "deep inside": '{"content": ' + '{"a": [' * 50 + f'"{uri}"' + "]}" * 50 + "}",
        "in a text": f'{{"content": {{"body": "see {uri}, and \\"{uri}x\\""}}}}',
        "in markup": f'{{"content": {{"b": "<img src=\'{uri}\'>"}}}}',
        "after another": f'{{"content": {{"b": "mxc://x.test/a,{uri},mxc://x.test/b"}}}}',
        "with a query": f'{{"content": {{"url": "{uri}?width=1#x"}}}}',
        "in JSON in a text": json.dumps({"content": {"x": f'{{"url":"{slashes}"}}'}}),
        "in JSON in JSON in a text": json.dumps({"content": {"x": json.dumps({"y": f'["{slashes}"]'})}}),
        "in a link's query": f'{{"content": {{"url": "https://x.test/?a={quote(uri, safe="")}&b=1"}}}}',
        "in markup that escapes all": f'{{"content": {{"b": "<img src=\'{entities}\'>"}}}}',
        "a huge text": f'{{"content": {{"b": "{"x" * 200_000}", "url": "{uri}"}}}}',
        "no JSON": f'{{"content": {{"url": "{uri}"',
        "no JSON, escaped": f'{{"content": {{"url": "{letters}"',
        "no JSON, slashes": f'{{"content": {{"url": "{slashes}"',
        "a NUL": f'{{"content": {{"url": "{uri}", "b": "\\u0000"}}}}',
        "a NUL, escaped": f'{{"content": {{"url": "{slashes}", "b": "\\u0000"}}}}',
        "half a surrogate": f'{{"content": {{"url": "{letters}", "b": "\\ud800"}}}}',
        "no object": f'{{"content": ["{uri}"]}}',
        "a text as content": f'{{"content": "{uri}"}}',
        "no content": f'{{"url": "{uri}"}}',
        "no event": f'"{uri}"',
        "too deep to parse": "[" * 100_000 + f'"{uri}"',
        "keys too long for an index": f'{{"content": {{"b": "mxc://x.test/{secrets.token_hex(4000)}",'
        f' "c": "mxc://x.test/{secrets.token_hex(4000)}.", "url": "{uri}"}}}}',
    }


async def test_no_disguise_hides_a_reference(store: DendriteStore, retention: Retention) -> None:
    ways = list(disguises(""))
    in_state = {way: await store.add() for way in ways}
    of_members = {way: await store.add() for way in ways}
    in_data = {way: await store.add() for way in ways}
    for way in ways:
        await store.add_state_event(ROOM, "x", way, disguises(in_state[way].uri)[way])
        await store.add_state_event(ROOM, "m.room.member", way, disguises(of_members[way].uri)[way])
        await store.add_account_data("ann", way, disguises(in_data[way].uri)[way])
    found = await planned(retention)
    assert {way for way in ways if found[in_state[way].uri] == "due"} == set()
    assert {way for way in ways if found[of_members[way].uri] == "due"} == set()
    assert {way for way in ways if found[in_data[way].uri] == "due"} == set()
    report = await retention.one_pass()
    assert (report.refused, report.removed_items) == (None, 0)


@pytest.mark.parametrize("origin", ["there.test", "[2001:db8::1]:8448"])
async def test_what_an_id_and_an_origin_may_hold_is_found_also_where_it_is_escaped(
    store: DendriteStore, retention: Retention, origin: str
) -> None:
    def ways(uri: str) -> dict[str, str]:
        entities = uri.replace("/", "&#047;").replace("=", "&equals;").replace("[", "&#x5b;")
        return {
            "a link's query": f"https://x.test/?a={quote(uri, safe='')}",
            "a link in a link's query": f"https://x.test/?a={quote(quote(uri, safe=''), safe='')}",
            "JSON that spares markup": json.dumps({"url": uri}).replace("=", "\\u003d"),
            "JSON that spares all": json.dumps({"url": uri}).replace("/", "\\u002f").replace(":", "\\u003A"),
            "markup": f"<img src='{entities}'>",
        }

    media = {
        way: await store.add(media_id=f"m{number}==", origin=origin) for number, way in enumerate(ways(""))
    }
    for way, medium in media.items():
        await store.add_state_event(ROOM, "x", way, {"text": ways(medium.uri)[way]})
    found = await planned(retention)
    assert {way for way, medium in media.items() if found[medium.uri] == "due"} == set()


async def test_an_avatar_is_protected_by_its_own_source_alone_when_it_does_not_parse(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_state_event(ROOM, "m.room.member", "@a:b", f'{{"content": {{"avatar_url": "{media.uri}"')
    for name in ("profile_avatars", "room_state"):
        assert await planned(retention, protect=[name]) == {media.uri: name}


async def test_state_that_does_not_parse_is_no_avatar_but_where_nothing_else_would_keep_what_it_mentions(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_state_event(ROOM, "m.room.topic", "", f"no JSON: {media.uri}")
    assert await planned(retention) == {media.uri: "room_state"}
    assert await planned(retention, protect=["profile_avatars"]) == {media.uri: "profile_avatars"}


@pytest.mark.parametrize(
    ("table", "keys", "next_step"),
    [
        ("userapi_profiles", {}, "databases: {user_api: ...}"),
        ("syncapi_current_room_state", {}, "GRANT SELECT ON syncapi_current_room_state"),
        ("userapi_account_datas", {"protect": ["account_data"]}, "databases: {user_api: ...}"),
        ("syncapi_output_room_events", {"messages_in": ["joined_rooms"]}, "databases: {sync_api: ...}"),
        ("roomserver_membership", {"messages_in": ["joined_rooms"]}, "databases: {room_server: ...}"),
    ],
)
async def test_a_source_that_cannot_be_read_refuses_and_never_advises_to_protect_less(
    store: DendriteStore, connection: Connection, retention: Retention, table: str,
    keys: dict[str, Any], next_step: str,
) -> None:  # fmt: skip
    await store.add()
    await connection.execute(f"ALTER TABLE {table} RENAME TO gone")
    report = await retention.one_pass(**keys)
    assert report.refused is not None
    assert report.refused.limit == "protection_unreadable"
    assert table in str(report.refused.value)
    assert next_step in report.refused.hint
    assert "leave" not in report.refused.hint
    assert len(await store.rows()) == 1


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("profiles", "userapi_profiles"),
        ("current_state", "syncapi_current_room_state"),
        ("accounts", "userapi_account_datas"),
        ("messages", "syncapi_output_room_events"),
    ],
)
async def test_a_source_reads_its_table_once_whatever_is_asked_of_it(
    connection: Connection, query: str, table: str
) -> None:
    await prepare(connection)
    await connection.execute(SQL["make_servers"])
    await connection.execute(ROOM_SQL["make_room_kinds"])
    every = [*PROTECT, "messages", "messages_in", "room:upgraded"]
    lines = await connection.fetch(f"EXPLAIN (FORMAT JSON) {SQL[query]}", every)
    assert re.findall(r'"Relation Name": "(\w+api_\w+)"', lines[0][0]) == [table]
