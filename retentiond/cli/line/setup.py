"""The command line of what comes first: the demo, the daemon, and the configuration."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from pathlib import Path
from typing import Annotated

import typer

from retentiond.cli.check_config import CheckConfig
from retentiond.cli.options import Json, example
from retentiond.cli.others import Demo, PrintExample, run
from retentiond.cli.session import Work
from retentiond.demo.options import DemoOptions

app = setup = typer.Typer(rich_markup_mode=None)


@setup.command(epilog=example("retentiond demo", "retentiond demo --media 5000 --keep ./demo"))
def demo(
    media: Annotated[int, typer.Option(min=1, metavar="N", help="Number of media to generate.")] = 1000,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Create the store there, and keep it.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the HTML report to this file.")
    ] = None,
    chats: Annotated[bool, typer.Option("--chats", help="Also show a purge of chats.")] = False,
    as_json: Json = False,
) -> Work:
    """Try retentiond on a generated store.

    The demo brings its own PostgreSQL, and needs no configuration.
    """
    return Demo(DemoOptions(media, keep, report, as_json, chats))


@setup.command("run", epilog=example("retentiond --config /etc/retentiond/config.yaml run"))
def be_the_daemon() -> Work:
    """Run as a daemon: scheduled passes and sweeps.

    The systemd unit starts this command. It logs to standard output, and reloads the configuration on SIGHUP.
    """
    return run


@setup.command(epilog=example("retentiond check-config", "retentiond check-config --connect"))
def check_config(
    connect: Annotated[
        bool, typer.Option("--connect", help="Connect to databases and paths, and check what a pass needs.")
    ] = False,
    as_json: Json = False,
) -> Work:
    """Check the configuration.

    The command reports all errors and warnings, and sums up each target. Warnings do not change the exit status.
    """
    return CheckConfig(connect, as_json)


@setup.command(
    name="example-config",
    epilog=example(
        "retentiond example-config > /etc/retentiond/config.yaml",
        "retentiond example-config --kind chat_database > /etc/retentiond/config.yaml",
    ),
)
def example_config(
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="The kind of its target: dendrite_media or chat_database.")
    ] = "dendrite_media",
) -> Work:
    """Print the commented example configuration."""
    return PrintExample(kind)
