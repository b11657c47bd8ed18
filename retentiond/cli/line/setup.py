"""The command line of what comes first: the demo, the daemon, and the configuration."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from pathlib import Path
from typing import Annotated

import typer

from retentiond.cli.check_config import CheckConfig
from retentiond.cli.line.grammar import Json, example
from retentiond.cli.others import Demo, print_example, run
from retentiond.cli.session import Work
from retentiond.demo.order import DemoOrder

setup = typer.Typer()


@setup.command(epilog=example("retentiond demo", "retentiond demo --media 5000 --keep ./demo"))
def demo(
    media: Annotated[int, typer.Option(min=1, metavar="N", help="How many media to make up.")] = 1000,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Make the store there, and leave it.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report of the store there.")
    ] = None,
    chats: Annotated[bool, typer.Option("--chats", help="Show a purge of chats, too.")] = False,
    as_json: Json = False,
) -> Work:
    """Show the main job on a made-up store.

    It brings its own PostgreSQL, and needs no configuration.
    """
    return Demo(DemoOrder(media, keep, report, as_json, chats))


@setup.command("run", epilog=example("retentiond --config /etc/retentiond/config.yaml run"))
def be_the_daemon() -> Work:
    """Be the daemon: passes by schedule, and sweeps.

    systemd starts this. It logs to standard output; SIGHUP reads the configuration anew.
    """
    return run


@setup.command(epilog=example("retentiond check-config", "retentiond check-config --connect"))
def check_config(
    connect: Annotated[
        bool, typer.Option("--connect", help="Reach the databases and paths, and try what a pass needs.")
    ] = False,
    as_json: Json = False,
) -> Work:
    """Find all that is wrong with the configuration.

    Where nothing is, it says what each target does. Warnings do not change the exit status.
    """
    return CheckConfig(connect, as_json)


@setup.command(
    name="example-config",
    epilog=example("retentiond example-config > /etc/retentiond/config.yaml"),
)
def example_config() -> Work:
    """Print the commented example of a configuration."""
    return print_example
