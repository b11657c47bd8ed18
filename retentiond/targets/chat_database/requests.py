"""The file of requests to erase single visitors: one JSON object a line, each checked by itself.

A truncated line is not valid JSON, so a half-written ID of a visitor is never read as another. The error of a line is
reported with its number, at each run, without the ID; the other lines are carried out.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError

from retentiond.adapters.logging import get_logger
from retentiond.config.files import UnreadableError, read_text
from retentiond.config.problems import Problem
from retentiond.config.section import Section
from retentiond.engine.target import STOPPED, Erasure
from retentiond.model.errors import BusyError, RetentiondError, UnreachableError
from retentiond.model.text import can_be_stored, printable
from retentiond.targets.chat_database.layout import as_text
from retentiond.targets.chat_database.visitor import is_done

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from retentiond.engine.target import PassOptions
    from retentiond.model.report import PassReport
    from retentiond.targets.chat_database.context import ChatContext

MOST_REQUESTS: Final = 10_000
LONGEST_LINE: Final = 4000
LARGEST_FILE: Final = 4 * 1024 * 1024
_MISSING: Final = "create an empty file, or remove `erasure_requests` from the configuration"


def _storable(text: str) -> str:
    if not can_be_stored(text):
        raise ValueError("has a character that no database can store")
    return text


class RequestLine(Section):
    """One line of the file."""

    request: Annotated[
        str, Field(min_length=1, max_length=200, pattern=r"^[^\s]+( [^\s]+)*$"), AfterValidator(_storable)
    ]
    account: Annotated[str, Field(min_length=1)]
    visitor: Annotated[str, BeforeValidator(as_text), Field(min_length=1)]
    even_under_floor: bool = Field(default=False, strict=True)
    reason: str = ""


def read_requests(path: Path, accounts: Collection[str]) -> tuple[list[Erasure], list[Problem]]:
    """Return the requests of the file in its order, and the errors of its other lines."""
    shown = printable(str(path), 300)
    try:
        _check_writers(path)
        # Split at line feeds only: JSON strings and comments may contain other line separators.
        lines = read_text(path, when_missing=_MISSING, largest=LARGEST_FILE).split("\n")
    except UnreadableError as error:
        return [], [Problem(shown, error.line, None, "", error.message, error.hint)]
    wanted = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and line[0] != "#"]
    if len(wanted) > MOST_REQUESTS:
        message = f"has more than {MOST_REQUESTS} requests"
        return [], [Problem(shown, None, None, "", message, "remove those that are done")]
    requests: list[Erasure] = []
    problems: list[Problem] = []
    seen: dict[tuple[str, str], int] = {}
    for number, line in wanted:
        try:
            request = _read_line(line, accounts)
        except UnreadableError as error:
            problems.append(Problem(shown, number, None, "", error.message, error.hint))
            continue
        first = seen.setdefault((request.account, request.name or ""), number)
        if first != number:
            message = f"the request `{printable(request.name or '')}` is on line {first} already"
            problems.append(Problem(shown, number, None, "", message, "give each request a name of its own"))
        else:
            requests.append(request)
    return requests, problems


def _read_line(line: str, accounts: Collection[str]) -> Erasure:
    example = 'write {"request": "2027-001", "account": "NAME", "visitor": "ID"}'
    if len(line) > LONGEST_LINE:
        raise UnreadableError(f"has more than {LONGEST_LINE} characters", example)
    try:
        value = json.loads(line, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        column = f"column {error.colno}: " if isinstance(error, json.JSONDecodeError) else ""
        said = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UnreadableError(f"{column}is not one JSON object ({printable(said, 200)})", example) from None
    if not isinstance(value, dict):
        raise UnreadableError("is not a JSON object", example)
    try:
        read = RequestLine.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UnreadableError(f"`{printable(key, 60)}`: {_in_words(first)}", example) from None
    if read.account not in accounts:
        known = printable(", ".join(sorted(accounts)), 300)
        raise UnreadableError(f"there is no account `{printable(read.account)}`", f"there are: {known}")
    if read.even_under_floor and not read.reason.strip():
        raise UnreadableError("`even_under_floor` needs a `reason`", "add it; it is recorded")
    return Erasure(read.account, read.visitor, read.even_under_floor, read.reason, read.request)


def _in_words(error: Any) -> str:
    kinds = {
        "extra_forbidden": "is not a key of a request",
        "missing": "is missing",
        "too_short": "is empty",
        "string_too_short": "is empty",
        "string_too_long": "is too long",
        "string_pattern_mismatch": "has blanks at the beginning or the end, or several in a row",
        "string_type": "is not text",
        "bool_type": "is not true or false",
        "string_unicode": "has a character that no database can store",
        "value_error": str(error.get("ctx", {}).get("error", "")),
    }
    return kinds.get(error["type"], str(error["msg"]))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"the key `{printable(twice, 60)}` is there twice")
    return dict(pairs)


def _check_writers(path: Path) -> None:
    """Raise UnreadableError if every user may write to or replace the file: they could delete chats by it."""
    try:
        file = os.stat(path).st_mode
        # Check the directory of a symbolic link, and that of its target.
        directories = {path.parent: os.stat(path.parent).st_mode}
        real = Path(os.path.realpath(path)).parent
        directories[real] = os.stat(real).st_mode
    except (OSError, ValueError):
        return  # reading the file reports the error
    if file & stat.S_IWOTH:
        raise UnreadableError("every user may write to it", "remove that right: chmod o-w")
    for directory, mode in directories.items():
        # With the sticky bit only the owner of a file may replace it.
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise UnreadableError(
                f"every user may replace it, by writing to {printable(str(directory), 300)}",
                "remove that right: chmod o-w",
            )


async def carry_out(
    context: ChatContext,
    report: PassReport,
    options: PassOptions,
    erase: Callable[[Erasure], Awaitable[PassReport]],
) -> None:
    """Carry out the requests of the configured file, each by `erase`, and add the results to the report of the pass.

    Finished requests are skipped. A refused request does not stop the others, and is reported at each run.
    """
    if context.config.erasure_requests is None or report.state == "interrupted":
        return
    requests, problems = await asyncio.to_thread(
        read_requests, context.config.erasure_requests, context.config.accounts
    )
    for problem in problems:
        _refuse(report, str(problem))
    for request in requests:
        if options.stop.asked:
            report.state, report.error = "interrupted", STOPPED
            return
        try:
            async with context.pool.acquire() as connection:
                if await is_done(context, connection, request):
                    continue
            if not _add(report, request, await erase(request)):
                return
        except (BusyError, UnreachableError):
            raise
        except RetentiondError as error:
            _refuse(report, f"{_named(request)}: {error}")


def _named(request: Erasure) -> str:
    return f"the request `{printable(request.name or '')}` of {printable(request.account)}"


def _add(report: PassReport, request: Erasure, erased: PassReport) -> bool:
    """Add one request's report; return whether the next may begin."""
    report.purges += erased.purges
    report.failed.update(erased.failed)
    for policy, tally in erased.removed.items():
        report.remove(policy, tally.items, tally.bytes)
    if erased.refused is not None:
        _refuse(report, f"{_named(request)}: {erased.refused}")
    elif erased.state == "interrupted" or (erased.exit_status and report.state in {"finished", "planned"}):
        report.state, report.error = erased.state, report.error or erased.error
    return erased.state != "interrupted"


def _refuse(report: PassReport, why: str) -> None:
    """Note a request that was not carried out: its exit status is that of an item that failed."""
    get_logger(target=report.target).error("item_failed", reason="request_refused", error=why)
    report.failed["request_refused"] += 1
    report.remarks.append(why)
    if report.state == "finished":
        report.state = "finished_with_failures"
