"""A question before what cannot, or not easily, be undone."""

from retentiond.cli.session import Session
from retentiond.model.errors import UsageError


def refuse_unasked(session: Session, why: str) -> None:
    """Raise UsageError where nobody is there to answer a question."""
    if not session.surroundings.stdin.isatty():
        raise UsageError(f"{why}, and this is not a terminal: confirm with --yes")


def agreed(session: Session, question: str) -> bool:
    """Ask, and tell whether the answer was yes. No event loop may run: there, a signal would wait for the answer."""
    session.err.put(f"{question} [y/N] ")
    session.err.settle()
    return session.surroundings.stdin.readline().strip().lower() in {"y", "yes"}
