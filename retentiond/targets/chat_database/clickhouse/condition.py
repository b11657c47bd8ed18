"""Which rows a purge means: the condition of every statement, with its parameters. Nothing in here does I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from retentiond.targets.chat_database.store import EARLIEST_DATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from retentiond.targets.chat_database.store import ChatId

IdType = Literal["Int64", "UInt64", "String", "UUID"]
"""How the ids of chats are sent; the server compares them with the column, whatever its width."""

DAY: Final = "Date32"
EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
LATEST: Final = datetime(2106, 1, 1, tzinfo=UTC)
"""What a DateTime can hold; a boundary beyond it would mean every row, or none."""
_NOBODY: Final[dict[IdType | None, ChatId]] = {
    "Int64": 0,
    "UInt64": 0,
    "String": "",
    "UUID": "00000000-0000-0000-0000-000000000000",
}
"""What stands in a column that was not filled; one that is no Nullable has no other way to say it."""
# The server takes form fields of 128 KiB.
_FIELD_SIZE: Final = 100_000


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that tell which rows are meant, and the types that the date and the chats are sent with.

    The date's is the column's own, in UTC: by one that is coarser the server skips what lies in the last second.
    """

    account: str
    date: str
    date_type: str
    thread: str | None = None
    thread_type: IdType | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, and the parameters that it names; `unknown` are conditions of rows that stay, with why they do."""

    text: str
    parameters: Mapping[str, Any]
    unknown: Mapping[str, str] = field(default_factory=dict)


def condition(columns: Columns, account: str, cutoff: datetime, excluded: Sequence[ChatId]) -> Condition:
    """Return what is meant: the account's rows before the cutoff (aware), but for these chats.

    A row without a date, or without a chat where chats are excluded, is not meant: nobody knows.
    """
    parameters: dict[str, Any] = {
        "account_column": columns.account,
        "account": account,
        "date_column": columns.date,
    }
    kind = columns.date_type
    if kind == DAY:
        # A day has no zone: it is compared with the day of the boundary in the zone that was configured.
        parameters |= {"before": cutoff.date(), "earliest": EARLIEST_DATE.date()}
    else:
        parameters |= {"before": cutoff.astimezone(UTC), "earliest": EARLIEST_DATE}
    account_is = "{account_column:Identifier} = {account:String}"
    earliest, before = f"{{earliest:{kind}}}", f"{{before:{kind}}}"
    undated = f"({{date_column:Identifier}} IS NULL OR {{date_column:Identifier}} < {earliest})"
    unknown = {f"{account_is} AND {undated}": "rows have no date, or none that can be true, and stay"}
    words = [
        account_is,
        f"{{date_column:Identifier}} >= {earliest}",
        f"{{date_column:Identifier}} < {before}",
    ]
    if excluded:
        nobody = _NOBODY[columns.thread_type]
        parameters |= {"thread_column": columns.thread, "nobody": nobody}
        no_chat = (
            f"({{thread_column:Identifier}} IS NULL "
            f"OR {{thread_column:Identifier}} = {{nobody:{columns.thread_type}}})"
        )
        unknown[" AND ".join([*words, no_chat])] = (
            "rows say of no chat, and stay: they might be of one that does"
        )
        words.append(f"NOT {no_chat}")
    for number, batch in enumerate(_fields(excluded)):
        parameters[f"kept{number}"] = batch
        words.append(f"{{thread_column:Identifier}} NOT IN {{kept{number}:Array({columns.thread_type})}}")
    return Condition(" AND ".join(words), parameters, unknown)


def _fields(ids: Iterable[ChatId]) -> Iterable[Sequence[ChatId]]:
    batch: list[ChatId] = []
    size = 0
    for chat in ids:
        # Quotes and a comma, and every character escaped, in UTF-8.
        length = 3 + 4 * len(str(chat)) if isinstance(chat, str) else 1 + len(str(chat))
        if size + length > _FIELD_SIZE:
            yield batch
            batch, size = [], 0
        batch.append(chat)
        size += length
    if batch:
        yield batch
