"""The rows that a purge means: how many they are, where they lie, and the two ways to be rid of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.clickhouse.cluster import Cluster
from retentiond.targets.chat_database.clickhouse.connection import ServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from retentiond.targets.chat_database.clickhouse.condition import Condition
    from retentiond.targets.chat_database.clickhouse.failover import Servers
    from retentiond.targets.chat_database.clickhouse.relations import Relations

_NO_SUCH_PART: Final = 232
_TOO_LARGE_TO_DROP: Final = 359
_BROKEN_OFF: Final = frozenset({159, 394})
"""The server, or somebody, ended the request; what was asked for may be written down all the same."""


class MeantRows:
    """The rows of one table that fit a condition, on one server or on those of a cluster."""

    def __init__(self, server: Servers | Cluster, relations: Relations) -> None:
        self.server = server
        self.relations = relations
        self.cluster = server if isinstance(server, Cluster) else None

    @property
    def one_server(self) -> bool:
        """Whether the server that answers is all there is."""
        return self.cluster is None

    async def count(self, meant: Condition, *, tallied: bool = False) -> int:
        """Count them; a count that is `tallied` shows how far each shard of a cluster is."""
        if self.cluster is not None:
            return await self.cluster.count(meant, tallied=tallied)
        statement = self.relations.statement("count", condition=meant)
        return int(await self.server.value(statement, self.relations.parameters(meant)))

    async def partitions(self, meant: Condition) -> dict[str | None, int]:
        """Return the partitions that hold some, and how many; None for a table without any, whose parts are all one."""
        statement = self.relations.statement("partitions", condition=meant)
        rows = await self.server.rows(statement, self.relations.parameters(meant))
        return {
            None if row["_partition_id"] == "all" else row["_partition_id"]: int(row["_matching"])
            for row in rows
        }

    async def delete(self, meant: Condition, partition: str | None, mark: str) -> None:
        """Have the server write down a mutation that deletes those of a partition; whether it did, a look tells."""
        statement = self.relations.statement("delete", condition=meant, partition=partition)
        parameters = self.relations.parameters(meant, mark=mark, partition=partition or "")
        try:
            await self.server.do(statement, parameters)
        except ServerError as error:
            if error.code not in _BROKEN_OFF:
                raise

    async def drop_whole_parts(
        self, meant: Condition, begin_drop: Callable[[str, int], Awaitable[None]]
    ) -> AsyncIterator[int]:
        """Drop the parts of which every row is meant: no rewriting, and nothing else can be in them; tell each one's rows.

        `begin_drop` is called with a part and its rows before that part is dropped.

        A part never changes under its name. A partition does: rows may come into it between the count and the drop.
        """
        if not self.one_server or await self.server.value(
            self.relations.statement("patched"), self.relations.parameters()
        ):
            return
        statement = self.relations.statement("parts", condition=meant)
        for row in await self.server.rows(statement, self.relations.parameters(meant)):
            await begin_drop(row["part"], int(row["rows"]))
            yield int(row["rows"]) if await self._drop(row["part"]) else 0

    async def has_part(self, part: str) -> bool:
        """Tell whether a part is there under this name; one that was merged has another."""
        statement = self.relations.statement("has_part")
        return bool(await self.server.value(statement, self.relations.parameters(part=part)))

    async def _drop(self, part: str) -> bool:
        try:
            await self.server.do(self.relations.statement("drop_part"), self.relations.parameters(part=part))
        except ServerError as error:
            # It was merged meanwhile, or is too large to be dropped: then its rows are deleted.
            if error.code not in {_NO_SUCH_PART, _TOO_LARGE_TO_DROP}:
                raise
            return False
        except UnreachableError:
            if not self.server.several:
                raise
            return not await self.has_part(part)
        return True
