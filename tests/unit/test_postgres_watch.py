"""The watch over connections, where they end beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from retentiond.adapters.postgres_watch import Watch

if TYPE_CHECKING:
    from asyncpg import Connection, Record


class Watched:
    """A connection that is aborted at some moment; asyncpg then drops what knows the process on the server."""

    def __init__(self) -> None:
        self.closed = False

    def is_closed(self) -> bool:
        return self.closed

    def get_server_pid(self) -> int:
        if self.closed:
            raise AttributeError("'NoneType' object has no attribute 'get_server_pid'")
        return 17


class Asking(Watched):
    """The connection by which the watch asks the server."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[int]] = []

    async def fetch(self, _query: str, pids: list[int]) -> list[Any]:
        self.asked.append(pids)
        return []

    def terminate(self) -> None:
        self.closed = True


async def test_a_connection_that_ends_while_the_watch_opens_its_own_does_not_fail_the_pass() -> None:
    ends, stays, own = Watched(), Watched(), Asking()

    async def open_own() -> Connection[Record]:
        ends.closed = True
        return cast("Connection[Record]", own)

    watch = Watch("a database", open_own)
    await watch._look(cast("list[Connection[Record]]", [ends, stays]))
    await watch.end()
    assert own.asked == [[17]]
