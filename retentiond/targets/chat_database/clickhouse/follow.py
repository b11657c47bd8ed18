"""Follow a mutation to its end, and kill one that fails: the server retries for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.errors import UnreachableError
from retentiond.targets.chat_database.clickhouse.cluster import Cluster
from retentiond.targets.chat_database.clickhouse.connection import ServerError, said
from retentiond.targets.chat_database.clickhouse.mutation import Look, Mutation, look_at
from retentiond.targets.chat_database.store_access import DeletionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from collections.abc import Set as AbstractSet

    from retentiond.engine.target import Stop
    from retentiond.targets.chat_database.clickhouse.servers import Servers
    from retentiond.targets.chat_database.clickhouse.statements import Relations
    from retentiond.targets.chat_database.store_access import PollPolicy

_FAILING_LOOKS: Final = 10
_ABSENT_LOOKS: Final = 5
"""Looks without a mutation until it counts as missing: a replica receives it a moment after it was recorded."""
_SETTLING: Final = 60.0
"""Seconds to wait for parts that were being rewritten when a mutation was killed: the server may finish them."""


class Follower:
    """Follows the mutations of one table."""

    def __init__(
        self,
        server: Servers | Cluster,
        relations: Relations,
        stop: Stop,
        patience: PollPolicy,
        listen: Callable[[Sequence[Mutation]], Awaitable[None]] | None = None,
    ) -> None:
        self._server = server
        self._relations = relations
        self._stop = stop
        self._patience = patience
        # Called with the mutations at each look.
        self._listen = listen

    async def look(self, mark: str) -> Look:
        """Return the state of the mutation with this mark."""
        rows = await self._relations.rows(self._server, "mutations", mark=mark)
        merging = await self._relations.value(self._server, "merges")
        mutations = [
            Mutation(
                **{
                    **row,
                    "ours": bool(row["ours"]),
                    "done": bool(row["done"]),
                    "reason": said(row["reason"]),
                }
            )
            for row in rows
        ]
        if self._listen is not None:
            await self._listen(mutations)
        if isinstance(self._server, Cluster):
            return look_at(mutations, merging, self._server.tally.present)
        return look_at(mutations, merging)

    async def to_the_end(self, mark: str) -> bool:
        """Wait until the mutation is over; return True if it is done, False if no server has it (any more).

        Raises DeletionError after killing a failing mutation, and StoppedError if a stop was requested first.
        """
        failing = absent = 0
        stall = self._patience.stall()
        async for _ in self._patience.looks(self._stop):
            look = await self.look(mark)
            absent = absent + 1 if look.state == "absent" else 0
            if absent == _ABSENT_LOOKS - 1 and isinstance(self._server, Cluster):
                # A server that accepts no writes does not receive it.
                await self._server.look_around()
            if look.state == "done" or absent == _ABSENT_LOOKS:
                return look.state == "done"
            # A failure may be temporary: a part that was merged meanwhile, a shortage of memory.
            failing = failing + 1 if look.state == "failing" else 0
            if failing == _FAILING_LOOKS:
                await self._give_up(mark, f"the mutation fails: {look.reason}")
            if stall.lasts(look.progress):
                reason = look.reason or "the server does not say why"
                await self._give_up(mark, f"the mutation makes no progress: {reason}")
        raise AssertionError("the looks ended by themselves")

    async def until_back(self, cluster: Cluster, servers: AbstractSet[int]) -> bool:
        """Wait for servers that may be restarting; return whether all are back in time."""
        since = self._patience.clock()
        async for _ in self._patience.looks(self._stop):
            await cluster.look_around()
            if servers <= cluster.tally.present:
                return True
            if self._patience.clock() - since >= self._patience.back:
                break
        return False

    async def settle(self) -> bool:
        """Wait up to a minute until all parts are rewritten; return whether they are."""
        since = self._patience.clock()
        for pause in self._patience.pauses():
            if not await self._relations.value(self._server, "at_work"):
                return True
            if self._patience.clock() - since >= _SETTLING:
                break
            await self._stop.wait(pause)
        return False

    async def _give_up(self, mark: str, failure: str) -> None:
        try:
            await self._server.insist(
                self._relations.statement("kill"), self._relations.parameters(mark=mark)
            )
        except (ServerError, UnreachableError) as error:
            raise DeletionError(
                f"{failure}; it could not be killed; the server continues it and may delete more rows: remove "
                f"the cause and run it again, or kill it (KILL MUTATION) as a user with that right; {error}",
                alive=True,
            ) from error
        raise DeletionError(f"{failure}; it was killed; rows that it had deleted stay deleted")
