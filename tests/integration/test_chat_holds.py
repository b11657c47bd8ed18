"""Holds on accounts win over purges: one chat, one visitor, a range of days, or all of an account."""

from __future__ import annotations

from datetime import date, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.errors import UsageError
from retentiond.model.holds import Coverage, Hold, HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import OLD, ChatStore

if TYPE_CHECKING:
    from pathlib import Path


DAY = OLD.date()


async def hold(chats: ChatStore, account: str = "testcom", **narrowed: Any) -> tuple[Hold, Coverage]:
    request = HoldRequest(HoldSubject("account", account, Narrowing(**narrowed)))
    async with open_chat_database("chats", chats.config()) as target:
        return await target.holds.add(request)


async def release(chats: ChatStore, **narrowed: Any) -> list[Hold]:
    async with open_chat_database("chats", chats.config()) as target:
        return await target.holds.release([], HoldSubject("account", "testcom", Narrowing(**narrowed)), "")


@pytest.mark.parametrize(
    ("narrowed", "holds"),
    [
        ({}, True),
        ({"chat": "1"}, True),
        ({"chat": "2"}, False),
        ({"visitor": "1"}, True),
        ({"visitor": "2"}, False),
        ({"begin": DAY, "before": DAY + timedelta(days=1)}, True),
        ({"begin": DAY + timedelta(days=2)}, False),
        # Its last message is of the next day, and so is the chat.
        ({"begin": DAY + timedelta(days=1)}, True),
        ({"before": DAY}, False),
        ({"visitor": "1", "before": DAY}, False),
    ],
)
async def test_what_a_hold_covers_stays_whole_and_goes_once_it_is_released(
    chats: ChatStore, narrowed: dict[str, Any], holds: bool
) -> None:
    chat = await chats.chat(messages=(OLD, OLD + timedelta(days=1)))
    before = await chats.counts()
    _, coverage = await hold(chats, **narrowed)
    assert coverage.items == holds
    dry = await chats.purge(dry_run=True)
    assert dry.kept["hold"] == holds
    report = await chats.purge()
    assert (report.kept["hold"], report.chats) == (holds, not holds)
    if holds:
        assert await chats.counts() == before
        assert [one.subject.narrowed for one in await release(chats, **narrowed)] == [Narrowing(**narrowed)]
        assert (await chats.purge()).chats == 1
    else:
        assert chat not in await chats.chats()


async def test_a_hold_that_is_put_on_during_a_purge_holds_what_is_still_there(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retentiond.targets.chat_database.removal import Removal  # noqa: PLC0415 - beside its use

    first, second = await chats.chat(), await chats.chat()
    take = Removal._delete

    async def listen(self: Removal, survey: Any, page: Any, report: Any) -> None:
        await take(self, survey, page, report)
        if page[0][0] == first:
            await hold(chats, chat=str(second))

    monkeypatch.setattr(Removal, "_delete", listen)
    report = await chats.purge(pace={"batch": 1})
    assert (report.chats, report.kept["changed"]) == (1, 1)
    assert await chats.chats() == {second}


async def test_statistics_are_held_by_what_is_on_the_whole_account(chats: ChatStore) -> None:
    await chats.statistic(OLD, OLD)
    await hold(chats, chat="5")
    await hold(chats, begin=DAY, before=DAY + timedelta(days=1))
    wish = {"stats": True}
    assert (await chats.purge(wish=wish)).entities["chatstats"] == 0
    await release(chats, begin=DAY, before=DAY + timedelta(days=1))
    assert (await chats.purge(wish=wish)).entities["chatstats"] == 1


async def test_a_release_ends_the_hold_that_was_said_and_no_narrower_one(chats: ChatStore) -> None:
    await chats.chat()
    await hold(chats, chat="1")
    await hold(chats)
    assert len(await release(chats)) == 1
    assert (await chats.purge()).kept["hold"] == 1


async def test_a_hold_on_an_account_that_is_not_configured_is_a_slip(chats: ChatStore) -> None:
    with pytest.raises(UsageError, match="no account `testcon`"):
        await hold(chats, "testcon")


async def test_a_range_of_days_begins_in_the_targets_time_zone(chats: ChatStore) -> None:
    # In Moscow this is the third of March already.
    late = OLD.replace(day=2, hour=22)
    await chats.chat(created=late, modified=late, messages=(late,))
    await hold(chats, begin=date(2022, 3, 3))
    assert (await chats.purge(dry_run=True)).kept["hold"] == 0
    assert (await chats.purge(dry_run=True, timezone="Europe/Moscow")).kept["hold"] == 1


async def test_a_range_of_days_holds_a_chat_of_which_a_message_was_changed_then(
    chats: ChatStore, tmp_path: Path
) -> None:
    chat = await chats.chat(messages=(OLD,))
    await chats.connection.execute("ALTER TABLE pro.chatmessage ADD edited timestamptz")
    await chats.connection.execute("UPDATE pro.chatmessage SET edited = $1", OLD + timedelta(days=9))
    webim = files("retentiond.targets.chat_database") / "layouts" / "webim.yaml"
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        webim.read_text().replace("dates: [created]\n    # Rows", "dates: [created, edited]\n    # Rows")
    )
    await hold(chats, begin=DAY + timedelta(days=9), before=DAY + timedelta(days=10))
    assert (await chats.purge(layout=str(layout))).kept["hold"] == 1
    assert await chats.chats() == {chat}


@pytest.mark.parametrize("narrowed", [{"chat": "0012"}, {"visitor": "+7"}])
async def test_a_chat_or_visitor_in_another_spelling_than_the_tables_have_is_a_slip_and_no_hold(
    chats: ChatStore, narrowed: dict[str, str]
) -> None:
    with pytest.raises(UsageError, match=r"of type bigint has `.*` as `(12|7)`"):
        await hold(chats, **narrowed)
    assert await release(chats, **narrowed) == []
