"""The command line: what may be typed, and what it asks for. Nothing is done here."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from retentiond import __version__
from retentiond.cli.audit import Audit
from retentiond.cli.check_config import CheckConfig
from retentiond.cli.delete import Delete
from retentiond.cli.explain import Explain
from retentiond.cli.grammar import PROGRAM, Json, Targets, example
from retentiond.cli.hold_line import hold
from retentiond.cli.hold_subjects import read_day
from retentiond.cli.others import Demo, print_example, run
from retentiond.cli.passes import Once, Plan
from retentiond.cli.purge_chats import PurgeChats
from retentiond.cli.quarantine_line import quarantine
from retentiond.cli.records import Export, Verify
from retentiond.cli.report import Report
from retentiond.cli.session import Options, Scope, Work
from retentiond.cli.status import Status
from retentiond.cli.what_if import WhatIf, parse_ages
from retentiond.config.units import parse_size
from retentiond.demo.order import DemoOrder
from retentiond.engine.purge import PurgeWish
from retentiond.engine.target import READ_RATE
from retentiond.model.errors import UsageError
from retentiond.model.request import RequestKind, read_request

app = typer.Typer(
    name=PROGRAM,
    help="Delete old data by rules, safely, with a way back and a record.",
    # Plain text, which takes no bracket for markup.
    rich_markup_mode=None,
)
app.add_typer(quarantine, name="quarantine")
records = typer.Typer(help="The proof of disposal: print it, and verify its chain.")
app.add_typer(records, name="records")
app.add_typer(hold, name="hold")


def read_line(arguments: Sequence[str], options: Options) -> Work | int:
    """Return what the line asks for, or the exit status where Typer has dealt with it (--help, completion).

    What stands before the command goes into `options`. Raise TyperException, UsageError or UnitError for a line
    that cannot be right.
    """
    command = typer.main.get_command(app)
    asked: Work | int = command.main(list(arguments), PROGRAM, standalone_mode=False, obj=options)
    return asked


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


DendriteConfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="dendrite's own configuration, in place of a configuration of ours."),
]
Days = Annotated[
    int | None,
    typer.Option(metavar="N", help="With --dendrite-config: how many days media stay; 30 if not said."),
]
Local = Annotated[bool, typer.Option("--local", help="With --dendrite-config: this server's own media, too.")]


@app.callback()
def _before_the_command(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The configuration; else $RETENTIOND_CONFIG, else /etc/retentiond/config.yaml.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Tell errors only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", "-v", help="Log everything, with tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback deals with it
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    options: Options = context.obj
    options.config, options.quiet, options.debug = config, quiet, debug


@app.command(epilog=example("retentiond demo", "retentiond demo --media 5000 --keep ./demo"))
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


@app.command("run", epilog=example("retentiond --config /etc/retentiond/config.yaml run"))
def be_the_daemon() -> Work:
    """Be the daemon: passes by schedule, and sweeps.

    systemd starts this. It logs to standard output; SIGHUP reads the configuration anew.
    """
    return run


@app.command(epilog=example("retentiond check-config", "retentiond check-config --connect"))
def check_config(
    connect: Annotated[
        bool, typer.Option("--connect", help="Reach the databases and paths, and try what a pass needs.")
    ] = False,
) -> Work:
    """Find all that is wrong with the configuration.

    Where nothing is, it says what each target does.
    """
    return CheckConfig(connect)


@app.command(
    name="example-config",
    epilog=example("retentiond example-config > /etc/retentiond/config.yaml"),
)
def example_config() -> Work:
    """Print the commented example of a configuration."""
    return print_example


@app.command(
    epilog=example(
        "retentiond plan",
        "retentiond plan media --list --json",
        "retentiond plan media --what-if 7d,30d,90d",
        "retentiond plan --explain mxc://example.org/abc",
        "retentiond plan --dendrite-config /etc/dendrite/dendrite.yaml --days 90",
    ),
)
def plan(
    targets: Targets = None,
    listed: Annotated[bool, typer.Option("--list", help="Every item with its reason, one a line.")] = False,
    what_if: Annotated[
        str | None,
        typer.Option(
            metavar="AGES", help="What would go if policies kept media so long, such as 7d,30d,90d."
        ),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="mxc://SERVER/ID", help="One item's whole story: each policy, and all that keeps it."
        ),
    ] = None,
    as_json: Json = False,
    dendrite_config: DendriteConfig = None,
    days: Days = None,
    local: Local = False,
) -> Work:
    """Say what a pass would do; nothing is changed.

    How many items, how large, by which policy; what stays, and why. All targets, where none is named.
    """
    scope = Scope(tuple(targets or ()), dendrite_config, days, local)
    if listed + (what_if is not None) + (explain is not None) > 1:
        raise UsageError("--list, --what-if and --explain each show something else; say one of them")
    if explain is not None:
        return Explain(scope, explain, as_json)
    if what_if is not None:
        return WhatIf(scope, parse_ages(what_if), as_json)
    return Plan(scope, listed, as_json)


@app.command(
    epilog=example(
        "retentiond once media",
        "retentiond once media --yes",
        "retentiond once --dendrite-config /etc/dendrite/dendrite.yaml --days 90",
    ),
)
def once(
    targets: Targets = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as plan.")] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Go over max_share, max_items and max_missing_files, for this pass only, and over nothing else.",
        ),
    ] = False,
    as_json: Json = False,
    dendrite_config: DendriteConfig = None,
    days: Days = None,
    local: Local = False,
) -> Work:
    """Do one pass now.

    What it takes goes to quarantine, from where one command brings it back. All targets, where none is named.
    """
    scope = Scope(tuple(targets or ()), dendrite_config, days, local)
    return Plan(scope, as_json=as_json) if dry_run else Once(scope, yes, as_json)


@app.command(
    epilog=example(
        "retentiond delete --media mxc://example.org/abc",
        "retentiond delete media --user @spam:example.org --dry-run",
        "retentiond delete --room '!abc:example.org' --even-protected --yes",
    ),
)
def delete(
    targets: Targets = None,
    media: Annotated[str | None, typer.Option(metavar="mxc://SERVER/ID", help="This medium.")] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="@USER:SERVER",
            help="What this user uploaded, and what their events and profile refer to.",
        ),
    ] = None,
    origin: Annotated[str | None, typer.Option(metavar="SERVER", help="All media of this server.")] = None,
    room: Annotated[
        str | None,
        typer.Option(metavar="!ROOM:SERVER", help="What this room refers to, and no other room does."),
    ] = None,
    even_protected: Annotated[
        bool, typer.Option("--even-protected", help="Protections do not keep it; a hold always does.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and change nothing.")] = False,
    as_json: Json = False,
) -> Work:
    """Delete by hand, whatever the age.

    It prints its plan, and asks. What goes, goes to quarantine, from where one command brings it back; the limits of
    passes do not hold for it. Say one of --media, --user, --origin and --room. All targets, where none is named.
    """
    said: dict[RequestKind, str | None] = {"media": media, "user": user, "origin": origin, "room": room}
    request = read_request(said, even_protected=even_protected)
    return Delete(Scope(tuple(targets or ())), request, yes, dry_run, as_json)


@app.command(
    epilog=example(
        "retentiond audit",
        "retentiond audit media --list --json",
        "retentiond audit media --verify-content --repair",
    ),
)
def audit(
    targets: Targets = None,
    listed: Annotated[bool, typer.Option("--list", help="Each finding, one a line.")] = False,
    as_json: Json = False,
    verify_content: Annotated[
        bool, typer.Option("--verify-content", help="Read every file, and hold its SHA-256 against its name.")
    ] = False,
    read_rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="SIZE",
            help="With --verify-content: the most that is read in a second; 50MiB unless said.",
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend what is safe to mend; what is taken goes to quarantine first."),
    ] = False,
    drop_damaged_remote: Annotated[
        bool,
        typer.Option(
            "--drop-damaged-remote",
            help="With --repair: drop media of other servers whose file is damaged, so that they are fetched again.",
        ),
    ] = False,
    fail_on_findings: Annotated[
        bool, typer.Option("--fail-on-findings", help="Exit 1 if anything is wrong, and was not mended.")
    ] = False,
) -> Work:
    """Hold the database against the disk, both ways.

    Rows without files, files without rows, sizes that differ. Without --repair nothing is changed. All targets, where
    none is named.
    """
    if read_rate is not None and not verify_content:
        raise UsageError("--rate is for reading the files, and goes with --verify-content; add it")
    rate = READ_RATE if read_rate is None else parse_size(read_rate)
    if rate < 1:
        raise UsageError("--rate is a size a second, such as 50MiB, and not 0")
    return Audit(
        Scope(tuple(targets or ())),
        listed,
        as_json,
        verify_content,
        rate,
        repair,
        drop_damaged_remote,
        fail_on_findings,
    )


@records.command(epilog=example("retentiond records export media > records.jsonl"))
def export(targets: Targets = None) -> Work:
    """Print every record as a line of JSON, oldest first.

    What was deleted, when, by which rules: identifiers and sizes, and no content. All targets, where none is named.
    """
    return Export(Scope(tuple(targets or ())))


@records.command(
    epilog=example("retentiond records verify", "retentiond records verify --file records.jsonl"),
)
def verify(
    targets: Targets = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One that `records export` wrote, in place of the ledger."),
    ] = None,
    as_json: Json = False,
) -> Work:
    """Follow the chain of records; exit 1 and name the first that does not fit.

    Each record holds the hash of the one before. All targets, where none is named.
    """
    return Verify(Scope(tuple(targets or ())), file, as_json)


@app.command(epilog=example("retentiond report --html /srv/www/retention.html"))
def report(
    html: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")],
    targets: Targets = None,
) -> Work:
    """Write a page about the targets.

    What is stored, what each policy would free at other ages, what was freed, what stays and why. It needs nothing else
    to be looked at.
    """
    return Report(Scope(tuple(targets or ())), html)


@app.command(
    name="purge-chats",
    epilog=example(
        "retentiond purge-chats --account testcom --to-date 2023-08-21 --dry-run",
        "retentiond purge-chats --account testcom --to-date 2023-08-21 --delete-file-messages",
    ),
)
def purge_chats(
    account: Annotated[str, typer.Option(metavar="NAME", help="Whose chats, as the configuration names it.")],
    to_date: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="Up to the beginning of this day, which itself stays.")
    ],
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="The target, where several have such an account.")
    ] = None,
    delete_file_messages: Annotated[
        bool,
        typer.Option(
            "--delete-file-messages", help="Messages with files, too; else they and their chats' rows stay."
        ),
    ] = False,
    purge_stats: Annotated[
        bool, typer.Option("--purge-stats", help="The statistics of those days and their log, too.")
    ] = False,
    purge_clickhouse: Annotated[
        bool, typer.Option("--purge-clickhouse", help="The statistics in ClickHouse, too.")
    ] = False,
    purge_elastic: Annotated[
        bool, typer.Option("--purge-elastic", help="The search in Elasticsearch or OpenSearch, too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")
    ] = False,
    as_json: Json = False,
) -> Work:
    """Purge an account's chats up to a date.

    A chat goes as a whole, when it is over and all of it is older than the date. What the floor protects is refused.
    Nothing of it comes back.
    """
    wished = {"clickhouse": purge_clickhouse, "elasticsearch": purge_elastic}
    stores = tuple(name for name, is_wished in wished.items() if is_wished)
    wish = PurgeWish(
        account, read_day(to_date), file_messages=delete_file_messages, stats=purge_stats, stores=stores
    )
    return PurgeChats(wish, target, dry_run, as_json)


@app.command(epilog=example("retentiond status", "retentiond status --json"))
def status(as_json: Json = False) -> Work:
    """Tell how each target stands.

    Its last pass and its next, what is in quarantine, who is at work, and whether a daemon is alive.
    """
    return Status(as_json)
