"""The command line of `hold`: what may be typed, and what it asks for."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from typing import Annotated

import typer

from retentiond.cli.hold_subjects import Subjects
from retentiond.cli.holds import Add, ListHolds, Release
from retentiond.cli.line.grammar import Json, Media, Origin, Reason, Targets, User, example
from retentiond.cli.session import Scope, Work

hold = typer.Typer(
    help="What must stay, whatever the policies say: put it on hold, list holds, release them."
)

Room = Annotated[
    str | None,
    typer.Option(metavar="!ROOM:SERVER", help="What this room's events and state refer to, also later on."),
]
AccountName = Annotated[
    str | None, typer.Option(metavar="NAME", help="The chats of this account, or those of it that follow.")
]
Chat = Annotated[str | None, typer.Option(metavar="ID", help="With --account: this chat alone.")]
Visitor = Annotated[str | None, typer.Option(metavar="ID", help="With --account: the chats of this visitor.")]
Begin = Annotated[
    str | None, typer.Option("--from", metavar="DATE", help="With --account: chats of this day and later.")
]
Before = Annotated[str | None, typer.Option(metavar="DATE", help="With --account: chats of before this day.")]


@hold.command(
    epilog=example(
        "retentiond hold add --media mxc://example.org/abc --reason 'case 17'",
        "retentiond hold add media --room '!abc:example.org' --until 2027-06-30",
        "retentiond hold add media --room '!abc:example.org' --with-members",
        "retentiond hold add --account testcom --visitor 4711 --from 2023-01-01 --before 2024-01-01",
    ),
)
def add(
    targets: Targets = None,
    media: Media = None,
    user: User = None,
    origin: Origin = None,
    room: Room = None,
    account: AccountName = None,
    chat: Chat = None,
    visitor: Visitor = None,
    begin: Begin = None,
    before: Before = None,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="The last day, in UTC; else until it is released.")
    ] = None,
    reason: Reason = "",
    with_members: Annotated[
        bool,
        typer.Option(
            "--with-members",
            help="With --room: the uploads of its members here and all media of its other members' servers, too.",
        ),
    ] = False,
    as_json: Json = False,
) -> Work:
    """Put a hold on: what it covers stays.

    No policy, delete or purge takes it, and what is in quarantine already comes back. All targets, where none is named.
    """
    subjects = Subjects(media, user, origin, room, account, chat, visitor, begin, before)
    return Add(Scope(tuple(targets or ())), subjects, until, reason, as_json, with_members)


@hold.command("list", epilog=example("retentiond hold list", "retentiond hold list media --all --json"))
def list_holds(
    targets: Targets = None,
    closed: Annotated[bool, typer.Option("--all", help="Those that ended or were released, too.")] = False,
    as_json: Json = False,
) -> Work:
    """List the holds in force.

    All targets, where none is named.
    """
    return ListHolds(Scope(tuple(targets or ())), closed, as_json)


@hold.command(
    epilog=example(
        "retentiond hold release media 3 --reason 'case closed'",
        "retentiond hold release --user @ann:example.org",
    ),
)
def release(
    words: Annotated[list[str] | None, typer.Argument(metavar="TARGET|NUMBER", hidden=True)] = None,
    media: Media = None,
    user: User = None,
    origin: Origin = None,
    room: Room = None,
    account: AccountName = None,
    chat: Chat = None,
    visitor: Visitor = None,
    begin: Begin = None,
    before: Before = None,
    reason: Reason = "",
    as_json: Json = False,
) -> Work:
    """Release holds: by the numbers that `hold list` shows, or all on one subject.

    They stay on record, with who released them, when, and why.
    """
    subjects = Subjects(media, user, origin, room, account, chat, visitor, begin, before)
    return Release(tuple(words or ()), subjects, reason, as_json)
