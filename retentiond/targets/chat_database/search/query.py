"""Which documents a purge means, as a query. Nothing in here does I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.store import EARLIEST_DATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retentiond.config.chat_stores import ElasticsearchStore
    from retentiond.targets.chat_database.store import ChatId

# The servers take 65,536 terms at the most.
_TERMS: Final = 10_000
_FORMAT: Final = {"format": "strict_date_optional_time"}


@dataclass(frozen=True, slots=True)
class Meant:
    """The query for what goes; `unknown` are queries for what stays since nobody knows, with why it does."""

    query: dict[str, Any]
    unknown: Mapping[str, dict[str, Any]]


def meant(
    config: ElasticsearchStore,
    account: str,
    cutoff: datetime,
    excluded: Sequence[ChatId] = (),
    *,
    days: bool = False,
) -> Meant:
    """Return what is meant: the account's documents before the cutoff (aware), but for these chats; `days` that dates are.

    Of several dates each must lie before it, and of several accounts none is another. A document without a date, or
    without a chat where chats are left out, is not meant: nobody knows.
    """
    # A day begins in UTC, wherever it was: west of Greenwich before the cutoff does.
    end = min(cutoff, datetime.combine(cutoff.date(), time(), UTC)) if days else cutoff
    believable = {"range": {config.date_field: {"gte": _instant(EARLIEST_DATE), **_FORMAT}}}
    undated = {
        "filter": [_of_account(config, account)],
        "must_not": [*_of_others(config, account), believable],
    }
    unknown = {"documents have no date, or none that can be true, and stay": {"bool": undated}}
    aged = _aged(config, account, end)
    staying = _staying(config, account, end)
    if not excluded:
        return Meant({"bool": {"filter": aged, "must_not": staying}}, unknown)
    says = {"exists": {"field": config.thread_field}}
    without = {"bool": {"filter": aged, "must_not": [*staying, says]}}
    unknown["documents say of no chat, and stay: they might be of one that does"] = without
    staying = staying + [
        {"terms": {config.thread_field: list(excluded[start : start + _TERMS])}}
        for start in range(0, len(excluded), _TERMS)
    ]
    return Meant({"bool": {"filter": [*aged, says], "must_not": staying}}, unknown)


def _aged(config: ElasticsearchStore, account: str, end: datetime) -> list[dict[str, Any]]:
    return [_of_account(config, account), {"range": {config.date_field: {"lt": _instant(end), **_FORMAT}}}]


def _staying(config: ElasticsearchStore, account: str, end: datetime) -> list[dict[str, Any]]:
    return [
        {"range": {config.date_field: {"gte": _instant(end), **_FORMAT}}},
        {"range": {config.date_field: {"lt": _instant(EARLIEST_DATE), **_FORMAT}}},
        *_of_others(config, account),
    ]


def _of_account(config: ElasticsearchStore, account: str) -> dict[str, Any]:
    return {"term": {config.account_field: account}}


def _of_others(config: ElasticsearchStore, account: str) -> list[dict[str, Any]]:
    return [
        {"range": {config.account_field: {"lt": account}}},
        {"range": {config.account_field: {"gt": account}}},
    ]


def _instant(moment: datetime) -> str:
    """Write a moment in full: a day alone would be rounded, and seconds alone taken for milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
