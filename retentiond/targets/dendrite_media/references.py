"""The protections: what profiles, room state and account data refer to is never purged.

Each source is read whole, in one statement, into a copy; passes and sweeps ask the copy. A source that cannot be
read refuses whatever would have relied on it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from retentiond.adapters.postgres import connect, named_queries
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.config.dendrite_yaml import Component
    from retentiond.model.policy import Protection

SQL: Final = named_queries(__package__, "references.sql")
KEPT_COPY: Final = "retentiond.reference"
PLAN_COPY: Final = "pg_temp.plan_reference"
_PAGE: Final = 5000
LARGEST_AGE: Final = timedelta(minutes=10)
"""How old the copy may be that a deletion relies on."""


@dataclass(frozen=True, slots=True)
class Source:
    """One statement of a protection, and the component whose database answers it."""

    query: str
    component: Component
    table: str


SOURCES: Final[Mapping[Protection, tuple[Source, ...]]] = {
    "profile_avatars": (
        Source("profiles", "user_api", "userapi_profiles"),
        Source("member_avatars", "sync_api", "syncapi_current_room_state"),
    ),
    "room_state": (Source("room_state", "sync_api", "syncapi_current_room_state"),),
    "account_data": (Source("account_data", "user_api", "userapi_account_datas"),),
}


@dataclass(frozen=True, slots=True)
class Copy:
    """A whole copy of what the protections refer to, and when the database server's clock saw it begun."""

    copy_id: int
    begun_at: datetime


async def prepare(connection: Conn) -> None:
    """Make the functions that cut references out of texts, in the connection's own temporary schema."""
    for function in ("json_function", "key_function", "string_function"):
        await connection.execute(SQL[function])


class References:
    """The copy of what the protections of a target refer to; `databases` are the components' URLs."""

    def __init__(
        self, protections: Sequence[Protection], database: str, databases: Mapping[Component, str]
    ) -> None:
        self.protections = tuple(protections)
        self._database = database
        self._databases = databases

    async def ensure(self, connection: Conn, *, begun_after: datetime) -> int | None:
        """Return the number of a copy that was begun after the time given; make one where there is none.

        None where nothing is protected. Raises RefusedError where a source cannot be read.
        """
        copy = await self.copy(connection, begun_after=begun_after)
        return copy.copy_id if copy else None

    async def copy(self, connection: Conn, *, begun_after: datetime) -> Copy | None:
        """Return such a copy, with the time it was begun."""
        if not self.protections:
            return None
        found = await connection.fetchrow(SQL["newest_copy"], list(self.protections), begun_after)
        return Copy(**dict(found)) if found else await self._make(connection)

    @asynccontextmanager
    async def held(self, connection: Conn, *, begun_after: datetime) -> AsyncIterator[int | None]:
        """Begin a transaction in which the number of such a copy can be relied on.

        Who makes a newer copy drops the others, and one that is gone would say that nothing is protected.
        """
        while True:
            copy = await self.ensure(connection, begun_after=begun_after)
            async with connection.transaction():
                if copy is None or await connection.fetchval(SQL["hold_copy"], copy) is not None:
                    yield copy
                    return

    async def _make(self, connection: Conn) -> Copy:
        await prepare(connection)
        # One transaction: whoever finds the copy's number finds all of it.
        async with connection.transaction():
            copy = await connection.fetchrow(SQL["begin_copy"], list(self.protections))
            if copy is None:
                raise UnreachableError("the ledger took no copy of the references; look at the server's log")
            for protection in self.protections:
                await self._copy(connection, KEPT_COPY, copy["copy_id"], protection)
        await connection.execute(SQL["drop_old_copies"], copy["copy_id"])
        await connection.execute(SQL["analyze_copy"].replace("{reference}", KEPT_COPY))
        return Copy(**dict(copy))

    async def copy_for_plan(self, connection: Conn) -> int | None:
        """Fill a copy that goes with the connection, and return its number; raises RefusedError."""
        if not self.protections:
            return None
        await prepare(connection)
        await connection.execute(SQL["make_plan_copy"])
        for protection in self.protections:
            await self._copy(connection, PLAN_COPY, 0, protection)
        await connection.execute(SQL["analyze_copy"].replace("{reference}", PLAN_COPY))
        return 0

    async def _copy(self, connection: Conn, relation: str, copy_id: int, protection: Protection) -> None:
        for source in SOURCES[protection]:
            url = self._databases.get(source.component, self._database)
            try:
                if url == self._database:
                    statement = (
                        SQL["copy_source"]
                        .replace("{reference}", relation)
                        .replace("{source}", SQL[source.query])
                    )
                    await connection.execute(statement, copy_id, protection)
                else:
                    await self._copy_from(connection, url, relation, copy_id, protection, source)
            except (asyncpg.PostgresError, UnreachableError) as error:
                if connection.is_closed():
                    raise
                raise RefusedError(
                    Refusal(
                        "protection_unreadable",
                        f"{source.table}: {printable(str(error))}",
                        "readable",
                        f"let this role read {source.table} (GRANT SELECT ON {source.table}), name its database under "
                        f"`databases`, or leave {protection} out of `protect`",
                    )
                ) from error

    async def _copy_from(
        self, connection: Conn, url: str, relation: str, copy_id: int, protection: Protection, source: Source
    ) -> None:
        schema, table = relation.split(".")
        other = await connect(url, f"the database of {source.table}")
        try:
            await prepare(other)
            async with other.transaction(readonly=True):
                page: list[tuple[int, str, str, str]] = []
                async for row in other.cursor(SQL[source.query], prefetch=_PAGE):
                    page.append((copy_id, protection, row["media_id"], row["media_origin"]))
                    if len(page) == _PAGE:
                        await self._store(connection, schema, table, page)
                        page.clear()
                await self._store(connection, schema, table, page)
        finally:
            await other.close(timeout=10)

    async def _store(
        self, connection: Conn, schema: str, table: str, page: list[tuple[int, str, str, str]]
    ) -> None:
        await connection.copy_records_to_table(
            table,
            schema_name=schema,
            records=page,
            columns=("copy_id", "source", "media_id", "media_origin"),
        )
