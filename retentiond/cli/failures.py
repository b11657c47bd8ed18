"""The message and the exit status of each kind of error."""

import asyncio
from dataclasses import dataclass

from typer import TyperException

from retentiond.adapters.logging import get_logger
from retentiond.config.units import UnitError
from retentiond.model.errors import EXIT_STATUSES, FAILED, RetentiondError, UsageError


@dataclass(frozen=True, slots=True)
class Failure:
    """The lines of the message, and the exit status."""

    lines: tuple[str, ...]
    exit_status: int


def failure_of(error: BaseException, *, debug: bool) -> Failure:
    """Return the message for an error; an unexpected error is logged, with its traceback if `debug`."""
    match error:
        case RetentiondError():
            return Failure(tuple(str(error).splitlines()), error.exit_status)
        case UnitError():
            return Failure((str(error),), UsageError.exit_status)
        case TyperException():
            text = error.format_message().rstrip(".")
            context = getattr(error, "ctx", None)
            command = "retentiond" if context is None else context.command_path
            joint = "" if text.endswith("?") else ";"
            return Failure((f"{text}{joint} `{command} --help` shows the usage",), error.exit_code)
        case asyncio.CancelledError() | KeyboardInterrupt():
            text = "stopped by Ctrl-C or a signal; run again to continue"
            return Failure((text,), EXIT_STATUSES["interrupted"])
    get_logger().error(
        "unexpected_error", kind=type(error).__name__, message=str(error), exc_info=debug and error
    )
    text = f"unexpected {type(error).__name__}: {error}"
    next_step = (
        "report it with its traceback" if debug else "run it again with --debug, and report its traceback"
    )
    return Failure((f"{text}; {next_step}",), FAILED)
