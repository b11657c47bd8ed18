"""Confirmation before an action that cannot, or not easily, be undone."""

from retentiond.cli.session import Session
from retentiond.model.errors import UsageError


def refuse_unasked(session: Session, why: str) -> None:
    """Raise UsageError without a terminal."""
    if not session.environment.stdin.isatty():
        raise UsageError(f"{why}; not a terminal: confirm with --yes")


def agreed(session: Session, question: str) -> bool:
    """Ask, and return whether the answer was yes. No event loop may run: a signal would wait for the answer."""
    session.err.put(f"{question} [y/N] ")
    session.err.settle()
    return session.environment.stdin.readline().strip().lower() in {"y", "yes"}
