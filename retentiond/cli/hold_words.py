"""Holds in words: their subject, what they cover, warnings and history."""

from collections.abc import Iterator
from shlex import quote

from retentiond.cli.session import Session
from retentiond.model.holds import Coverage, Hold
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words, time_in_words

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
    """Return what the hold covers now."""
    words = f"covers {count_in_words(coverage.items, 'item')} now"
    if coverage.in_quarantine:
        words += f", and {coverage.in_quarantine:,} in quarantine, which the next sweep brings back"
    return words


def members(hold: Hold) -> Iterator[str]:
    """Yield a line for each member whose uploads are held, and for each server whose media are held."""
    yield from (f"  uploads of {printable(user, _SUBJECT_LIMIT)}" for user in hold.members.users)
    yield from (f"  all media of {printable(server, _SUBJECT_LIMIT)}" for server in hold.members.servers)


def warn(session: Session, target: str, hold: Hold, coverage: Coverage) -> None:
    """Print a warning for what the hold does not cover, or covers only in part."""
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
            "warning: the database does not record which user of another server uploaded a medium. The hold covers what "
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
    """Say what a hold on an encrypted room covers, what it cannot, and which command covers more."""
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
