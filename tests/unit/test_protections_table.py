"""The table of protections is walked: whatever a user meets follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from retentiond.config.example import example_config
from retentiond.config.media import MediaTarget
from retentiond.model.mentions import ANYWHERE, is_unreferenced
from retentiond.model.policy import KEEP_REASONS
from retentiond.model.protections import PROTECT, PROTECT_DEFAULT, PROTECTIONS, Protection, keep_reason
from retentiond.targets.dendrite_media.references.sources import statements
from retentiond.terminal.words import REASONS

ROOT = Path(__file__).resolve().parents[2]


def target(**given: object) -> MediaTarget:
    """Return a target with the keys given."""
    return MediaTarget.model_validate(
        {"kind": "dendrite_media", "database": "postgresql://localhost/d", "media_path": "/m"} | given
    )


@pytest.mark.parametrize("one", PROTECTIONS, ids=lambda one: one.name)
def test_each_protection_is_configured_read_and_told_as_its_line_says(one: Protection) -> None:
    if one.key == "protect":
        assert target(protect=[one.name]).protections == one.sources
        assert (one.name in target().protect) == one.default
        assert one.media in (MediaTarget.model_fields["protect"].description or "")
    else:
        assert set(one.sources) <= set(target(messages_in=["joined_rooms"]).protections)
        assert set(one.sources).isdisjoint(target().protections)
    for source in one.sources:
        assert statements([source])
        assert keep_reason(source) == one.name
        assert (source in ANYWHERE) == one.keeps_referenced
        assert is_unreferenced(frozenset({source})) != one.keeps_referenced
    assert REASONS[one.name] == one.reason


def test_protections_are_reported_in_the_order_of_the_table_whatever_order_is_configured() -> None:
    everything = target(protect=PROTECT[::-1], messages_in=["joined_rooms"]).protections
    assert everything == tuple(source for one in PROTECTIONS for source in one.sources)
    order = [name for name in KEEP_REASONS if name in {one.name for one in PROTECTIONS}]
    assert order == [one.name for one in PROTECTIONS]


def test_the_example_shows_the_protections_that_hold_by_default() -> None:
    assert f"#protect: [{', '.join(PROTECT_DEFAULT)}]" in example_config()


def test_the_documents_have_each_keep_reason_in_the_words_of_the_table() -> None:
    lines = (ROOT / "docs/how-it-decides.md").read_text().splitlines()
    told = [line.split("`")[1] for line in lines if line.startswith("| `")]
    assert [name for name in told if name in KEEP_REASONS] == list(KEEP_REASONS)
    for one in PROTECTIONS:
        assert any(line.startswith(f"| `{one.name}` | {one.reason}") for line in lines)


def test_a_protection_says_which_media_it_protects() -> None:
    with pytest.raises(ValueError, match="does not say which media"):
        Protection(name="widgets", reason="a widget shows it")
