"""`demo`, `run`, `example-config` and `config-schema`: the commands that open no target of a configuration."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from retentiond.cli.options import Json, commands, example
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Session, Work
from retentiond.config.example import example_config
from retentiond.config.json_schema import json_schema
from retentiond.config.schema import KINDS
from retentiond.demo.options import DemoOptions
from retentiond.model.errors import UsageError
from retentiond.model.text import printable

app = commands()


@app.command(epilog=example("retentiond demo", "retentiond demo --media 5000 --keep ./demo"))
def demo(
    media: Annotated[int, typer.Option(min=1, metavar="N", help="Number of media to generate.")] = 1000,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Create the store there, and keep it.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the HTML report to this file.")
    ] = None,
    chats: Annotated[bool, typer.Option("--chats", help="Also show a purge of chats.")] = False,
    rooms: Annotated[
        bool, typer.Option("--rooms", help="Also show a purge of rooms, through a stand-in for dendrite.")
    ] = False,
    as_json: Json = False,
) -> Work:
    """Try retentiond on a generated store.

    The demo brings its own PostgreSQL, and needs no configuration.
    """
    return Demo(DemoOptions(media, keep, report, as_json, chats, rooms))


@app.command("run", epilog=example("retentiond --config /etc/retentiond/config.yaml run"))
def be_the_daemon() -> Work:
    """Run as a daemon: scheduled passes and sweeps.

    The systemd unit starts this command. It logs to standard output, and reloads the configuration on SIGHUP.
    """
    return run


@app.command(
    name="example-config",
    epilog=example(
        "retentiond example-config > /etc/retentiond/config.yaml",
        "retentiond example-config --kind chat_database > /etc/retentiond/config.yaml",
    ),
)
def print_example(
    kind: Annotated[
        str, typer.Option(metavar="KIND", help=f"The kind of its target: {', '.join(KINDS)}.")
    ] = "dendrite_media",
) -> Work:
    """Print the commented example configuration."""
    return PrintExample(kind)


@app.command(name="config-schema", epilog=example("retentiond config-schema > config.schema.json"))
def print_schema() -> Work:
    """Print the JSON Schema of the configuration.

    Editors complete and check a configuration with it. The first line of `example-config` names the file.
    """
    return write_schema


def write_schema(session: Session) -> int:
    """Print the JSON Schema."""
    session.out.put(json_schema())
    return 0


def run(session: Session) -> int:
    """Be the daemon; it has its own ways with signals and logs."""
    environment, options = session.environment, session.options
    return asyncio.run(
        environment.run_daemon(
            session.config_path, environment.variables, quiet=options.quiet, debug=options.debug
        )
    )


@dataclass(frozen=True, slots=True)
class PrintExample:
    """Print the commented example for a kind of target."""

    kind: str

    def __call__(self, session: Session) -> int:
        """Print it; raise UsageError for an unknown kind."""
        if self.kind not in KINDS:
            raise UsageError(f"there is no kind `{printable(self.kind, 64)}`; write {' or '.join(KINDS)}")
        session.out.put(example_config(self.kind))
        return 0


@dataclass(frozen=True, slots=True)
class Demo:
    """Show the main job on a made-up store."""

    options: DemoOptions

    def __call__(self, session: Session) -> int:
        """Run it, with nothing of the user's own touched."""
        console = session.out
        # What was asked for by --json is printed, however quiet.
        console.quiet = session.options.quiet and not self.options.as_json
        screen = session.err if may_show_bars(session) and not self.options.as_json else None
        return session.run(session.environment.run_demo(self.options, console, screen))
