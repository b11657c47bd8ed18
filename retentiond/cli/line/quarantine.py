"""The command line of `quarantine`: what may be typed, and what it asks for."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from typing import Annotated

import typer

from retentiond.cli.accept import Accept, Forget
from retentiond.cli.line.grammar import Json, Media, Reason, Targets, example
from retentiond.cli.quarantine import List, Restore
from retentiond.cli.quarantine_purge import CancelPurge, Purge
from retentiond.cli.session import Scope, Work
from retentiond.config.units import parse_duration
from retentiond.engine.target import Selection
from retentiond.model.errors import UsageError

quarantine = typer.Typer(help="What passes took: list it, restore it, purge it.")


@quarantine.command("list", epilog=example("retentiond quarantine list media"))
def list_quarantine(targets: Targets = None, as_json: Json = False) -> Work:
    """List what can be brought back, and until when.

    All targets, where none is named.
    """
    return List(Scope(tuple(targets or ())), as_json)


@quarantine.command(
    epilog=example(
        "retentiond quarantine restore media --pass 7",
        "retentiond quarantine restore --media mxc://example.org/abc --for 90d --reason 'asked for by Ann'",
    ),
)
def restore(
    targets: Targets = None,
    pass_id: Annotated[
        int | None, typer.Option("--pass", min=1, metavar="N", help="What this pass took.")
    ] = None,
    media: Media = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is in quarantine.")] = False,
    keep_for: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="TIME", help="How long it is kept from then on, such as 90d; else for good."
        ),
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> Work:
    """Bring back rows, thumbnails and files.

    They are kept from then on. Say one of --pass, --media and --all.
    """
    duration = None if keep_for is None else parse_duration(keep_for)
    selection = Selection(pass_id, media, duration, reason)
    return Restore(Scope(tuple(targets or ())), selection, everything, as_json)


@quarantine.command(
    epilog=example("retentiond quarantine purge media --yes", "retentiond quarantine purge media --cancel"),
)
def purge(
    targets: Targets = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    cancel: Annotated[
        bool, typer.Option("--cancel", help="Give the ended grace back to what is not purged yet.")
    ] = False,
    as_json: Json = False,
) -> Work:
    """Purge now what is in quarantine, for good.

    It ends the grace, but not the settle, of all that is there: newer files are purged by the daemon, or by the next
    `once`, when their settle is over. Until then --cancel takes it back. It says what goes when, and asks first. All
    targets, where none is named.
    """
    if cancel and yes:
        raise UsageError("--cancel takes a purge back and asks nothing; leave --yes out")
    if cancel:
        return CancelPurge(Scope(tuple(targets or ())), as_json)
    return Purge(Scope(tuple(targets or ())), yes, as_json)


@quarantine.command(
    epilog=example(
        "retentiond quarantine forget --media mxc://example.org/abc",
        "retentiond quarantine forget media --all",
    ),
)
def forget(
    targets: Targets = None,
    media: Annotated[
        list[str] | None,
        typer.Option(metavar="mxc://SERVER/ID", help="This medium; may be said several times."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that was restored.")] = False,
    as_json: Json = False,
) -> Work:
    """Keep what was restored no longer.

    From then on the policies decide again. Say --media or --all.
    """
    return Forget(Scope(tuple(targets or ())), tuple(media or ()), everything, as_json)


@quarantine.command(
    epilog=example("retentiond quarantine accept media", "retentiond quarantine accept media --yes"),
)
def accept(
    target: Annotated[str, typer.Argument(metavar="TARGET", hidden=True)],
    yes: Annotated[bool, typer.Option("--yes", help="Go on from what is there.")] = False,
    as_json: Json = False,
) -> Work:
    """Go on after a restored database, another disk, or a clock that leapt.

    It shows what the ledger and the disk know and what rows want. With --yes it gives back what rows bear, takes what
    is left on the disk into the ledger, to be kept until it is purged by hand, closes what is gone as lost, and accepts
    the clock.
    """
    return Accept(target, yes, as_json)
