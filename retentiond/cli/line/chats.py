"""The command line of `purge-chats`."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from typing import Annotated

import typer

from retentiond.cli.hold_subjects import read_day
from retentiond.cli.options import Json, example
from retentiond.cli.purge_chats import PurgeChats
from retentiond.cli.session import Work
from retentiond.engine.purge import Erasure, PurgeRequest
from retentiond.model.errors import UsageError

app = chats = typer.Typer(rich_markup_mode=None)


@chats.command(
    name="purge-chats",
    epilog=example(
        "retentiond purge-chats --account testcom --to-date 2023-08-21 --dry-run",
        "retentiond purge-chats --account testcom --to-date 2023-08-21 --delete-file-messages",
        "retentiond purge-chats --account testcom --visitor 4711 --dry-run",
        "retentiond purge-chats --account testcom --visitor 4711 --even-under-floor --reason 'request 2027-001'",
    ),
)
def purge_chats(
    account: Annotated[str, typer.Option(metavar="NAME", help="Whose chats, as the configuration names it.")],
    to_date: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="Up to the beginning of this day, which itself stays."),
    ] = None,
    visitor: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Erase the chats of this visitor instead, files and all, in every store; those that the floor keeps stay.",
        ),
    ] = None,
    even_under_floor: Annotated[
        bool,
        typer.Option(
            "--even-under-floor", help="With --visitor: also chats that the floor keeps; needs --reason."
        ),
    ] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="With --visitor: why, for the record.")] = "",
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="The target, where several have such an account.")
    ] = None,
    delete_file_messages: Annotated[
        bool,
        typer.Option(
            "--delete-file-messages",
            help="Messages with files, too; else they and their chats' rows stay. The files themselves, in a file store, "
            "are not deleted.",
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
    purge_orphans: Annotated[
        bool,
        typer.Option(
            "--purge-orphans",
            help="Rows whose chat is missing from the database, too, where their own dates are older.",
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")
    ] = False,
    as_json: Json = False,
) -> Work:
    """Delete an account's chats up to a date.

    A chat goes as a whole, when it is over and all of it is older than the date. What the floor protects is refused.
    Nothing of it comes back.

    With --visitor the chats of one person go, whatever the date, and the record of it proves that; a hold prevents it.
    """
    if visitor is not None:
        if to_date is not None or purge_stats:
            raise UsageError("--to-date and --purge-stats do not go with --visitor; leave them out")
        if purge_orphans:
            # The visitor of a missing chat is unknown.
            raise UsageError("--purge-orphans does not go with --visitor; leave it out")
        return PurgeChats(Erasure(account, visitor, even_under_floor, reason), target, dry_run, as_json)
    if even_under_floor or reason:
        raise UsageError("--even-under-floor and --reason go with --visitor; leave them out")
    if to_date is None:
        raise UsageError("name --to-date, the first day that stays, or --visitor")
    wished = {"clickhouse": purge_clickhouse, "elasticsearch": purge_elastic}
    stores = tuple(name for name, is_wished in wished.items() if is_wished)
    wish = PurgeRequest(
        account,
        read_day(to_date),
        file_messages=delete_file_messages,
        stats=purge_stats,
        stores=stores,
        orphans=purge_orphans,
    )
    return PurgeChats(wish, target, dry_run, as_json)
