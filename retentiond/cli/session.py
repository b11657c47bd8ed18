"""One command under way: its streams, its configuration, its targets, and what became of it."""

import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import Any, Final

from rich.text import Text

from retentiond.adapters.journal import under_journal
from retentiond.adapters.log_entries import redact
from retentiond.adapters.logging import configure_logging
from retentiond.cli.failures import failure_of
from retentiond.cli.log import CommandLog
from retentiond.cli.signals import run_interruptibly
from retentiond.cli.streams import Output, ReaderGoneError
from retentiond.cli.surroundings import Surroundings
from retentiond.config.document import Document
from retentiond.config.from_dendrite import from_dendrite_config
from retentiond.config.load import load_with_places
from retentiond.config.schema import Config, Logging, Records, TargetConfig, hosts_of, left_alone_on
from retentiond.engine.target import Stop, Target
from retentiond.ledger.host import host_name
from retentiond.model.errors import RetentiondError, UsageError
from retentiond.model.outcome import EXIT_STATUSES, worst
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words

_DEFAULT_CONFIG: Final = Path("/etc/retentiond/config.yaml")
_DEFAULT_DAYS: Final = 30
_LINE_LIMIT: Final = 4000

Errand = Callable[[Target, TargetConfig], Awaitable[int]]
"""What is done with each target; returns the exit status that it asks for."""


@dataclass(slots=True)
class Options:
    """The options before the command; `as_json`: the command prints JSON, so a program is its reader."""

    config: Path | None = None
    quiet: bool = False
    debug: bool = False
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """Which targets a command is for: those named, all, or the one that dendrite's configuration makes."""

    names: tuple[str, ...] = ()
    dendrite_config: Path | None = None
    days: int | None = None
    local: bool = False


class Session:
    """What all commands have in common."""

    def __init__(self, surroundings: Surroundings, options: Options) -> None:
        self.surroundings = surroundings
        self.options = options
        self.out = Output(surroundings.stdout)
        self.err = Output(surroundings.stderr, forgiving=True)
        self.keep_records = Records().keep
        self._log = CommandLog(self.err, everything=options.debug)
        self._log_by(Logging())

    @property
    def config_path(self) -> Path:
        """The configuration file: as said, or by the variable, or where it usually is."""
        named = self.surroundings.environment.get("RETENTIOND_CONFIG")
        return self.options.config or (Path(named) if named else _DEFAULT_CONFIG)

    def load(self) -> Config:
        """Read the configuration, and log as it says."""
        return self.load_with_places()[0]

    def load_with_places(self) -> tuple[Config, Document]:
        """Load it, and return its document as well, for warnings."""
        config, document = load_with_places(self.config_path, self.surroundings.environment)
        self._log_by(config.logging)
        self.keep_records = config.records.keep
        return config, document

    def targets(self, scope: Scope, *, anywhere: bool = False) -> dict[str, TargetConfig]:
        """Return the targets that the command is for, by name; raise UsageError for a name that is none.

        Those that other hosts work on are left alone, and said to be, unless the command needs their database only,
        and may be run `anywhere`.
        """
        if scope.dendrite_config is not None:
            if self.options.config is not None or scope.names:
                raise UsageError(
                    "--dendrite-config does without a configuration of our own: leave out --config and TARGET"
                )
            days = _DEFAULT_DAYS if scope.days is None else scope.days
            return dict(from_dendrite_config(scope.dendrite_config, days, local=scope.local).targets)
        if scope.days is not None or scope.local:
            raise UsageError(
                "--days and --local go with --dendrite-config; a configuration's policies say it themselves"
            )
        known = self.load().targets
        for name in scope.names:
            if name not in known:
                raise UsageError(f"there is no target `{printable(name, 64)}`; {_nearest(name, known)}")
        chosen = {name: known[name] for name in scope.names or known}
        return chosen if anywhere else self.at_hand(chosen)

    def at_hand(self, targets: Mapping[str, TargetConfig]) -> dict[str, TargetConfig]:
        """Return the targets that this host may work on, and say of the others that they are left alone."""
        host = host_name()
        elsewhere = {name: config for name, config in targets.items() if left_alone_on(config, host)}
        for name, config in elsewhere.items():
            self.note(
                f"{name}: left alone on this host, {printable(host)}; its `hosts` are {', '.join(hosts_of(config))}"
            )
        return {name: config for name, config in targets.items() if name not in elsewhere}

    def run(self, work: Coroutine[Any, Any, int], stop: Stop | None = None) -> int:
        """Run what awaits; signals ask `stop` first, or cancel where there is none."""
        return run_interruptibly(work, stop, self.note)

    async def for_each(
        self,
        targets: Mapping[str, TargetConfig],
        errand: Errand,
        stop: Stop | None = None,
        failed: Callable[[str, RetentiondError], None] = lambda _name, _error: None,
    ) -> int:
        """Open one target after another; what goes wrong with one does not keep the others from their turn.

        `failed` hears of each that failed in an orderly way.
        """
        statuses: list[int] = []
        for name, config in targets.items():
            if stop is not None and stop.asked:
                self.error("not reached: stopped before this target; run again to continue", about=name)
                statuses.append(EXIT_STATUSES["interrupted"])
                continue
            try:
                async with self.surroundings.open_target(name, config) as target:
                    statuses.append(await errand(target, config))
            except ReaderGoneError:
                raise
            except Exception as error:  # noqa: BLE001 - the next target may be fine; `fail` tells, and logs
                statuses.append(self.fail(error, about=name))
                if isinstance(error, RetentiondError):
                    failed(name, error)
        return worst(statuses)

    def fail(self, error: BaseException, about: str = "") -> int:
        """Say what went wrong, and return the exit status."""
        failure = failure_of(error, debug=self.options.debug)
        for line in failure.lines:
            self.error(line, about=about)
        return failure.exit_status

    def error(self, text: str, about: str = "") -> None:
        """Tell an error."""
        self._say(f"retentiond: {about}: {text}" if about else f"retentiond: {text}")

    def note(self, text: str) -> None:
        """Tell something that is no error, unless only errors are wanted."""
        if not self.options.quiet:
            self._say(f"retentiond: {text}")

    def tell_findings(self) -> None:
        """Say how many findings the log has that are not listed; errors even where only errors are wanted."""
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
            self.out.print(Text(text), soft_wrap=True)

    def document(self, value: object) -> None:
        """Print one JSON document."""
        with suppress(ReaderGoneError):  # what it tells of is done
            self.out.put(json.dumps(value, indent=2) + "\n")

    def command(self, words: str) -> str:
        """Return a command line of ours, as the user would have to type it."""
        config = f" --config {quote(str(self.options.config))}" if self.options.config else ""
        return printable(f"`retentiond{config} {words}`", _LINE_LIMIT)

    def _say(self, text: str) -> None:
        self.err.print(Text(printable(redact(text), _LINE_LIMIT)), soft_wrap=True)

    def _log_by(self, logging: Logging) -> None:
        """Log for programs as the configuration says, and for people (a terminal, a cron job's mail) in plain lines."""
        stream, environment = self.surroundings.stderr, self.surroundings.environment
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
    return f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(known)}"


Work = Callable[[Session], int]
"""What a command line asks for; returns the exit status."""
