"""What the mapping makes of the configured fields: accounts that are told as others, or not at all; dates that are days."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.text import printable
from retentiond.targets.chat_database.search.fields import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from retentiond.model.errors import Refusal

_DAYS: Final = re.compile(
    r"(strict_|basic_)*(date|year_month_day|ordinal_date|week_date)|(?=.*(yy|uu))[^HhKkmsSAnNa]*"
)
"""Formats without a time of day: the named ones, and patterns, which have a year."""
_QUOTED: Final = re.compile(r"'[^']*'")


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
    """Tell that a field has a value where a document has none: whose, when or which chat nobody knows, and it would go."""
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
