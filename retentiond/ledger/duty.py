"""Duty: of the daemons that have a target in their configuration, one looks after it; another when that one is gone.

Beside a daemon on duty that is idle every command works: what they exclude each other by is the lease.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Final, Self

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, named_queries
from retentiond.ledger.host import host_name, process_id
from retentiond.ledger.ledger import SQL as LEDGER_SQL
from retentiond.ledger.session import Session, open_session
from retentiond.model.errors import BusyError

if TYPE_CHECKING:
    from types import TracebackType

    from retentiond.adapters.postgres import Conn

SQL: Final = named_queries(__package__, "duty.sql")
_SIGNATURE: Final = "retentiond daemon on "


async def daemon_of(connection: Conn, target: str, *, ledger: bool) -> str | None:
    """Return which daemons look after a target: by their signs of life, which come once a minute, or by the duty."""
    alive = await connection.fetch(LEDGER_SQL["daemons"]) if ledger else []
    if alive:
        return ", ".join(f"{row['host']}, pid {row['pid']}" for row in alive)
    on_duty = await connection.fetchrow(SQL["on_duty"], target)
    # The name of a session is hidden from other roles than its own.
    return str(on_duty["daemon"] or "one of another role").removeprefix(_SIGNATURE) if on_duty else None


class Duty:
    """The duty for one target, taken when it is needed first, and held until the block ends."""

    def __init__(self, dsn: str, target: str) -> None:
        self._dsn = dsn
        self._target = target
        self._turn = asyncio.Lock()
        self._open = AsyncExitStack()
        self._session: Session | None = None
        self._standing_by = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session = self._session
        if session is not None and session.guard.stands:
            # Who closes a connection does not wait for the server to notice, and our own next try may come at once.
            with suppress(*LOST):
                await session.ask(SQL["end_duty"], self._target)
        await self._open.aclose()

    async def take(self) -> None:
        """Be on duty; raises BusyError, with who it is and since when, while another daemon is."""
        async with self._turn:
            if self._session is not None and self._session.guard.stands:
                return
            await self._open.aclose()
            self._session = None
            session = await self._open.enter_async_context(open_session(self._dsn))
            if not await self._try(session):
                holder = await self._holder(session)
                await self._open.aclose()
                self._stand_by(holder)
                raise BusyError(
                    f"another retentiond looks after {self._target}: {holder}; this one tries again at the next time"
                )
            self._session = session
            if self._standing_by:
                self._standing_by = False
                get_logger(target=self._target).info("took_over")

    async def _try(self, session: Session) -> bool:
        if not await session.ask(SQL["try_duty"], self._target):
            return False
        await session.ask(SQL["sign"], f"{_SIGNATURE}{host_name()[:30]}, pid {process_id()}")
        return True

    async def _holder(self, session: Session) -> str:
        async with session.turn:
            row = await session.connection.fetchrow(SQL["on_duty"], self._target)
        return f"{row['daemon']}, since {row['since']:%Y-%m-%d %H:%M:%S%z}" if row else "it has just gone"

    def _stand_by(self, holder: str) -> None:
        if not self._standing_by:
            self._standing_by = True
            get_logger(target=self._target).info("standing_by", holder=holder)
