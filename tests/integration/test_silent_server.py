"""A host that lost its power says no farewell: neither side may wait for the other for ever."""

from __future__ import annotations

import socket

from retentiond.adapters.postgres import Conn, connect, pool


async def minutes_of_silence(connection: Conn) -> tuple[float, float]:
    """For how long the server, and we, wait for a sign of life before the other is gone; both ask over TCP only."""
    [over_tcp] = await connection.fetchrow("SELECT inet_client_addr() IS NOT NULL") or [False]
    if not over_tcp:
        return 2.0, 2.0
    names = ("idle", "interval", "count")
    theirs = [int(await connection.fetchval(f"SHOW tcp_keepalives_{name}")) for name in names]
    line = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
    assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    ours = [line.getsockopt(socket.IPPROTO_TCP, option) for option in options]
    theirs_in_all, ours_in_all = (idle + interval * count for idle, interval, count in (theirs, ours))
    return theirs_in_all / 60, ours_in_all / 60


async def test_a_server_or_a_client_that_vanished_without_a_word_is_waited_for_two_minutes(
    database: str,
) -> None:
    single = await connect(database)
    try:
        assert await minutes_of_silence(single) == (2.0, 2.0)
    finally:
        single.terminate()
    async with pool(database) as several, several.acquire() as one:
        assert await minutes_of_silence(one) == (2.0, 2.0)
