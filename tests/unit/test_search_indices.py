"""What a purge can do in the indices that policies of ISM and ILM leave behind, and what is said of the others.

Settings of frozen indices and of Elasticsearch's searchable snapshots are written here as those servers document them: no
minimal distribution has them.
"""

from __future__ import annotations

from typing import Any

import pytest

from retentiond.targets.chat_database.search.indices import FieldTypes, Inventory, take_stock


def stock(closed: tuple[str, ...] = (), renamed: dict[str, str] | None = None, **settings: Any) -> Inventory:
    listed = dict.fromkeys(settings, "open") | dict.fromkeys(closed, "close")
    shown = {name: {"settings": index} for name, index in settings.items()}
    return take_stock(listed, shown, renamed or {}, FieldTypes())


def test_an_index_without_an_obstacle_is_written_to() -> None:
    found = stock(plain={"index.blocks.write": "false"}, hidden={"index.hidden": "true"})
    assert found.writable == ("hidden", "plain")
    assert found.refusal({"plain": 3}) is None


@pytest.mark.parametrize(
    ("settings", "limit", "words"),
    [
        ({"index.blocks.write": "true"}, "blocked", '"index.blocks.write": null'),
        ({"index.blocks.read_only": "true"}, "blocked", '"index.blocks.read_only": null'),
        ({"index.blocks.read_only_allow_delete": "true"}, "blocked", "a disk is full"),
        (
            {"index.blocks.write": "true", "index.store.type": "snapshot", "index.store.snapshot.partial": "true"},
            "snapshot",
            "searchable snapshot",
        ),
        ({"index.store.type": "remote_snapshot"}, "snapshot", "searchable snapshot"),
    ],
)  # fmt: skip
def test_an_index_that_can_only_be_read_is_named_where_it_keeps_documents(
    settings: dict[str, str], limit: str, words: str
) -> None:
    found = stock(old=settings | {"index.lifecycle.name": "keep-a-year"}, new={})
    assert (found.writable, set(found.readable)) == (("new",), {"old"})
    assert found.refusal({"new": 5}) is None
    refusal = found.refusal({"old": 7})
    assert refusal is not None
    assert (refusal.limit, refusal.value) == (f"elasticsearch_{limit}", "old")
    assert refusal.hint.startswith("old (7 documents to purge, policy keep-a-year) ")
    assert words in refusal.hint
    assert ("full" in refusal.hint) == ("allow_delete" in str(settings))


@pytest.mark.parametrize("setting", ["index.frozen", "index.search.throttled"])
def test_a_frozen_index_is_never_counted_as_empty(setting: str) -> None:
    found = stock(old={setting: "true", "index.blocks.write": "true"}, new={})
    assert found.searched == ("new",)
    refusal = found.refusal({})
    assert refusal is not None
    assert refusal.limit == "elasticsearch_frozen"
    assert "_unfreeze" in refusal.hint


def test_what_ilm_mounted_under_another_name_is_named_since_the_pattern_does_not_match_it() -> None:
    refusal = stock(renamed={"partial-chats-1": "open"}, new={}).refusal({})
    assert refusal is not None
    assert (refusal.limit, refusal.value) == ("elasticsearch_hidden", "partial-chats-1")


def test_of_many_indices_some_are_named_and_each_kind_has_its_hint() -> None:
    closed = tuple(f"c{number}" for number in range(9))
    refusal = stock(closed, old={"index.blocks.write": "true"}).refusal({"old": 1})
    assert refusal is not None
    assert refusal.limit == "elasticsearch_closed"
    assert "c4 (and 4 more) is closed" in refusal.hint
    assert "old (1 documents to purge) has the block `write`" in refusal.hint
