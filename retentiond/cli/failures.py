"""From what went wrong to what is said and to the exit status: the one place that knows."""

import asyncio
from dataclasses import dataclass

from typer import TyperException

from retentiond.adapters.logging import get_logger
from retentiond.config.units import UnitError
from retentiond.model.errors import RetentiondError, UsageError
from retentiond.model.outcome import EXIT_STATUSES, FAILED


@dataclass(frozen=True, slots=True)
class Failure:
    """What is said, line by line, and the exit status."""

    lines: tuple[str, ...]
    exit_status: int


def failure_of(error: BaseException, *, debug: bool) -> Failure:
    """Tell what to say about an error; one that nobody foresaw is logged, with its traceback where `debug` is on."""
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
            return Failure((f"{text}{joint} `{command} --help` tells what there is",), error.exit_code)
        case asyncio.CancelledError() | KeyboardInterrupt():
            text = "stopped before the end; what a pass had begun, the next one finishes"
            return Failure((text,), EXIT_STATUSES["interrupted"])
    get_logger().error(
        "unexpected_error", kind=type(error).__name__, message=str(error), exc_info=debug and error
    )
    text = f"unexpected {type(error).__name__}: {error}"
    way_on = (
        "report it with its traceback" if debug else "run it again with --debug, and report its traceback"
    )
    return Failure((f"{text}; {way_on}",), FAILED)
