"""A server beside the database that cannot be reached: what happened on the way to it, and the next step for that."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Final

from retentiond.model.text import sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST: Final = 50
_KINDS: Final[tuple[tuple[tuple[type[BaseException], ...], str, str], ...]] = (
    (
        (ssl.SSLError, ssl.CertificateError),
        "cannot be reached over TLS",
        "check the scheme of `url`, and the certificates (`ca_file`)",
    ),
    (
        (socket.gaierror,),
        "has a host name that cannot be resolved",
        "correct `url`, or the name service of this machine",
    ),
    (
        (ConnectionRefusedError,),
        "cannot be reached",
        "nothing listens there: start it, or correct host and port of `url`",
    ),
    (
        (TimeoutError,),
        "did not answer in time",
        "look at its load, and for a firewall or proxy on the way that drops what it is sent; then try again",
    ),
)
_OTHER: Final = ("was lost", "look into its log for the reason, and at the network to it, then try again")


def describe_outage(error: BaseException) -> str:
    """Return what happened and the next step; the errors of the clients hold those of the system that caused them."""
    causes = list(_causes(error))
    found = next(
        (
            (happened, next_step)
            for errors, happened, next_step in _KINDS
            if any(isinstance(cause, errors) for cause in causes)
        ),
        # A client that counts the seconds itself has an error of its own for that.
        _KINDS[-1][1:] if any("Timeout" in type(cause).__name__ for cause in causes) else _OTHER,
    )
    reason = sentence(str(error), 300) or type(error).__name__
    return f"{found[0]}: {reason}; {found[1]}"


def never_sent(error: BaseException) -> bool:
    """Tell whether there was no connection over which a request could have been sent."""
    return any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it holds or came from."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < _MOST:
        one = waiting.pop(0)
        if isinstance(one, list | tuple):
            waiting.extend(one)
        elif isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, one.args]
            waiting += [
                getattr(one, name, None) for name in ("os_error", "certificate_error", "errors", "reason")
            ]
