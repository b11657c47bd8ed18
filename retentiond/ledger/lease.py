"""The lease of a store: one pass, `delete` or repair at a time, however many processes and hosts there are."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import LOST, Conn, named_queries
from retentiond.engine.target import Stop
from retentiond.ledger.host import host_name, process_id
from retentiond.ledger.ledger import refuse_standby
from retentiond.ledger.session import (
    LEASE,
    TRIAL,
    Guard,
    Session,
    holds_lock,
    lock_holder,
    open_session,
    try_lock,
)
from retentiond.model.errors import BusyError, LeaseLostError, Refusal, RefusedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

SQL: Final = named_queries(__package__, "lease.sql")
_PLAIN_CONNECTION: Final = "point `database` at PostgreSQL itself, or at a pooler in session mode that hands on the settings of a connection"
_TRY_EVERY: Final = 0.2


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that works on the store, and since when."""

    command: str
    host: str
    pid: int
    since: datetime

    def __str__(self) -> str:
        return f"{self.command} on {self.host}, pid {self.pid}, since {self.since:%Y-%m-%d %H:%M:%S%z}"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease: the epoch that each of its transactions checks, and the guard of its lock."""

    epoch: int
    guard: Guard

    async def check(self, connection: Conn) -> None:
        """Hold the epoch until this transaction ends; raises LeaseLostError where it is over."""
        self.guard.ensure()
        if await connection.fetchval(SQL["check_lease"], self.epoch) is None:
            raise LeaseLostError("another retentiond took the store over; this one rolled its batch back")


@asynccontextmanager
async def hold_lease(
    dsn: str, command: str, *, patience: float, stop: Stop | None = None
) -> AsyncIterator[Lease]:
    """Take the store's lock and begin an epoch; raise BusyError if another holds it for `patience` seconds.

    A requested `stop` ends the wait at once, with the same error.
    """
    async with open_session(dsn) as session:
        async with session.turn:
            await refuse_standby(session.connection)
            await _take_lock(session.connection, patience, stop or Stop())
            await _refuse_pooler(session.connection, await holds_lock(session.connection, LEASE))
            epoch = await session.connection.fetchval(SQL["take_lease"], command, host_name(), process_id())
        try:
            yield Lease(epoch, session.guard)
        finally:
            await _give_back(session, epoch)


async def try_session(dsn: str) -> None:
    """Refuse a connection on which a lease could not be held, by a lock of its own kind, which holds up no work."""
    name = secrets.token_hex(8)
    async with open_session(dsn) as session, session.turn:
        connection = session.connection
        await refuse_standby(connection)
        await try_lock(connection, TRIAL, name, ledger=False)
        # It ends with the session.
        await _refuse_pooler(connection, await holds_lock(connection, TRIAL, name, ledger=False))


async def current_holder(connection: Conn) -> str | None:
    """Return the command that works on the store, or the session that holds its lock without a command; None if free."""
    session = await lock_holder(connection, LEASE)
    if session is None:
        return None
    row = await connection.fetchrow(SQL["holder"])
    return str(Holder(**dict(row)) if row else session)


async def _take_lock(connection: Conn, patience: float, stop: Stop) -> None:
    async def until_taken() -> None:
        while not await try_lock(connection, LEASE):
            await stop.wait(_TRY_EVERY)
            if stop.asked:
                raise TimeoutError

    try:
        # At least one attempt, also without any waiting time.
        if not await try_lock(connection, LEASE):
            await asyncio.wait_for(until_taken(), patience)
    except TimeoutError as error:
        raise BusyError(await _busy(connection)) from error


async def _busy(connection: Conn) -> str:
    command = await connection.fetchrow(SQL["holder"])
    session = await lock_holder(connection, LEASE)
    command_line = str(Holder(**dict(command))) if command else "it has not said which"
    held = f"the lock is held by {session}" if session else "its lock has just become free"
    return (
        f"another retentiond is working on this store: {command_line} ({held}); wait for it to end, then try again; "
        "if that session is not one of retentiond, end it with pg_terminate_backend"
    )


async def _refuse_pooler(connection: Conn, holds_lock: bool) -> None:
    if not holds_lock:
        raise RefusedError(
            Refusal(
                "transaction_pooler",
                "another backend for each transaction",
                "one backend a connection",
                _PLAIN_CONNECTION,
            )
        )
    if not await connection.fetchval(SQL["has_settings"]):
        raise RefusedError(
            Refusal(
                "pooler_settings",
                "a connection without the settings that it was opened with",
                "synchronous_commit not off, row_security = off",
                _PLAIN_CONNECTION,
            )
        )


async def _give_back(session: Session, epoch: int) -> None:
    # A lost connection has released the lock already; the lease row then names a dead process.
    with suppress(*LOST):
        await session.ask(SQL["end_lease"], epoch)
        # Who closes a connection does not wait for the server to notice, and our own next try may come at once.
        await session.unlock(LEASE)
