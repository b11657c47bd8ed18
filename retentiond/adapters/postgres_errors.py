"""Errors of PostgreSQL and of the connection to it, by class: a description of each, and its next step."""

from __future__ import annotations

import errno
import socket
import ssl
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from retentiond.model.errors import UnreachableError
from retentiond.model.text import printable, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT: Final = 400
_CAUSES_DEEP: Final = 5


class SilentServerError(ConnectionError):
    """A server or a statement did not answer within its time limit, and its connections were closed from this side."""


class StandbyWaitError(SilentServerError):
    """A COMMIT waited for a synchronous standby until its time limit; its outcome is unknown."""


# The server is there, and could not do it just now: a lock that was held too long, a primary that became a standby.
_HINDERED: Final = (
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
)
LOST: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InternalClientError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    *_HINDERED,
)
"""Errors after which trying again may help: the server cannot be reached, went away, or was hindered."""


class _Kind(NamedTuple):
    """A class of errors: its description, to be followed by the reason, and the next step."""

    happened: str
    next_step: str


_UNEXPECTED: Final = _Kind(
    "refused a statement", "see the server's log; remove the cause, or report it as a bug of retentiond"
)
_LOST_CONNECTION: Final = _Kind(
    "closed the connection",
    "look into the server's log for the reason (a restart, a crash, a pooler's or a firewall's time limit), then "
    "try again",
)
# The first that fits decides: subclasses stand before their bases.
_KINDS: Final[tuple[tuple[tuple[type[BaseException], ...], _Kind], ...]] = (
    (
        (StandbyWaitError,),
        _Kind(
            "waited for a synchronous standby",
            "bring the standby back, or take it out of synchronous_standby_names; the next start or sweep finds out "
            "whether the last transaction was committed, and goes on from there",
        ),
    ),
    (
        (SilentServerError,),
        _Kind(
            "does not answer", "look at the server, and at proxies and firewalls before it, then try again"
        ),
    ),
    (
        (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError),
        _Kind(
            "refused the login",
            "check role and password in the connection string, and pg_hba.conf on the server",
        ),
    ),
    (
        (asyncpg.InvalidCatalogNameError, asyncpg.DatabaseDroppedError),
        _Kind("is not on this server", "correct the database's name in the connection string"),
    ),
    (
        (asyncpg.TooManyConnectionsError,),
        _Kind(
            "has no connection left",
            "raise max_connections, or the connection limit of the role, the database or the pooler; retentiond needs "
            "up to ten for each target",
        ),
    ),
    (
        (asyncpg.DiskFullError,),
        _Kind("has no space left on its disk", "free space on the database server's disk, then try again"),
    ),
    (
        (asyncpg.ConfigurationLimitExceededError,),
        _Kind(
            "went over a limit that is set on the server",
            "raise it for this role, as a superuser (such as ALTER ROLE … SET temp_file_limit), then try again",
        ),
    ),
    (
        (asyncpg.OutOfMemoryError,),
        _Kind(
            "ran out of memory",
            "see the server's log: give it more memory, or raise max_locks_per_transaction where the message says so",
        ),
    ),
    (
        (asyncpg.LockNotAvailableError,),
        _Kind(
            "kept a lock for too long",
            "look for the session that holds it (pg_stat_activity, pg_blocking_pids), then try again",
        ),
    ),
    ((asyncpg.TransactionRollbackError,), _Kind("rolled a transaction back for another one", "try again")),
    (
        (asyncpg.ReadOnlySQLTransactionError,),
        _Kind(
            "is read-only",
            "point `database` at the primary server; on the primary, set default_transaction_read_only to off for this "
            "role",
        ),
    ),
    (
        (
            asyncpg.IdleInTransactionSessionTimeoutError,
            asyncpg.TransactionTimeoutError,
            asyncpg.IdleSessionTimeoutError,
        ),
        _Kind(
            "ended the session for a time limit",
            "retentiond sets these limits itself: look for a pooler, or an extension, that sets its own; then try again",
        ),
    ),
    (
        (asyncpg.QueryCanceledError,),
        _Kind(
            "cancelled a statement",
            "see the server's log: an administrator (pg_cancel_backend), a time limit, or on a standby a conflict with "
            "recovery; then try again",
        ),
    ),
    (
        (asyncpg.CannotConnectNowError,),
        _Kind("takes no connections now", "wait until it has started, or has recovered, then try again"),
    ),
    (
        (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError),
        _Kind(
            "ended the connection",
            "wait until the server is up again; if it is up, see its log for who or what ended it",
        ),
    ),
    (
        (asyncpg.InsufficientPrivilegeError,),
        _Kind(
            "denied a right",
            "grant that right to this role (for row-level security: BYPASSRLS), then try again",
        ),
    ),
    (
        (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError, UnicodeDecodeError),
        _Kind(
            "holds text that is not UTF-8",
            "find and correct that text; retentiond reads databases as UTF-8 and changed nothing",
        ),
    ),
    (
        (asyncpg.IndexCorruptedError,),
        _Kind(
            "has a damaged index",
            "rebuild it with REINDEX; check the others with amcheck (pg_amcheck), and the server's disk",
        ),
    ),
    (
        (asyncpg.DataCorruptedError, asyncpg.PostgresSystemError),
        _Kind(
            "cannot read or write its own files",
            "see the server's log and check its disk; restore from a backup what is damaged",
        ),
    ),
    (
        (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError),
        _Kind(
            "lacks a table or a column",
            "check that `database` is the right one, and that no upgrade of its owner is under way",
        ),
    ),
    ((asyncpg.ClientConfigurationError,), _Kind("cannot be connected to", "correct the connection string")),
    (
        (asyncpg.TargetServerAttributeNotMatched,),
        _Kind("has no server of the wanted kind", "correct target_session_attrs, or the hosts"),
    ),
    (
        (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError),
        _LOST_CONNECTION,
    ),
    (
        (socket.gaierror,),
        _Kind(
            "has a host name that cannot be resolved",
            "correct the host, or the name service of this machine; the name of a container is known while it runs, "
            "to containers of the same network",
        ),
    ),
    (
        (ssl.SSLError,),
        _Kind("cannot be reached over TLS", "check sslmode and the certificates of the connection string"),
    ),
    (
        (ConnectionRefusedError, FileNotFoundError),
        _Kind(
            "cannot be reached",
            "nothing listens there: start PostgreSQL, or correct host and port of the connection string",
        ),
    ),
    (
        (PermissionError,),
        _Kind(
            "cannot be reached",
            "this user may not open the socket, or a firewall forbids it: allow it, or connect another way",
        ),
    ),
    (
        (TimeoutError,),
        _Kind(
            "did not answer in time",
            "look at the server's load, and for a firewall or proxy on the way that drops what it is sent; then try "
            "again",
        ),
    ),
    ((ConnectionError,), _LOST_CONNECTION),
    ((OSError,), _Kind("cannot be reached", "check the network to the server, then try again")),
    ((asyncpg.PostgresError,), _UNEXPECTED),
)


def describe(error: BaseException) -> str:
    """Return the description and the next step, such as `has no connection left: …; raise max_connections …`."""
    error = _refused_by_each_address(_last_words(error))
    if isinstance(error, OSError) and PurePath(str(error.filename)).parent.name == ".postgresql":
        # asyncpg looks for a client's certificate there, whether or not TLS is configured.
        return (
            f"cannot be connected to: {printable(str(error.filename))} cannot be read: {error.strerror}; "
            "set $HOME to a directory that this user may enter, or add sslmode=disable to the connection string"
        )
    kind = next((kind for errors, kind in _KINDS if isinstance(error, errors)), _UNEXPECTED)
    hint = getattr(error, "hint", None)
    advice = f"{sentence(str(hint), _LIMIT)} {kind.next_step}" if hint else kind.next_step
    name = f" ({type(error).__name__})" if kind is _UNEXPECTED else ""
    return f"{kind.happened}: {_reason(error)}{name}; {advice}"


@contextmanager
def translate_errors(what: str) -> Iterator[None]:
    """Translate the errors of a server (`what` is its name) and of the connection to it into an UnreachableError."""
    try:
        yield
    except (*LOST, asyncpg.PostgresError, UnicodeDecodeError) as error:
        raise UnreachableError(f"{what} {describe(error)}") from error


def _refused_by_each_address(error: BaseException) -> BaseException:
    # For a host with several addresses asyncio joins the texts of the errors, and drops their classes.
    if isinstance(error, OSError) and error.errno is None and f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return ConnectionRefusedError(str(error))
    return error


def _last_words(error: BaseException) -> BaseException:
    """Return the server's own last message if the driver only reports a closed connection."""
    found: BaseException | None = error
    for _ in range(_CAUSES_DEEP):
        if not isinstance(found, asyncpg.ConnectionDoesNotExistError):
            break
        found = found.__cause__
    return found if isinstance(found, asyncpg.PostgresError | OSError) else error


def _reason(error: BaseException) -> str:
    # A decoding error quotes the whole text, which is untrusted.
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} of a value: {error.reason}"
    # The text as a whole has the hint, too, which is part of the next step.
    said = getattr(error, "message", None) or str(error)
    return sentence(said, _LIMIT) or type(error).__name__
