"""How often a store is looked at while it works: soon at first, then at its own pace."""

from __future__ import annotations

from itertools import islice

from retentiond.targets.chat_database.store_access import PollPolicy


def test_what_is_soon_done_is_seen_soon_and_what_takes_long_is_not_asked_about_all_the_time() -> None:
    assert list(islice(PollPolicy(between=1.0).pauses(), 6)) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert list(islice(PollPolicy(between=0.05).pauses(), 2)) == [0.05, 0.05]
