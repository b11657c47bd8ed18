"""Checks that the configured fields have the types and mappings that a purge needs.

A misspelt field matches nothing, or everything. A mapping may take accounts for others, or leave them out, and dates for days.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from retentiond.model.errors import Refusal, StoreLimit
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retentiond.config.chat_stores import ElasticsearchStore


_ACCOUNTS: Final = frozenset({"keyword", "constant_keyword"})
_DATES: Final = frozenset({"date", "date_nanos"})
_IDS: Final = frozenset({"keyword", "byte", "short", "integer", "long", "unsigned_long"})
_PLAIN: Final = frozenset('*?,<>|\\"')

_DAYS: Final = re.compile(
    r"(strict_|basic_)*(date|year_month_day|ordinal_date|week_date)|(?=.*(yy|uu))[^HhKkmsSAnNa]*"
)
"""Formats without a time of day: the named ones, and patterns, which have a year."""
_QUOTED: Final = re.compile(r"'[^']*'")


def fields_of(config: ElasticsearchStore) -> list[str]:
    """Return the fields that a purge asks about, and the objects that they are parts of."""
    fields = [
        config.account_field,
        config.date_field,
        config.thread_field,
        config.kind_field,
        config.visitor_field,
    ]
    return sorted({name for field in fields if field is not None for name in (field, *_objects(field))})


def quoted(field: str) -> str:
    """Return a field as a part of a path."""
    return quote(field, safe="")


def _objects(field: str) -> list[str]:
    parts = field.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def judge(config: ElasticsearchStore, capabilities: Mapping[str, Any] | None) -> Refusal | None:
    """Tell from the answer of `_field_caps` (None: no such index) why a purge cannot be told; None where it can."""
    if capabilities is None:
        return refusal("index", config.index, f"there is no index {config.index}; check `index`")
    for key, field, types in _wanted(config):
        if _PLAIN & set(field):
            return refusal(key, field, f"name one field in `{key}`, without wildcards")
        found = set(capabilities.get("fields", {}).get(field, {}))
        if not found:
            return refusal(key, f"no field {field}", f"set `{key}` to a field that the mapping has")
        if not found <= types:
            told = ", ".join(sorted(found))
            return refusal(
                key,
                f"{field} is {told}",
                f"in each index `{key}` must be {' or '.join(sorted(types))}; of a text the keyword is often in "
                f"{field}.keyword",
            )
        if not all(told.get("searchable", True) for told in capabilities["fields"][field].values()):
            return refusal(
                key,
                f"{field} cannot be searched",
                f"it is mapped with `index: false`; name another field in `{key}`",
            )
        nested = [name for name in _objects(field) if "nested" in capabilities["fields"].get(name, {})]
        if nested:
            return refusal(
                key,
                f"{field} is in {nested[0]}, which is nested",
                "a purge does not look into what is nested; name a field of the document itself",
            )
    return None


def _kinds(config: ElasticsearchStore) -> frozenset[str]:
    """Return the types that a field of kinds may have: numbers only where all kinds are numbers."""
    numbers = all(kind.removeprefix("-").isdecimal() and kind.isascii() for kind in config.text_kinds)
    return _IDS if numbers else frozenset({"keyword"})


def _wanted(config: ElasticsearchStore) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield the keys of the configured fields, each with its field and the types that it may have."""
    yield "account_field", config.account_field, _ACCOUNTS
    yield "date_field", config.date_field, _DATES
    if config.thread_field is not None:
        yield "thread_field", config.thread_field, _IDS
    if config.kind_field is not None:
        yield "kind_field", config.kind_field, _kinds(config)
    if config.visitor_field is not None:
        yield "visitor_field", config.visitor_field, _IDS


def refusal(limit: str, value: str | int, hint: str) -> Refusal:
    """Return why a purge cannot be told to a search: what was found, and what to do."""
    return Refusal(StoreLimit(f"elasticsearch_{limit}"), value, None, hint)


def each(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings of a field, one for each index that has it, from the answer of `_mapping/field`."""
    for index in answer.values():
        for field in index["mappings"].values():
            yield from field.get("mapping", {}).values()


def judge_account(field: str, answer: Mapping[str, Any], account: str | None) -> Refusal | None:
    """Tell why the field of accounts takes one for another, or leaves this one out (None: whichever is purged)."""
    for mapping in each(answer):
        told = f"{field} is {mapping.get('type')}"
        if mapping.get("type") == "alias":
            return refusal("account_field", told, f"name {mapping.get('path')} itself in `account_field`")
        if "normalizer" in mapping:
            return refusal(
                "account_field",
                f"{told}, with the normalizer {mapping['normalizer']}",
                "what that makes alike cannot be told apart; name a field that holds accounts as they are",
            )
        shortest = mapping.get("ignore_above")
        # The server counts as UTF-16 does.
        if (
            shortest is not None
            and account is not None
            and len(account.encode("utf-16-le")) > 2 * int(shortest)
        ):
            return refusal(
                "account_field",
                f"{told}, with ignore_above {shortest}",
                f"so long a name as {printable(account)} is not in it, and its documents would not be found; name a "
                "field that holds it",
            )
    return None


def judge_id(key: str, field: str, answer: Mapping[str, Any]) -> Refusal | None:
    """Return why a field of ids cannot be compared with the database: a normalizer rewrites them."""
    for mapping in each(answer):
        if "normalizer" in mapping:
            return refusal(
                key,
                f"{field} is {mapping.get('type')}, with the normalizer {mapping['normalizer']}",
                "the ids in it are not those of the database; name a field that holds them as they are",
            )
    return None


def judge_filled(key: str, field: str, answer: Mapping[str, Any]) -> Refusal | None:
    """Tell that a field has a value where a document has none: it would be deleted although its account, date or chat is unknown."""
    for mapping in each(answer):
        if mapping.get("null_value") is not None:
            return refusal(
                key,
                f"{field} has the null_value {printable(str(mapping['null_value']))}",
                "a document that has no value could not be told from one that has this; name a field without it",
            )
    return None


def holds_days(answer: Mapping[str, Any]) -> bool:
    """Tell whether an index holds days, without a time: such a day begins in UTC, wherever it was."""
    formats = [str(mapping["format"]).split("||") for mapping in each(answer) if "format" in mapping]
    return any(all(_DAYS.fullmatch(_QUOTED.sub("", one)) for one in several) for several in formats)
