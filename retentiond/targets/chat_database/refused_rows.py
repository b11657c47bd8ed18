"""The errors by which the database refuses a deletion: whether single rows may cause them, and how rows are named."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from retentiond.adapters.postgres import LOST, named_queries
from retentiond.model.purge import FailedRow
from retentiond.model.text import printable, sentence
from retentiond.targets.chat_database.batch import ChangedError, MiscountError

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn
    from retentiond.model.errors import FailureKind

_SQL: Final = named_queries(__package__, "refused_rows.sql")
REASON_LIMIT: Final = 500

IN_THE_WAY: Final = (
    ChangedError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    # A row of a chat to be deleted was added after the last check.
    asyncpg.ForeignKeyViolationError,
)
"""Errors that may not occur again when the batch is tried again."""
_NO_MORE: Final = (*LOST, asyncpg.InsufficientPrivilegeError)
"""Errors that end the whole pass. All others are about one batch or partition."""
_OF_ALL_ROWS: Final = (
    *_NO_MORE,
    asyncpg.SyntaxOrAccessError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.PostgresSystemError,
)
"""Errors that any row would cause: it is of no use to search for a single one."""
# How the server writes a trigger's function in the context of an error; the words around it depend on its locale.
_FUNCTION: Final = re.compile(r'(?:(?:"[^"\n]{1,256}"|[\w$]{1,128})\.)?(?:"[^"\n]{1,256}"|[\w$]{1,128})\(\)')
_MOST_FUNCTIONS: Final = 10
_RAISE: Final = "exec_stmt_raise"
"""The server function that creates the error of a RAISE."""
_NAME_LIMIT: Final = 200


def may_pass(error: Exception) -> bool:
    """Return whether trying again soon may help."""
    return isinstance(error, IN_THE_WAY) and not _raised_on_purpose(error)


def ends_the_pass(error: Exception) -> bool:
    """Return whether the other batches would fail with the same error."""
    return isinstance(error, _NO_MORE) and not isinstance(error, IN_THE_WAY) and not _raised_on_purpose(error)


def may_be_of_single_rows(error: Exception) -> bool:
    """Return whether some rows of a batch may cause this, so that the others can be deleted without them."""
    return not isinstance(error, _OF_ALL_ROWS) or _raised_on_purpose(error)


def reason_of(error: Exception) -> FailureKind:
    """Return the kind of failure that the report counts."""
    if isinstance(error, MiscountError):
        return "miscount"
    return "in_the_way" if may_pass(error) else "database_refused"


async def name_refusal(
    connection: Conn, error: Exception, at: str | None, *, row: Any, entity: str | None
) -> FailedRow:
    """Name the row, the table, and the constraint or trigger that kept it; `at` is the table of the deletion.

    `entity` is None for a chat.
    """
    table, constraint, trigger = at, None, None
    if isinstance(error, asyncpg.PostgresError):
        said = error.as_dict()
        constraint = said.get("constraint_name")
        if said.get("table_name"):
            table = ".".join(filter(None, (said.get("schema_name"), said["table_name"])))
        if constraint is None:
            trigger, table = await _find_trigger(connection, said.get("context") or "", at) or (None, table)
    return FailedRow(
        row=row if isinstance(row, int) else str(row),
        entity=entity,
        reason=reason_of(error),
        error=reason_in_words(error),
        table=_shown(table),
        constraint=_shown(constraint),
        trigger=_shown(trigger),
    )


def reason_in_words(error: Exception) -> str:
    """Return the message of the error, without its details: they may quote a row."""
    return sentence(getattr(error, "message", None) or str(error), REASON_LIMIT)


async def _find_trigger(connection: Conn, context: str, at: str | None) -> tuple[str, str] | None:
    """Return the trigger whose function raised an error, and its table; None if no trigger is in the error."""
    functions = _FUNCTION.findall(context)[:_MOST_FUNCTIONS]
    if not functions:
        return None
    try:
        row = await connection.fetchrow(_SQL["trigger_of"], functions, at)
    except asyncpg.PostgresError:
        # The text only looked like a function; report the rest without a trigger.
        return None
    return (row["name"], row["table_name"]) if row is not None else None


def _raised_on_purpose(error: Exception) -> bool:
    """Return whether a function raised it by RAISE: then its code is the choice of that function's author."""
    return getattr(error, "server_source_function", None) == _RAISE


def _shown(name: str | None) -> str | None:
    return printable(name.replace('"', ""), _NAME_LIMIT) if name else None
