"""Which rows a purge means: the condition of every statement, with its parameters. Nothing in here does I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from retentiond.targets.chat_database.store import ChatId

DateType = Literal["day", "moment"]
IdType = Literal["Int64", "UInt64", "String", "UUID"]
"""How the ids of chats are sent; the server compares them with the column, whatever its width."""

EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
LATEST: Final = datetime(2106, 1, 1, tzinfo=UTC)
"""What a DateTime can hold; a boundary beyond it would mean every row, or none."""
# The server takes form fields of 128 KiB.
_FIELD_SIZE: Final = 100_000


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that tell which rows are meant, and how the date's and the chat's are compared."""

    account: str
    date: str
    date_type: DateType
    thread: str | None = None
    thread_type: IdType | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, and the parameters that it names."""

    text: str
    parameters: Mapping[str, Any]


def condition(columns: Columns, account: str, cutoff: datetime, excluded: Iterable[ChatId]) -> Condition:
    """Return what is meant: the account's rows before the cutoff (aware), but for these chats.

    A row without a date, or without a chat where chats are excluded, is not meant: nobody knows.
    """
    parameters: dict[str, Any] = {
        "account_column": columns.account,
        "account": account,
        "date_column": columns.date,
    }
    words = ["{account_column:Identifier} = {account:String}"]
    if columns.date_type == "day":
        # A day has no zone: it is compared with the day of the boundary in the zone that was configured.
        parameters["before"] = cutoff.date()
        words.append("{date_column:Identifier} < {before:Date32}")
    else:
        parameters["before"] = cutoff.astimezone(UTC)
        words.append("{date_column:Identifier} < {before:DateTime('UTC')}")
    for number, batch in enumerate(_fields(excluded)):
        parameters["thread_column"] = columns.thread
        parameters[f"kept{number}"] = batch
        words.append(f"{{thread_column:Identifier}} NOT IN {{kept{number}:Array({columns.thread_type})}}")
    return Condition(" AND ".join(words), parameters)


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
