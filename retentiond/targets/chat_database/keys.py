"""Which keys rows are found by, and what it takes beside one to name a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from retentiond.targets.chat_database.layout import Layout

_DATES: Final = frozenset({"date", "timestamp with time zone", "timestamp without time zone"})


def naming_keys(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield the entities whose rows are found by their key, each with that key's column."""
    for name, entity in layout.entities.items():
        if entity.key is not None and (entity.parent is None or layout.children(name)):
            yield name, entity.key


def beside_key(
    key: str, dates: Sequence[str], types: Mapping[str, str], unique: Sequence[frozenset[str]]
) -> frozenset[str] | None:
    """Return what else it takes to name a row, by the table's unique indexes; nothing else, or None where none tells.

    A date does not count: where a table is partitioned by one, no index is unique without it.
    """
    others = sorted((columns - {key} for columns in unique if key in columns), key=len)
    if frozenset() in others:
        return frozenset()
    dated = {name for name in types if types[name] in _DATES} | set(dates)
    return next((left for other in others if (left := other - dated)), None)
