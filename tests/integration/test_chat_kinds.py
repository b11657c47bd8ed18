"""Messages with files stay unless they are asked for, however the product writes down which those are."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from tests.support.chats import ChatStore

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg


@pytest.fixture
async def chats(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> ChatStore:
    store = ChatStore(database, connection)
    await store.make()
    await connection.execute("CREATE TYPE pro.kind AS ENUM ('text', 'file')")
    return store


async def write(chats: ChatStore, kind: str, *values: str) -> int:
    """Add a chat with a message of each of these kinds, in a column of that type; return its id."""
    chat = await chats.chat(messages=())
    await chats.connection.execute(
        f"ALTER TABLE pro.chatmessage ALTER kind TYPE {kind} USING kind::text::{kind}"
    )
    for number, value in enumerate(values):
        await chats.connection.execute(
            f"INSERT INTO pro.chatmessage VALUES ({number}, {chat}, '{value}', 'hello', '2022-03-04Z')"
        )
    return chat


def layout(path: Path, values: str) -> str:
    """Write Webim's layout with other kinds, and return where."""
    webim = files("retentiond.targets.chat_database") / "layouts" / "webim.yaml"
    written = path / "layout.yaml"
    written.write_text(webim.read_text().replace("values: [13, 14]", f"values: {values}"))
    return str(written)


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        ("int", "[13, file]", "chatmessage.kind is integer, and cannot hold `file`"),
        ("pro.kind", "[files]", "chatmessage.kind is pro.kind, and cannot hold `files`"),
        ("boolean", "[1]", "chatmessage.kind is boolean, and cannot hold `1`"),
    ],
)
async def test_kinds_that_no_row_can_have_refuse_a_purge_that_would_take_files_for_text(
    chats: ChatStore, tmp_path: Path, kind: str, values: str, told: str
) -> None:
    await write(chats, kind)
    report = await chats.purge(layout=layout(tmp_path, values))
    assert report.refused is not None
    assert report.refused.value == told


@pytest.mark.parametrize("dry_run", [True, False])
async def test_words_in_the_place_of_the_layouts_numbers_refuse_a_purge_unless_files_are_to_go(
    chats: ChatStore, dry_run: bool
) -> None:
    chat = await write(chats, "text", "1", "file")
    report = await chats.purge(dry_run=dry_run)
    assert report.refused is not None
    assert report.refused.value == "chatmessage.kind has `file`"
    assert await chats.chats() == {chat}
    assert (await chats.purge(wish={"file_messages": True})).chats == 1


@pytest.mark.parametrize(
    ("kind", "values", "written"),
    [
        ("text", "[13, 14]", ("1", "13")),
        # A word beside them is one more kind.
        ("text", "[13, 14]", ("system", "13")),
        ("numeric(4, 1)", "[13, 14]", ("1", "13")),
        ("pro.kind", "[file]", ("text", "file")),
        ("boolean", "['true']", ("false", "true")),
    ],
)
async def test_a_message_with_a_file_stays_with_its_chats_row_whatever_holds_its_kind(
    chats: ChatStore, tmp_path: Path, kind: str, values: str, written: tuple[str, ...]
) -> None:
    chat = await write(chats, kind, *written)
    report = await chats.purge(layout=layout(tmp_path, values))
    assert (report.kept["has_file_messages"], report.entities["chatmessage"]) == (1, 1)
    assert await chats.chats() == {chat}
    assert await chats.ids("chatmessage", "messageid") == {1}
