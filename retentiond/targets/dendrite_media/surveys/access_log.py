"""The access log of a reverse proxy, followed into the ledger: when each media item was last requested.

If the file system keeps no access times, it is the only record. A time counts only from the moment when the record is
complete: requests before it are unknown, and keep the media.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from retentiond.adapters.log_file import LogPosition, positions_in, read_block
from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.ledger.host import host_name
from retentiond.model.access_record import Known, Stretch, read_stretch
from retentiond.model.disk_errors import disk_error
from retentiond.model.errors import Refusal, RefusedError
from retentiond.targets.dendrite_media.database.rows import key_columns, media_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.config.access_log import AccessLogConfig
    from retentiond.model.media import MediaKey
    from retentiond.targets.dendrite_media.store.context import TargetContext

T = TypeVar("T")
LEDGER_SQL: Final = named_queries(__package__, "accesses.sql", access="retentiond.access")
PLAN_SQL: Final = named_queries(__package__, "accesses.sql", access="pg_temp.plan_access")


class _Reading(NamedTuple):
    """The next lines of the log, their accesses, and whether there are no more for now."""

    position: LogPosition | None
    stretch: Stretch
    last: bool


def _read(config: AccessLogConfig, position: LogPosition | None, known: Known) -> _Reading:
    block = read_block(config.path, position)
    stretch = read_stretch(block.lines, config.format, known, gap=block.gap)
    return _Reading(block.position, stretch, block.last)


def _unreadable(config: AccessLogConfig, error: OSError) -> RefusedError:
    return RefusedError(
        Refusal(
            "access_log_unreadable",
            f"{config.path}: {disk_error(error)}",
            "readable",
            "let this user read it, or correct `access_log`",
        )
    )


class AccessLog:
    """The log of one target with its accesses; the records of other hosts' logs limit the conclusions from it."""

    def __init__(self, context: TargetContext, config: AccessLogConfig) -> None:
        self._context = context
        self._config = config
        self._sql = LEDGER_SQL
        self._log_id: int | None = None
        self._others: list[Record] = []
        self.known = Known()

    @property
    def unread(self) -> str | None:
        """Return the log of another host that has not been read for a day, as `host:path`; None if there is none."""
        return next(
            (f"{log['host']}:{log['path']}" for log in self._others if log["told_since"] is None), None
        )

    def since_at(self, now: float) -> float | None:
        """Return from when on no access is missing in any log; None if unknown."""
        times = [self.known.since_at(now), *(log["told_since"] for log in self._others)]
        return None if None in times else max(at for at in times if at is not None)

    async def follow(self, connection: Conn) -> None:
        """Add the new lines of the log to the ledger; raise RefusedError if it cannot be read."""
        reading = None
        while reading is None or not reading.last:
            position = await self._position(connection)
            reading = await self._read(position)
            async with connection.transaction():
                if await self._move(connection, position, reading):
                    await self._note(connection, reading.stretch)
        await self._position(connection)

    async def follow_for_plan(self, connection: Conn, *, ledger: bool) -> None:
        """Copy the ledger's times and the new lines of the log into a table that ends with the connection."""
        self._sql = PLAN_SQL
        await connection.execute(PLAN_SQL["make_plan_access"])
        position = None
        if ledger:
            position = await self._position(connection)
            await connection.execute(PLAN_SQL["fill_plan_access"])
        reading = None
        while reading is None or not reading.last:
            reading = await self._read(position)
            self.known = reading.stretch.known
            position = reading.position or position
            await self._note(connection, reading.stretch)

    async def times(self, connection: Conn, keys: Sequence[MediaKey]) -> dict[MediaKey, float]:
        """Return when these media were last requested, as far as the log was followed."""
        rows = await connection.fetch(self._sql["access_times"], *key_columns(keys))
        return {media_key(row): row["at"] for row in rows}

    async def raise_contents(self, connection: Conn) -> None:
        """Raise the access times of the blobs that a quota considers."""
        await connection.execute(self._sql["raise_contents"])

    async def forget(self, connection: Conn) -> None:
        """Delete the times of media whose rows are deleted."""
        await connection.execute(LEDGER_SQL["forget_accesses"])

    async def _position(self, connection: Conn) -> LogPosition | None:
        """Find the position from which to continue this log, by its content."""
        logs = await connection.fetch(LEDGER_SQL["logs"])
        places = [LogPosition(log["head"], log["read_to"], log["tail"]) for log in logs]
        ours = await self._on_disk(lambda: positions_in(self._config.path, places))
        own = next((log for log, context in zip(logs, places, strict=True) if context in ours), None)
        self._log_id = own["log_id"] if own else None
        self._others = [log for log, context in zip(logs, places, strict=True) if context not in ours]
        self.known = Known(own["since"], own["newest"]) if own else Known()
        return ours[0] if ours else None

    async def _read(self, position: LogPosition | None) -> _Reading:
        return await self._on_disk(lambda: _read(self._config, position, self.known))

    async def _on_disk(self, session: Callable[[], T]) -> T:
        def readable() -> T:
            try:
                return session()
            except OSError as error:
                raise _unreadable(self._config, error) from error

        return await self._context.disk.call(readable)

    async def _move(self, connection: Conn, position: LogPosition | None, reading: _Reading) -> bool:
        """Record how far the log was read; return whether this process did it."""
        reached, host = reading.position, host_name()
        if reached is None or reached == position:
            if self._log_id is not None:
                await connection.execute(LEDGER_SQL["look_at_log"], self._log_id, host)
            return True
        known = reading.stretch.known
        ends = (reached.head, reached.tail, reached.offset)
        if position is None:
            if any(log["host"] == host for log in self._others):
                get_logger(target=self._context.name).warning("access_log_gap", path=str(self._config.path))
            path = str(self._config.path)
            log_id = await connection.fetchval(
                LEDGER_SQL["begin_log"], path, host, *ends, known.since, known.newest
            )
        else:
            log_id = await connection.fetchval(
                LEDGER_SQL["move_position"],
                self._log_id,
                *ends,
                known.since,
                known.newest,
                host,
                position.head,
                position.offset,
            )
        if log_id is not None:
            await connection.execute(LEDGER_SQL["forget_logs"], log_id, host)
        return log_id is not None

    async def _note(self, connection: Conn, stretch: Stretch) -> None:
        if stretch.times:
            keys = list(stretch.times)
            times, names = [stretch.times[key] for key in keys], sorted(self._context.settings.server_names)
            await connection.execute(self._sql["note_accesses"], *key_columns(keys), times, names)


async def follow_access_log(context: TargetContext, *, tell: bool) -> None:
    """Follow the log between passes, before it is rotated away; an unreadable one is reported only now and then."""
    if context.config.access_log is None:
        return
    try:
        async with context.pool.acquire() as connection:
            await AccessLog(context, context.config.access_log).follow(connection)
    except RefusedError as error:
        if tell:
            get_logger(target=context.name).warning("access_log_unreadable", error=str(error))
