"""The way of every command: read the line, do what it asks for, and leave with an exit status."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from retentiond.cli.line.app import read_line
from retentiond.cli.session import Options, Session
from retentiond.cli.streams import ReaderGoneError
from retentiond.cli.surroundings import Surroundings
from retentiond.model.errors import UnreachableError

# What a shell reports of a program that SIGPIPE ended.
_READER_GONE: Final = 141


def execute(arguments: Sequence[str], surroundings: Surroundings) -> int:
    """Do what the arguments ask for, and return the exit status; nothing but SystemExit is raised."""
    options = Options()
    try:
        asked = read_line(arguments, options)
    except Exception as error:  # noqa: BLE001 - `fail` tells, and logs what nobody foresaw
        return Session(surroundings, options).fail(error)
    if isinstance(asked, int):
        return asked
    session = Session(surroundings, options)
    try:
        try:
            status = asked(session)
        finally:
            session.tell_findings()
        session.out.settle()
    except ReaderGoneError:
        return _READER_GONE
    except (Exception, asyncio.CancelledError, KeyboardInterrupt) as error:  # noqa: BLE001 - likewise
        with suppress(UnreachableError, asyncio.CancelledError):
            session.out.settle()
        return session.fail(error)
    return status
