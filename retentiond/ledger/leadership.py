"""Leadership: of the daemons with a target in their configuration one works on it; another takes over when it ends.

Commands do not need it: passes of commands and of the daemon exclude each other by the lease.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final, Self

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, named_queries
from retentiond.ledger.host import host_name, process_id
from retentiond.ledger.session import DUTY, LockHolder, Session, lock_holder, open_session, try_lock
from retentiond.model.errors import BusyError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from types import TracebackType

    from retentiond.adapters.postgres import Conn, Db

SQL: Final = named_queries(__package__, "leadership.sql")
_SIGNATURE: Final = "retentiond daemon on "
_LONGEST_HOST: Final = 30
"""The name of a session has 63 bytes at most."""


async def beat(db: Db) -> None:
    """Write a heartbeat of the daemon in this process."""
    await db.execute(SQL["beat"], host_name(), process_id())


async def end_beat(db: Db) -> None:
    """Remove the heartbeat."""
    await db.execute(SQL["end_beat"], host_name(), process_id())


async def has_daemon(db: Db) -> bool:
    """Return whether a daemon was alive lately on any target of this database."""
    return bool(await db.fetch(SQL["daemons"]))


async def daemon_of(connection: Conn, target: str, *, ledger: bool) -> str | None:
    """Return the daemons of a target in one line; None without any."""
    return ", ".join(await daemons_of(connection, target, ledger=ledger)) or None


async def daemons_of(connection: Conn, target: str, *, ledger: bool) -> list[str]:
    """Return the daemons of a target as `host, pid N`, by their heartbeats (one a minute), or by the lock of the leader."""
    alive = await connection.fetch(SQL["daemons"]) if ledger else []
    if alive:
        return [f"{row['host']}, pid {row['pid']}" for row in alive]
    on_duty = await _on_duty(connection, target, ledger=ledger)
    if on_duty is None:
        return []
    return [_named(on_duty) if _signed(on_duty) else str(on_duty)]


def is_daemon_of(daemon: str, host: str) -> bool:
    """Return whether a daemon, as `daemons_of` names it, is on this host; a session has the beginning of a long name only."""
    return daemon.startswith((f"{host}, pid ", f"{printable(host[:_LONGEST_HOST])}, pid "))


async def _on_duty(connection: Conn, target: str, *, ledger: bool) -> LockHolder | None:
    """Return the session that holds the lock; a daemon from before the ledger counts if it has our role."""
    holder = await lock_holder(connection, DUTY, target, ledger=ledger)
    if holder is None and ledger:
        before = await lock_holder(connection, DUTY, target, ledger=False)
        return before if before and before.own_role else None
    return holder


def _signed(holder: LockHolder) -> bool:
    # The name of a session is hidden from other roles than its own, and a session may have any.
    return holder.name is not None and holder.name.startswith(_SIGNATURE)


def _named(holder: LockHolder) -> str:
    return printable(str(holder.name).removeprefix(_SIGNATURE))


class Leadership:
    """The leadership for one target, taken when it is first needed, and held until the block ends."""

    def __init__(self, dsn: str, target: str) -> None:
        self._dsn = dsn
        self._target = target
        self._turn = asyncio.Lock()
        self._open = AsyncExitStack()
        self._session: Session | None = None
        # Whether the lock's key comes from the store; before there is a ledger it cannot.
        self._of_store = False
        self._standing_by = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session = self._session
        if session is not None and session.guard.stands:
            # A closed connection keeps its locks until the server notices, and the next attempt may follow at once.
            with suppress(*LOST):
                await session.ask(SQL["end_leadership"])
        await self._open.aclose()

    async def take(self) -> None:
        """Become the leader; raise BusyError, which names the other daemon, if there is one."""
        async with self._turn:
            session = self._session
            if session is None or not session.guard.stands:
                await self._open.aclose()
                self._session, self._of_store = None, False
                session = await self._open.enter_async_context(open_session(self._dsn))
            elif self._of_store:
                return
            of_store = await session.has_ledger()
            if self._session is not None and not of_store:
                return
            holder = await self._try(session, of_store=of_store)
            if holder is not None:
                await self._open.aclose()
                self._session = None
                self._stand_by(holder)
                raise BusyError(
                    f"another retentiond works on {self._target}: {holder}; this one tries again at the next scheduled time"
                )
            self._session, self._of_store = session, of_store
            if self._standing_by:
                self._standing_by = False
                get_logger(target=self._target).info("took_over")

    async def _try(self, session: Session, *, of_store: bool) -> str | None:
        """Take the lock, and write our name to the session; return the holder if another session has it."""
        async with session.turn:
            connection = session.connection
            holder = await _on_duty(connection, self._target, ledger=of_store)
            if holder is None or holder.asking:
                if await try_lock(connection, DUTY, self._target, ledger=of_store):
                    await connection.execute(
                        SQL["sign"], f"{_SIGNATURE}{host_name()[:_LONGEST_HOST]}, pid {process_id()}"
                    )
                    return None
                holder = await _on_duty(connection, self._target, ledger=of_store)
        if holder is None:
            return "it has just ended"
        return f"{_SIGNATURE}{_named(holder)} ({holder})" if _signed(holder) else str(holder)

    def _stand_by(self, holder: str) -> None:
        if not self._standing_by:
            self._standing_by = True
            get_logger(target=self._target).info("standing_by", holder=holder)
