"""What a plan of chats, and a purge, show on a terminal: entities, stores and dates, and no tables of zeros."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console

from retentiond.engine.target import NullProgress
from retentiond.targets.chat_database.target import open_chat_database
from retentiond.terminal.account import show_pass
from retentiond.terminal.purge import show_purge
from tests.support.chats import OLD, ChatStore
from tests.support.secondary import STORES, Beside


async def shown_plan(chats: ChatStore, **changes: Any) -> str:
    account = {"schema": chats.schema, "keep": "400d", "clickhouse": "clickhouse" in changes}
    async with open_chat_database("chats", chats.config(accounts={"testcom": account}, **changes)) as target:
        report = await target.plan(None, NullProgress())
    out = io.StringIO()
    show_pass(Console(file=out, width=120), report, ("Nothing was changed.",))
    return out.getvalue()


async def shown_purge(chats: ChatStore, **given: Any) -> str:
    report = await chats.purge(**given)
    out = io.StringIO()
    show_purge(Console(file=out, width=120), report, ())
    return out.getvalue()


async def test_a_plan_shows_the_date_the_rows_of_each_entity_and_each_store(
    chats: ChatStore, stores: Beside
) -> None:
    await chats.chat(session=await chats.session())
    await chats.chat(created=datetime.now(UTC), modified=datetime.now(UTC), messages=())
    stores.has = [1]
    shown = await shown_plan(chats, clickhouse=STORES["clickhouse"])
    day = (datetime.now(UTC) - timedelta(days=400)).date()
    assert f"testcom, up to {day}: dry run" in shown
    assert "chatmessage" in shown
    assert "clickhouse: planned, 7 rows" in shown
    assert "Complete chats to be deleted: 1 of 2." in shown


async def test_a_plan_without_anything_due_shows_no_table_of_zeros(chats: ChatStore) -> None:
    await chats.chat(created=datetime.now(UTC), modified=datetime.now(UTC), messages=())
    shown = await shown_plan(chats)
    assert "Complete chats to be deleted: 0 of 1." in shown
    assert "To be deleted" not in shown
    assert "rows" not in shown


async def test_a_plan_of_accounts_without_a_keep_says_that_nothing_is_due(chats: ChatStore) -> None:
    await chats.chat()
    async with open_chat_database("chats", chats.config()) as target:
        report = await target.plan(None, NullProgress())
    out = io.StringIO()
    show_pass(Console(file=out, width=120), report, ())
    assert out.getvalue().splitlines() == ["chats: the plan", "Nothing to delete.", ""]


async def test_under_a_refusal_there_are_no_numbers_of_nothing(chats: ChatStore) -> None:
    await chats.chat()
    shown = await shown_purge(chats, to_date=datetime.now(UTC).date())
    assert "floor" in shown
    assert "of 0" not in shown
    assert "rows" not in shown


async def test_what_the_database_says_over_several_lines_is_one_sentence(chats: ChatStore) -> None:
    chat = await chats.chat(messages=(OLD,))
    await chats.refuse_deletes("chatrate", chat, "first line\nand a second")
    shown = await shown_purge(chats)
    assert "first line and a second" in shown
    assert "u{0A}" not in shown
