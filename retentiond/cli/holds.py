"""`hold`: add, list and release holds; covered items are kept against all policies."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from retentiond.cli.hold_words import FLAGS, Subjects, about, covers, history, members, read_day, warn
from retentiond.cli.listing import JsonList
from retentiond.cli.options import Json, Media, Origin, Reason, Targets, User, commands, example
from retentiond.cli.session import Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import HasHolds
from retentiond.model.errors import FAILED, UsageError
from retentiond.model.holds import HoldRequest
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words

app = commands("Keep items whatever the policies say.")

Room = Annotated[
    str | None,
    typer.Option(
        metavar="!ROOM:SERVER",
        help="Media that this room's events and state refer to, now and later, and in a target of rooms the room itself.",
    ),
]
AccountName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Chats of this account; the options below narrow them.")
]
Chat = Annotated[str | None, typer.Option(metavar="ID", help="With --account: this chat only.")]
Visitor = Annotated[str | None, typer.Option(metavar="ID", help="With --account: chats of this visitor.")]
Begin = Annotated[
    str | None, typer.Option("--from", metavar="DATE", help="With --account: chats from this day on.")
]
Before = Annotated[str | None, typer.Option(metavar="DATE", help="With --account: chats before this day.")]


@app.command(
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
        str | None,
        typer.Option(metavar="DATE", help="Last day of the hold, in UTC; default: until it is released."),
    ] = None,
    reason: Reason = "",
    with_members: Annotated[
        bool,
        typer.Option(
            "--with-members",
            help="With --room: also uploads of its local members, and all media of the other members' servers.",
        ),
    ] = False,
    as_json: Json = False,
) -> Work:
    """Add a hold.

    No policy, delete or purge removes what a hold covers; covered items in quarantine are restored. Without TARGET the
    hold is added to all targets.
    """
    subjects = Subjects(media, user, origin, room, account, chat, visitor, begin, before)
    return Add(Scope(tuple(targets or ())), subjects, until, reason, as_json, with_members)


@app.command("list", epilog=example("retentiond hold list", "retentiond hold list media --all --json"))
def list_holds(
    targets: Targets = None,
    closed: Annotated[bool, typer.Option("--all", help="Include holds that ended or were released.")] = False,
    as_json: Json = False,
) -> Work:
    """List the holds in force.

    Without TARGET it covers all targets.
    """
    return ListHolds(Scope(tuple(targets or ())), closed, as_json)


@app.command(
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
    """Release holds by number, or all on one subject.

    `hold list` shows the numbers. Released holds stay on record, with user, time and reason.
    """
    subjects = Subjects(media, user, origin, room, account, chat, visitor, begin, before)
    return Release(tuple(words or ()), subjects, reason, as_json)


_NO_HOLDS = "no holds; name a target that can have them"


@dataclass(frozen=True, slots=True)
class Add:
    """Add a hold on one subject."""

    scope: Scope
    subjects: Subjects
    until: str | None = None
    reason: str = ""
    as_json: bool = False
    with_members: bool = False

    def __call__(self, session: Session) -> int:
        """Add it in one target after another, and print the items that it covers there."""
        subject = self.subjects.read()
        if subject is None:
            raise UsageError(f"use one of {FLAGS}")
        until = None if self.until is None else _last_day(self.until, session.environment.now())
        if self.with_members and subject.kind != "room":
            raise UsageError("--with-members needs --room")
        request = HoldRequest(subject, until, self.reason, self.with_members)
        targets = session.capable(self.scope, HasHolds, _NO_HOLDS, anywhere=True)
        if not self.scope.names:
            # A hold without TARGET is added only where its subject can exist.
            targets = {
                name: config
                for name, config in targets.items()
                if config.has_subject(subject.kind, subject.name)
            }
        if not targets:
            what = (
                "media or rooms" if subject.kind != "account" else f"the account `{printable(subject.name)}`"
            )
            raise UsageError(f"no target has {what}; name a TARGET")
        holds: list[dict[str, Any]] = []

        async def on_target(target: HasHolds, _config: TargetConfig) -> int:
            hold, coverage = await target.holds.add(request)
            holds.append({"target": target.name} | hold.as_json() | coverage.as_json())
            if not (self.as_json or session.options.quiet):
                session.line(f"{target.name}: {about(hold)} {covers(coverage)}", *members(hold))
            warn(session, target.name, hold, coverage)
            return 0

        try:
            return session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json:
                session.document({"holds": holds})


@dataclass(frozen=True, slots=True)
class ListHolds:
    """List holds."""

    scope: Scope
    closed: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Stream the holds of one target after another."""
        targets = session.capable(self.scope, HasHolds, _NO_HOLDS, anywhere=True)
        count = 0
        document = JsonList(session.out, "holds") if self.as_json else None

        async def on_target(target: HasHolds, _config: TargetConfig) -> int:
            nonlocal count
            async for hold in target.holds.on_record(closed=self.closed):
                count += 1
                if document is not None:
                    document.add({"target": target.name} | hold.as_json())
                else:
                    lines = (f"{target.name}: {about(hold)}; {history(hold)}", *members(hold))
                    session.out.put("".join(f"{line}\n" for line in lines))
            return 0

        try:
            status = session.run(session.for_each(targets, on_target))
        finally:
            if document is not None:
                document.close()
        # A sum that lacks a target would be taken for the whole.
        if document is None and not status:
            session.note(count_in_words(count, "hold"))
        return status


@dataclass(frozen=True, slots=True)
class Release:
    """Release holds by number, or all on one subject."""

    words: tuple[str, ...]
    subjects: Subjects
    reason: str = ""
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Release them in one target after another; exit 1 if no hold matched."""
        subject = self.subjects.read()
        numbers = [int(word) for word in self.words if _is_number(word)]
        names = tuple(word for word in self.words if not _is_number(word))
        if bool(numbers) == (subject is not None):
            raise UsageError(f"use the numbers that `retentiond hold list` shows, or one of {FLAGS}")
        targets = session.capable(Scope(names), HasHolds, _NO_HOLDS, anywhere=True)
        if numbers and len(targets) > 1 and not names:
            raise UsageError(
                f"each target counts its own holds; name the TARGET, one of: {', '.join(targets)}"
            )
        holds: list[dict[str, Any]] = []

        async def on_target(target: HasHolds, _config: TargetConfig) -> int:
            released = await target.holds.release(numbers, subject, self.reason)
            holds.extend({"target": target.name} | hold.as_json() for hold in released)
            if not (self.as_json or session.options.quiet):
                session.line(*(f"{target.name}: {about(hold)} is released" for hold in released))
            return 0

        try:
            status = session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json:
                session.document({"holds": holds})
        missing = len(numbers) - len(holds) if numbers else not holds
        if status or not missing:
            return status
        session.error("no such hold is in force; `retentiond hold list --all` shows those that were")
        return FAILED


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _last_day(text: str, now: datetime) -> date:
    day = read_day(text)
    if day < now.astimezone(UTC).date():
        raise UsageError(f"{text} is in the past; use a later day")
    return day
