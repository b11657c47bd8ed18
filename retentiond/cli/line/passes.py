"""The command line of passes, and of what is deleted by hand as a pass deletes it."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from pathlib import Path
from typing import Annotated

import typer

from retentiond.cli.delete import Delete
from retentiond.cli.explain import Explain
from retentiond.cli.line.grammar import Json, Media, Origin, Targets, User, example
from retentiond.cli.passes import Once, Plan
from retentiond.cli.session import Scope, Work
from retentiond.cli.what_if import WhatIf, parse_ages
from retentiond.model.errors import UsageError
from retentiond.model.request import RequestKind, read_request

passes = typer.Typer()

DendriteConfig = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="dendrite's own configuration, in place of a configuration of ours."),
]
Days = Annotated[
    int | None,
    typer.Option(metavar="N", help="With --dendrite-config: how many days media stay; 30 if not said."),
]
Local = Annotated[bool, typer.Option("--local", help="With --dendrite-config: this server's own media, too.")]


@passes.command(
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


@passes.command(
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


@passes.command(
    epilog=example(
        "retentiond delete --media mxc://example.org/abc",
        "retentiond delete media --user @spam:example.org --dry-run",
        "retentiond delete --room '!abc:example.org' --even-protected --yes",
    ),
)
def delete(
    targets: Targets = None,
    media: Media = None,
    user: User = None,
    origin: Origin = None,
    room: Annotated[
        str | None,
        typer.Option(
            metavar="!ROOM:SERVER",
            help="What this room refers to, and no other room does; of uploads here, those that their uploader sent there.",
        ),
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
