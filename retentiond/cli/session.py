"""A running command: its streams, configuration and targets, its errors and its questions."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text
from typer import TyperException

from retentiond.adapters.journal import under_journal
from retentiond.adapters.log_entries import redact
from retentiond.adapters.logging import configure_logging, get_logger
from retentiond.cli.environment import Environment
from retentiond.cli.options import Options
from retentiond.cli.signals import run_interruptibly
from retentiond.cli.streams import CommandLog, Output, ReaderGoneError
from retentiond.config.document import Document
from retentiond.config.load import from_dendrite_config, load_with_places
from retentiond.config.schema import Config, Logging, Records, TargetConfig, left_alone_on
from retentiond.config.units import UnitError, parse_duration
from retentiond.engine.target import PATIENCE, Stop
from retentiond.ledger.host import host_name
from retentiond.model.errors import EXIT_STATUSES, FAILED, RetentiondError, UsageError, worst
from retentiond.model.text import printable, sentence
from retentiond.targets import registry
from retentiond.terminal.translation import translator
from retentiond.terminal.words import count_in_words

if TYPE_CHECKING:
    from retentiond.config.notify import Notify


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


_DEFAULT_CONFIG: Final = Path("/etc/retentiond/config.yaml")
_DEFAULT_DAYS: Final = 30
_LINE_LIMIT: Final = 4000
NO_QUARANTINE: Final = "no quarantine; name a media target"

TargetWork = Callable[[Any, TargetConfig], Awaitable[int]]
"""Work on one target, with the capabilities that were asked for; returns its exit status."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The targets of a command: those named, all, or the one made from dendrite's configuration."""

    names: tuple[str, ...] = ()
    dendrite_config: Path | None = None
    days: int | None = None
    local: bool = False


def patience_of(wait: str | None) -> float:
    """Return the seconds of `--wait`; raise UnitError for a value that is no duration."""
    return PATIENCE if wait is None else parse_duration(wait).total_seconds()


class Session:
    """The context of a running command."""

    def __init__(self, environment: Environment, options: Options) -> None:
        self.environment = environment
        self.options = options
        self.out = Output(environment.stdout)
        self.err = Output(environment.stderr, forgiving=True)
        self.translate = translator(environment.variables)
        self.keep_records = Records().keep
        self.notify: Notify | None = None
        self.draft: str | None = None
        """The text of a configuration that is not written yet, in place of the file."""
        self._log = CommandLog(self.err, everything=options.debug)
        self._log_by(Logging())

    @property
    def config_path(self) -> Path:
        """The configuration file: from --config, $RETENTIOND_CONFIG, or the default path."""
        named = self.environment.variables.get("RETENTIOND_CONFIG")
        return self.options.config or (Path(named) if named else _DEFAULT_CONFIG)

    def load(self) -> Config:
        """Read the configuration, and set up logging from it."""
        return self.load_with_places()[0]

    def load_with_places(self) -> tuple[Config, Document]:
        """Read the configuration, and return its document as well, for warnings."""
        config, document = load_with_places(self.config_path, self.environment.variables, self.draft)
        self._log_by(config.logging)
        self.keep_records = config.records.keep
        self.notify = config.notify
        return config, document

    def targets(self, scope: Scope, *, anywhere: bool = False) -> dict[str, TargetConfig]:
        """Return the targets of the command by name; raise UsageError for an unknown name.

        Targets of other hosts are skipped with a note, unless the command only needs their database and may run
        `anywhere`.
        """
        if scope.dendrite_config is not None:
            if self.options.config is not None or scope.names:
                raise UsageError(
                    "--dendrite-config replaces the configuration of retentiond: leave out --config and TARGET"
                )
            days = _DEFAULT_DAYS if scope.days is None else scope.days
            return dict(from_dendrite_config(scope.dendrite_config, days, local=scope.local).targets)
        if scope.days is not None or scope.local:
            raise UsageError(
                "--days and --local need --dendrite-config; with a configuration its policies decide"
            )
        known = self.load().targets
        for name in scope.names:
            if name not in known:
                raise UsageError(f"no target is named `{printable(name, 64)}`; {_nearest(name, known)}")
        chosen = {name: known[name] for name in scope.names or known}
        return chosen if anywhere else self.on_this_host(chosen)

    def capable(
        self, scope: Scope, capability: type, otherwise: str, *, anywhere: bool = False
    ) -> dict[str, Any]:
        """Return the targets in the scope with a capability; raise UsageError with `otherwise` without any.

        A named target without it is an error; others are left out.
        """
        targets = self.targets(scope, anywhere=anywhere)
        capable = {name: config for name, config in targets.items() if registry.has(config, capability)}
        # Targets of other hosts are in neither.
        others = [name for name in targets if name in scope.names and name not in capable]
        if others or (targets and not capable):
            raise UsageError(f"{printable(', '.join(others)) or 'the configuration'}: {otherwise}")
        return capable

    def on_this_host(self, targets: Mapping[str, TargetConfig]) -> dict[str, TargetConfig]:
        """Return the targets of this host; print a note for each target of another host."""
        host = host_name()
        elsewhere = {name: config for name, config in targets.items() if left_alone_on(config, host)}
        for name, config in elsewhere.items():
            self.note(
                f"{name}: skipped on this host, {printable(host)}; its `hosts` are {', '.join(config.only_on)}"
            )
        return {name: config for name, config in targets.items() if name not in elsewhere}

    def run(self, work: Coroutine[Any, Any, int], stop: Stop | None = None) -> int:
        """Run a coroutine; signals request `stop` first, or cancel without one."""
        return run_interruptibly(work, stop, self.note)

    async def for_each(
        self,
        targets: Mapping[str, TargetConfig],
        on_target: TargetWork,
        stop: Stop | None = None,
        failed: Callable[[str, RetentiondError], None] = lambda _name, _error: None,
    ) -> int:
        """Open one target after another; an error of one target does not end the others.

        `failed` is called for each RetentiondError.
        """
        statuses: list[int] = []
        for name, config in targets.items():
            if stop is not None and stop.asked:
                self.error("not reached: stopped before this target; run again to continue", about=name)
                statuses.append(EXIT_STATUSES["interrupted"])
                continue
            try:
                async with self.environment.open_target(name, config) as target:
                    statuses.append(await on_target(target, config))
            except ReaderGoneError:
                raise
            except Exception as error:  # noqa: BLE001 - the next target may be fine; `fail` tells, and logs
                statuses.append(self.fail(error, about=name))
                if isinstance(error, RetentiondError):
                    failed(name, error)
        return worst(statuses)

    def fail(self, error: BaseException, about: str = "") -> int:
        """Print an error, and return its exit status."""
        failure = failure_of(error, debug=self.options.debug)
        for line in failure.lines:
            self.error(line, about=about)
        return failure.exit_status

    def error(self, text: str, about: str = "") -> None:
        """Print an error."""
        text = self.translate(text)
        self._say(f"retentiond: {about}: {text}" if about else f"retentiond: {text}")

    def note(self, text: str) -> None:
        """Print a note, unless --quiet."""
        if not self.options.quiet:
            self._say(f"retentiond: {self.translate(text)}")

    def print_findings(self) -> None:
        """Print how many findings the log counted without listing them; errors are printed even with --quiet."""
        for counts, noun, tell in (
            (self._log.warnings, "warning", self.note),
            (self._log.errors, "error", self.error),
        ):
            if counts:
                kinds = ", ".join(f"{kind} {items:,}" for kind, items in sorted(counts.items()))
                tell(f"{count_in_words(counts.total(), noun)}: {kinds}; `retentiond -v COMMAND` lists each")
                counts.clear()

    def line(self, *texts: str) -> None:
        """Print lines of a result."""
        for text in texts:
            self.out.print(Text(self.translate(text)), soft_wrap=True)

    def document(self, value: object) -> None:
        """Print one JSON document."""
        with suppress(ReaderGoneError):  # what it tells of is done
            self.out.put(json.dumps(value, indent=2) + "\n")

    def command(self, words: str) -> str:
        """Return a command line of retentiond as the user has to type it."""
        config = f" --config {quote(str(self.options.config))}" if self.options.config else ""
        return printable(f"`retentiond{config} {words}`", _LINE_LIMIT)

    def _say(self, text: str) -> None:
        self.err.print(Text(sentence(redact(text), _LINE_LIMIT)), soft_wrap=True)

    def _log_by(self, logging: Logging) -> None:
        """Log as configured for programs, and in plain lines for people (a terminal, a cron job's mail)."""
        stream, environment = self.environment.stderr, self.environment.variables
        for_people = not under_journal(environment, stream) and (stream.isatty() or not self.options.as_json)
        configure_logging(
            "warning" if for_people else logging.level,
            ("console" if self.options.debug else "plain") if for_people else logging.format,
            stream,
            output=self._log if for_people else None,
            quiet=self.options.quiet,
            debug=self.options.debug,
            environment=environment,
        )


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"did you mean `{close[0]}`?" if close else f"configured: {', '.join(known)}"


Work = Callable[[Session], int]
"""The work of a command; returns the exit status."""


def refuse_unasked(session: Session, why: str) -> None:
    """Raise UsageError without a terminal."""
    if not session.environment.stdin.isatty():
        raise UsageError(f"{why}; not a terminal: confirm with --yes")


def agreed(session: Session, question: str) -> bool:
    """Ask, and return whether the answer was yes. No event loop may run: a signal would wait for the answer."""
    session.err.put(f"{question} [y/N] ")
    session.err.settle()
    return session.environment.stdin.readline().strip().lower() in {"y", "yes"}
