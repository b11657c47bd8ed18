"""The subjects of holds on the command line, and holds in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from shlex import quote
from typing import Final

from retentiond.cli.session import Session
from retentiond.model.errors import UsageError
from retentiond.model.holds import KINDS, Coverage, Hold, HoldSubject, MediaKind, Narrowing
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words, time_in_words

FLAGS: Final = ", ".join(f"--{kind}" for kind in (*KINDS, "account"))
"""The options that name a subject."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """The subject options; None: not given."""

    media: str | None = None
    user: str | None = None
    origin: str | None = None
    room: str | None = None
    account: str | None = None
    chat: str | None = None
    visitor: str | None = None
    begin: str | None = None
    before: str | None = None

    def read(self) -> HoldSubject | None:
        """Return the subject, or None; raise UsageError for several subjects, or an invalid one."""
        typed: dict[MediaKind, str | None] = {
            "media": self.media,
            "user": self.user,
            "origin": self.origin,
            "room": self.room,
        }
        named = [(kind, text) for kind, text in typed.items() if text is not None]
        if len(named) + (self.account is not None) > 1:
            raise UsageError(f"a hold has one subject: use one of {FLAGS}, and add a hold for each")
        if self.account is not None:
            return HoldSubject("account", self.account, self._narrowed())
        if any(text is not None for text in (self.chat, self.visitor, self.begin, self.before)):
            raise UsageError("--chat, --visitor, --from and --before need --account")
        for kind, text in named:
            try:
                return HoldSubject.read(kind, text)
            except ValueError as error:
                raise UsageError(f"`{printable(text)}` {error}") from None
        return None

    def _narrowed(self) -> Narrowing:
        if self.chat is not None and self.visitor is not None:
            raise UsageError("--chat and --visitor exclude each other; add a hold for each")
        begin = None if self.begin is None else read_day(self.begin)
        before = None if self.before is None else read_day(self.before)
        if begin is not None and before is not None and before <= begin:
            raise UsageError(f"--from {begin} is not before --before {before}; use a later --before")
        return Narrowing(self.chat, self.visitor, begin, before)


def read_day(text: str) -> date:
    """Parse a day such as 2027-01-31; raise UsageError."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise UsageError(f"`{printable(text)}` is not a valid date; write it as 2027-01-31")
    return day


_SUBJECT_LIMIT = 600
_REASON_LIMIT = 200


def about(hold: Hold) -> str:
    """Return the hold in a few words: its number and its subject."""
    words = f"hold {hold.hold_id} on {hold.subject.kind} {printable(hold.subject.name, _SUBJECT_LIMIT)}"
    words += " with its members" if hold.with_members else ""
    return words + "".join(
        f", {what} {printable(said)}" for what, said in hold.subject.narrowed.as_json().items()
    )


def covers(coverage: Coverage) -> str:
    """Return the items that the hold covers now, in words."""
    words = f"covers {count_in_words(coverage.items, 'item')} now"
    if coverage.in_quarantine:
        words += f", and {coverage.in_quarantine:,} in quarantine, which the next sweep brings back"
    return words


def members(hold: Hold) -> Iterator[str]:
    """Yield a line for each member whose uploads are held, and for each server whose media are held."""
    yield from (f"  uploads of {printable(user, _SUBJECT_LIMIT)}" for user in hold.members.users)
    yield from (f"  all media of {printable(server, _SUBJECT_LIMIT)}" for server in hold.members.servers)


def warn(session: Session, target: str, hold: Hold, coverage: Coverage) -> None:
    """Print a warning for media that the hold does not cover, or covers only in part."""
    if coverage.nothing:
        session.error(
            f"warning: {about(hold)} covers nothing now; check how it is written, which must be exact",
            about=target,
        )
    if coverage.encrypted:
        session.error(f"warning: {_hidden(session, target, hold, coverage)}", about=target)
    if coverage.remote_user:
        server = hold.subject.name.partition(":")[2]
        command = session.command(f"hold add {target} --origin {quote(server)}")
        session.error(
            "warning: the database does not record which user of another server uploaded a media item. The hold covers what "
            "this user's unencrypted events refer to, and nothing that was sent encrypted. To hold that, too, hold all "
            f"media of the server: {command}",
            about=target,
        )
    for store in coverage.under_way:
        session.error(
            f"warning: a purge is at work in {store}, or was left at work there: it is ended where the server can, and "
            "nothing is sent after it, but some of what this hold covers may be gone by then; its report says what went",
            about=target,
        )


def _hidden(session: Session, target: str, hold: Hold, coverage: Coverage) -> str:
    """Explain which media a hold on an encrypted room covers, and which command covers more."""
    words = (
        "the room is encrypted"
        if coverage.encryption_known
        else "it cannot be read whether the room is encrypted, so it is treated as encrypted"
    )
    words += (
        ": references in encrypted messages cannot be seen. The hold covers the room's state, avatars of members and "
        "unencrypted messages"
    )
    if hold.with_members:
        return (
            f"{words}, and for the encrypted ones every upload of its local members and all media of its other members' "
            "servers, of members who left or join later, too. It does not cover what a member forwarded of others: uploads of "
            "further users of this server, and media of further servers; hold these by --media, --user or --origin"
        )
    command = session.command(f"hold add {target} --room {quote(hold.subject.name)} --with-members")
    return (
        f"{words}, and no pictures and files that were sent encrypted. To hold these, too, hold the uploads of its local "
        f"members and all media of its other members' servers: {command}"
    )


def history(hold: Hold) -> str:
    """Return when the hold was added, by which user, and how it ended."""
    words = f"since {time_in_words(hold.added_at)} by {printable(hold.added_by)}"
    if hold.until is not None:
        words += f", until {hold.until}"
    if hold.reason:
        words += f": {printable(hold.reason, _REASON_LIMIT)}"
    if hold.state == "ended":
        words += "; it has ended"
    if hold.released_at is not None:
        words += f"; released {time_in_words(hold.released_at)} by {printable(hold.released_by or '')}"
        words += f": {printable(hold.release_reason, _REASON_LIMIT)}" if hold.release_reason else ""
    return words
