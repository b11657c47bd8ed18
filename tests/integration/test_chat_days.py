"""Days and clocks in a purge of chats: where midnight comes twice, what each class's floor allows, and whose clock counts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database import target as chat_target
from retentiond.targets.chat_database.target import open_chat_database

if TYPE_CHECKING:
    from tests.support.chats import ChatStore

HAVANA: dict[str, Any] = {"timezone": "America/Havana"}
TWICE = date(2023, 11, 5)
"""In Havana it begins at 04:00 UTC; at 05:00 UTC it is midnight once more."""


@pytest.mark.parametrize(
    ("minutes", "narrowed", "held"),
    [
        (-1, {"begin": TWICE}, False),
        (0, {"begin": TWICE}, True),
        (30, {"begin": TWICE}, True),
        (-1, {"before": TWICE}, True),
        (0, {"before": TWICE}, False),
    ],
)
async def test_a_hold_from_a_day_whose_midnight_comes_twice_misses_its_first_hour(
    chats: ChatStore, minutes: int, narrowed: dict[str, Any], held: bool
) -> None:
    moment = datetime(2023, 11, 5, 4, tzinfo=UTC) + timedelta(minutes=minutes)
    await chats.chat(created=moment, modified=moment, messages=())
    async with open_chat_database("chats", chats.config(**HAVANA)) as target:
        request = HoldRequest(HoldSubject("account", "testcom", Narrowing(**narrowed)))
        _, coverage = await target.holds.add(request)
    assert coverage.items == held
    report = await chats.purge(date(2023, 11, 7), **HAVANA)
    assert (report.chats, report.kept["hold"]) == (not held, held)


async def test_by_schedule_the_day_is_by_the_databases_clock_as_the_floor_is(
    chats: ChatStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        """A clock that is a day ahead, as one that is a moment ahead is at midnight."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(days=1)

    monkeypatch.setattr(chat_target, "datetime", Ahead)
    report = await chats.run_pass(accounts={"testcom": {"schema": "pro", "keep": "365d"}})
    assert (report.state, report.refused) == ("finished", None)


@pytest.mark.parametrize(
    ("floor", "allowed"),
    [
        ({"messages": "183d", "facts": "183d"}, True),
        # A chat goes as a whole: the longest of its classes counts.
        ({"messages": "183d", "facts": "3y"}, False),
        ({"messages": "3y", "facts": "183d"}, False),
    ],
)
async def test_the_floor_of_each_class_of_what_goes_is_kept(
    chats: ChatStore, floor: dict[str, str], allowed: bool
) -> None:
    day = (datetime.now(UTC) - timedelta(days=200)).date()
    for dry_run in (True, False):
        report = await chats.purge(day, dry_run=dry_run, floor=floor)
        assert (report.refused is None) == allowed


async def test_the_first_of_all_days_purges_nothing_east_of_greenwich(chats: ChatStore) -> None:
    chat = await chats.chat()
    report = await chats.purge(date(1, 1, 1), timezone="Asia/Tokyo")
    assert (report.state, report.chats) == ("finished", 0)
    assert await chats.chats() == {chat}
