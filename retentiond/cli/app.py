"""The command line: which verbs there are, and the way from its arguments to an exit status.

A verb is a function in a module of its own, with its options and its help; it returns the work, which runs after the
line was read. The module is imported when its verb is used: `--help` and `--version` wait for no database driver.
"""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command, get_group

from retentiond import __version__
from retentiond.cli.options import PROGRAM, Config, Debug, Options, Quiet, commands

if TYPE_CHECKING:
    from retentiond.cli.environment import Environment
    from retentiond.cli.session import Work
    from retentiond.terminal.translation import Translate

_READER_GONE: Final = 141
"""The status that a shell reports of a program ended by SIGPIPE."""


@dataclass(frozen=True, slots=True)
class _Verb:
    """Where a verb is, and the line about it in the help; it is the first line of the verb's own help as well."""

    module: str
    summary: str


VERBS: Final[Mapping[str, _Verb]] = MappingProxyType(
    {
        "demo": _Verb("setup", "Try retentiond on a generated store."),
        "run": _Verb("setup", "Run as a daemon: scheduled passes and sweeps."),
        "init": _Verb("init", "Make a configuration from what is on this machine."),
        "check-config": _Verb("check_config", "Check the configuration."),
        "example-config": _Verb("setup", "Print the commented example configuration."),
        "config-schema": _Verb("setup", "Print the JSON Schema of the configuration."),
        "plan": _Verb("plan", "Show what a pass would delete; change nothing."),
        "once": _Verb("once", "Run one pass now."),
        "delete": _Verb("delete", "Delete media by name, whatever their age."),
        "audit": _Verb("audit", "Compare database and disk; report and repair differences."),
        "usage": _Verb("usage", "Show the used space by server, room, user, type or age."),
        "report": _Verb("report", "Write an HTML page about the targets."),
        "purge-chats": _Verb("purge_chats", "Delete an account's chats up to a date."),
        "status": _Verb("status", "Show the status of each target."),
        "health": _Verb("health", "Check that a daemon of this host works."),
        "quarantine": _Verb("quarantine", "List, restore or purge what passes deleted."),
        "records": _Verb("records", "Export and verify the proof of disposal."),
        "hold": _Verb("holds", "Keep items whatever the policies say."),
        "notify": _Verb("notify", "Test the notifications."),
        "help": _Verb("app", "Show this help, or the help of a command."),
    }
)
"""In the order of the help."""


def execute(arguments: Sequence[str], environment: "Environment") -> int:
    """Run the command of the arguments, and return its exit status; only SystemExit is raised."""
    options = Options(translate=_translation(environment))
    try:
        work = _read(arguments, options)
    except Exception as error:  # noqa: BLE001 - `fail` reports it, and logs one that is unexpected
        from retentiond.cli.session import Session  # noqa: PLC0415 - see the head of this file

        return Session(environment, options).fail(error)
    return work if isinstance(work, int) else _run(work, environment, options)


def _translation(environment: "Environment") -> "Translate | None":
    if not any("ru" in environment.variables.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG")):
        return None
    from retentiond.terminal.translation import translator, untranslated  # noqa: PLC0415 - see the head of this file

    translate = translator(environment.variables)
    return None if translate is untranslated else translate


def _run(work: "Work", environment: "Environment", options: Options) -> int:
    # The import of asyncio takes a third of the time of `--version`, which has no loop.
    from asyncio import CancelledError  # noqa: PLC0415

    from retentiond.cli.session import Session  # noqa: PLC0415 - see the head of this file
    from retentiond.cli.streams import ReaderGoneError  # noqa: PLC0415
    from retentiond.model.errors import UnreachableError  # noqa: PLC0415

    session = Session(environment, options)
    try:
        try:
            status = work(session)
        finally:
            session.print_findings()
        session.out.settle()
    except ReaderGoneError:
        return _READER_GONE
    except (Exception, CancelledError, KeyboardInterrupt) as error:  # noqa: BLE001 - likewise
        with suppress(UnreachableError, CancelledError):
            session.out.settle()
        return session.fail(error)
    return status


def _read(arguments: Sequence[str], options: Options) -> "Work | int":
    """Return the work that the line asks for, or the exit status after `--help` and completion.

    Raise TyperException, UsageError or UnitError for a line with an error.
    """
    command = get_command(_line)
    work: Work | int = command.main(list(arguments), PROGRAM, standalone_mode=False, obj=options)
    return work


class _Verbs(TyperGroup):
    """The verbs: a line each for help and completion, and the whole command once one is used."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, verb in VERBS.items():
            self.add_command(TyperCommand(name, short_help=verb.summary, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Import the verb that the line names."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or command is None:
            return name, None, rest
        return name, _in_language(load(name), ctx.find_root().obj), rest


def load(name: str) -> TyperCommand | TyperGroup:
    """Import a verb, and return its command; the options of every command are accepted after it, too."""
    group = get_group(import_module(f"retentiond.cli.{VERBS[name].module}").app)
    # A module whose commands do not have the verb's own name is a set of them: `quarantine list`.
    command = group.commands.get(name, group)
    leaves = command.commands.values() if isinstance(command, TyperGroup) else [command]
    everywhere = _everywhere()
    for leaf in leaves:
        leaf.params.extend(everywhere)
    assert isinstance(command, TyperCommand | TyperGroup)  # noqa: S101 - Typer's annotation is wider
    return command


def _in_language(command: TyperCommand | TyperGroup, options: Options | None) -> TyperCommand | TyperGroup:
    """Let a command's help be in the language of the user."""
    if options is not None and options.translate is not None:
        from retentiond.terminal.translation import translate_help  # noqa: PLC0415 - see the head of this file

        translate_help(command, options.translate)
    return command


def _everywhere() -> list[TyperOption]:
    """Return the options of every command, hidden: the main help describes them."""
    reader = commands()
    reader.command()(_options_after)
    options = [option for option in get_command(reader).params if isinstance(option, TyperOption)]
    for option in options:
        option.hidden, option.expose_value = True, False
    return options


def _options_after(config: Config = None, quiet: Quiet = False, debug: Debug = False) -> None:
    """Take the options of every command after a verb; their callbacks store them."""


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


_line = typer.Typer(
    name=PROGRAM,
    cls=_Verbs,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@_line.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    config: Config = None,  # noqa: ARG001 - the callbacks store them
    quiet: Quiet = False,  # noqa: ARG001
    debug: Debug = False,  # noqa: ARG001
    version: Annotated[  # noqa: ARG001
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Delete old data by rules, with a way back and a record.

    --config, --quiet and --debug are accepted before and after the command.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


app = commands()


@app.command("help")
def show_help(
    context: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", hidden=True)] = None,
) -> None:
    """Show this help, or the help of a command."""
    about = context.find_root()
    for word in words or ():
        if not isinstance(about.command, TyperGroup):
            break
        name, command, _ = about.command.resolve_command(about, [word])
        if command is not None:
            about = command.make_context(name, [], parent=about, resilient_parsing=True)
    typer.echo(about.get_help())
    raise typer.Exit
