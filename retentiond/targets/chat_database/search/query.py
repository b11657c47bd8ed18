"""Which documents a purge means, as a query. Nothing in here does I/O."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.store import EARLIEST_DATE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.store import ChatId

# The servers take 65,536 terms at the most.
_TERMS: Final = 10_000
_FORMAT: Final = {"format": "strict_date_optional_time"}


def meant(
    config: ElasticsearchStore, account: str, cutoff: datetime, excluded: Sequence[ChatId]
) -> dict[str, Any]:
    """Return the query: the account's documents before the cutoff (aware), but for these chats.

    Of several dates each must lie before it, and of several accounts none is another. A document without a date, or
    without a chat where chats are left out, is not meant: nobody knows.
    """
    staying = _staying(config, account, cutoff, excluded)
    return {"bool": {**_aged(config, account, cutoff, excluded), "must_not": staying}}


def without_chat(config: ElasticsearchStore, account: str, cutoff: datetime) -> dict[str, Any]:
    """Return the query for the documents that say of no chat."""
    staying = [*_staying(config, account, cutoff, ()), {"exists": {"field": config.thread_field}}]
    return {"bool": {**_aged(config, account, cutoff, ()), "must_not": staying}}


def _aged(
    config: ElasticsearchStore, account: str, cutoff: datetime, excluded: Sequence[ChatId]
) -> dict[str, Any]:
    filters: list[dict[str, Any]] = [
        {"term": {config.account_field: account}},
        {"range": {config.date_field: {"lt": _instant(cutoff), **_FORMAT}}},
    ]
    if excluded:
        filters.append({"exists": {"field": config.thread_field}})
    return {"filter": filters}


def _staying(
    config: ElasticsearchStore, account: str, cutoff: datetime, excluded: Sequence[ChatId]
) -> list[dict[str, Any]]:
    staying: list[dict[str, Any]] = [
        {"range": {config.date_field: {"gte": _instant(cutoff), **_FORMAT}}},
        {"range": {config.date_field: {"lt": _instant(EARLIEST_DATE), **_FORMAT}}},
        {"range": {config.account_field: {"lt": account}}},
        {"range": {config.account_field: {"gt": account}}},
    ]
    staying += [
        {"terms": {config.thread_field: list(excluded[start : start + _TERMS])}}
        for start in range(0, len(excluded), _TERMS)
    ]
    return staying


def _instant(moment: datetime) -> str:
    """Write a moment in full: a day alone would be rounded, and seconds alone taken for milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
