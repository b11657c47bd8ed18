"""Checks that the configured fields have the types and mappings that a purge needs.

A misspelt field matches every document or no document. A mapping may change accounts, leave them out, or cut dates to days.
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
"""Formats without a time of day: named formats, and patterns with a year."""
_QUOTED: Final = re.compile(r"'[^']*'")


def fields_of(config: ElasticsearchStore) -> list[str]:
    """Return the fields of a purge, and the objects that contain them."""
    fields = [
        config.account_field,
        config.date_field,
        config.thread_field,
        config.kind_field,
        config.visitor_field,
    ]
    return sorted({name for field in fields if field is not None for name in (field, *_objects(field))})


def quoted(field: str) -> str:
    """Return a field for use in a path."""
    return quote(field, safe="")


def _objects(field: str) -> list[str]:
    parts = field.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def judge(config: ElasticsearchStore, capabilities: Mapping[str, Any] | None) -> Refusal | None:
    """Return a reason to refuse a purge from the answer of `_field_caps`, which is None without an index."""
    if capabilities is None:
        return refusal("index", config.index, f"there is no index {config.index}; check `index`")
    for key, field, types in _wanted(config):
        if _PLAIN & set(field):
            return refusal(key, field, f"name one field in `{key}`, without wildcards")
        found = set(capabilities.get("fields", {}).get(field, {}))
        if not found:
            return refusal(key, f"no field {field}", f"set `{key}` to a field that the mapping has")
        if not found <= types:
            types_found = ", ".join(sorted(found))
            return refusal(
                key,
                f"{field} is {types_found}",
                f"in each index `{key}` must be {' or '.join(sorted(types))}; a text field often has a keyword in "
                f"{field}.keyword",
            )
        if not all(one.get("searchable", True) for one in capabilities["fields"][field].values()):
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
                "a purge does not search nested objects; name a field of the document itself",
            )
    return None


def _kinds(config: ElasticsearchStore) -> frozenset[str]:
    """Return the types that a field of kinds may have: numbers only if all kinds are numbers."""
    numbers = all(kind.removeprefix("-").isdecimal() and kind.isascii() for kind in config.text_kinds)
    return _IDS if numbers else frozenset({"keyword"})


def _wanted(config: ElasticsearchStore) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield the key of each configured field, the field, and the types that it may have."""
    yield "account_field", config.account_field, _ACCOUNTS
    yield "date_field", config.date_field, _DATES
    if config.thread_field is not None:
        yield "thread_field", config.thread_field, _IDS
    if config.kind_field is not None:
        yield "kind_field", config.kind_field, _kinds(config)
    if config.visitor_field is not None:
        yield "visitor_field", config.visitor_field, _IDS


def refusal(limit: str, value: str | int, hint: str) -> Refusal:
    """Return a refusal by a limit of the search, with the finding and the next step."""
    return Refusal(StoreLimit(f"elasticsearch_{limit}"), value, None, hint)


def each(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings of a field, one for each index that has it, from the answer of `_mapping/field`."""
    for index in answer.values():
        for field in index["mappings"].values():
            yield from field.get("mapping", {}).values()


def judge_account(field: str, answer: Mapping[str, Any], account: str | None) -> Refusal | None:
    """Return a reason to refuse a field of accounts that changes accounts, or does not index this one."""
    for mapping in each(answer):
        finding = f"{field} is {mapping.get('type')}"
        if mapping.get("type") == "alias":
            return refusal("account_field", finding, f"name {mapping.get('path')} itself in `account_field`")
        if "normalizer" in mapping:
            return refusal(
                "account_field",
                f"{finding}, with the normalizer {mapping['normalizer']}",
                "it makes different accounts equal; name a field without a normalizer",
            )
        longest = mapping.get("ignore_above")
        # The server counts UTF-16 code units.
        if (
            longest is not None
            and account is not None
            and len(account.encode("utf-16-le")) > 2 * int(longest)
        ):
            return refusal(
                "account_field",
                f"{finding}, with ignore_above {longest}",
                f"a name as long as {printable(account)} is not indexed, and its documents would not be found; name "
                "a field that indexes it",
            )
    return None


def judge_id(key: str, field: str, answer: Mapping[str, Any]) -> Refusal | None:
    """Return a reason to refuse a field of IDs: a normalizer rewrites them, so that they differ from the database."""
    for mapping in each(answer):
        if "normalizer" in mapping:
            return refusal(
                key,
                f"{field} is {mapping.get('type')}, with the normalizer {mapping['normalizer']}",
                "its IDs are not those of the database; name a field without a normalizer",
            )
    return None


def judge_filled(key: str, field: str, answer: Mapping[str, Any]) -> Refusal | None:
    """Return a reason to refuse a field with a default: a document of unknown account, date or chat would be deleted."""
    for mapping in each(answer):
        if mapping.get("null_value") is not None:
            return refusal(
                key,
                f"{field} has the null_value {printable(str(mapping['null_value']))}",
                "a document without a value could not be distinguished from one with this value; name a field "
                "without `null_value`",
            )
    return None


def holds_days(answer: Mapping[str, Any]) -> bool:
    """Return whether an index has days without a time, which begin in UTC."""
    formats = [str(mapping["format"]).split("||") for mapping in each(answer) if "format" in mapping]
    return any(all(_DAYS.fullmatch(_QUOTED.sub("", one)) for one in several) for several in formats)
