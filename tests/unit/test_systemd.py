"""The service manager's datagrams, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from retentiond.adapters.systemd import Notifier, keep_alive

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


@pytest.fixture
def environment(manager: socket.socket) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname()}


@pytest.fixture
def notifier(environment: dict[str, str]) -> Notifier:
    return Notifier(environment)


def received(manager: socket.socket) -> list[str]:
    return manager.recv(65_536).decode().split("\n")


def test_readiness_comes_with_a_status(manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready("waiting for 03:30")
    assert received(manager) == ["READY=1", "STATUS=waiting for 03:30"]


def test_stopping_comes_with_a_status(manager: socket.socket, notifier: Notifier) -> None:
    notifier.stopping("finishing a batch")
    assert received(manager) == ["STOPPING=1", "STATUS=finishing a batch"]


def test_a_reload_bears_the_monotonic_clock_in_microseconds(
    manager: socket.socket, notifier: Notifier
) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.reloading()
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    state, clock = received(manager)
    assert state == "RELOADING=1"
    assert clock.startswith("MONOTONIC_USEC=")
    assert before <= int(clock.removeprefix("MONOTONIC_USEC=")) <= after


def test_a_status_with_newlines_cannot_become_a_field_of_its_own(
    manager: socket.socket, notifier: Notifier
) -> None:
    notifier.status("reading evil.png\nREADY=1")
    (line,) = received(manager)
    assert line.startswith("STATUS=reading evil.png")


def test_a_status_that_is_not_unicode_is_sent_all_the_same(
    manager: socket.socket, notifier: Notifier
) -> None:
    notifier.status("reading caf\udce9.png")
    (line,) = received(manager)
    assert line.startswith("STATUS=reading caf")


def test_an_abstract_socket_is_reached() -> None:
    name = f"retentiond-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        manager.settimeout(30)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).watchdog()
        assert received(manager) == ["WATCHDOG=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_without_a_socket_of_our_kind_no_socket_is_made(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing is to be sent")

    notifier = Notifier(environment)
    monkeypatch.setattr(socket, "socket", refuse)
    notifier.ready("up")
    notifier.watchdog()


def test_a_socket_that_vanished_is_no_error(manager: socket.socket, notifier: Notifier) -> None:
    manager.close()
    notifier.ready("nobody listens")
    os.unlink(notifier._address or "")
    notifier.stopping("nobody is there")


def test_pings_that_nobody_reads_are_dropped_and_do_not_wait(
    manager: socket.socket, notifier: Notifier
) -> None:
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text(encoding="ascii"))
    for _ in range(queue + 300):  # nobody reads: one that waited would meet the test's own time-out
        notifier.watchdog()
    assert received(manager) == ["WATCHDOG=1"]


def test_the_interval_is_half_of_what_the_watchdog_allows() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.watchdog_interval() == 30.0


def test_the_interval_needs_no_pid() -> None:
    assert Notifier({"WATCHDOG_USEC": "3000000"}).watchdog_interval() == 1.5


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "me"},
    ],
)
def test_without_a_watchdog_for_this_process_there_is_no_interval(environment: dict[str, str]) -> None:
    assert Notifier(environment).watchdog_interval() is None


async def test_the_watchdog_is_pinged_until_cancelled(
    manager: socket.socket, environment: dict[str, str]
) -> None:
    manager.setblocking(False)
    pings = asyncio.create_task(keep_alive(Notifier({**environment, "WATCHDOG_USEC": "2000"})))
    for _ in range(3):
        assert await asyncio.get_running_loop().sock_recv(manager, 100) == b"WATCHDOG=1"
    pings.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pings


async def test_a_blocked_event_loop_sends_no_pings(
    manager: socket.socket, environment: dict[str, str]
) -> None:
    pings = asyncio.create_task(keep_alive(Notifier({**environment, "WATCHDOG_USEC": "2000"})))
    await asyncio.sleep(0)
    assert received(manager) == ["WATCHDOG=1"]
    manager.settimeout(0.1)  # a hundred intervals, in which nothing but this thread's loop could ping
    with pytest.raises(TimeoutError):
        manager.recv(100)
    pings.cancel()


async def test_without_a_watchdog_the_keeper_only_waits() -> None:
    pings = asyncio.create_task(keep_alive(Notifier({})))
    await asyncio.sleep(0)
    assert not pings.done()
    pings.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pings
