"""Sabotage from within the program's own process: it dies, stops or fails at an effect that has a name.

The product knows nothing of this. Its calls of the system and of the database's driver are wrapped; each effect has
two points, before and after it, such as `before rename live>quarantine` or `after commit release+record_entries`.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache, wraps
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypedDict

import aiohttp
from asyncpg.transaction import Transaction

from retentiond.adapters.names import NamingConnection
from retentiond.targets.dendrite_media.disk import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

_WRITES = re.compile(r"\b(INSERT|UPDATE|DELETE|CREATE|DROP|nextval|pg_try_advisory_lock)\b")
_OURS = re.compile(r"/\.retentiond(?:/([a-z]+)|$)")


class PassOptions(TypedDict, total=False):
    """What shall happen at the `nth` point (0: at each) whose name fits `at`.

    `action` is `kill`, `pause` (until the file `go` stands in `directory`; it says so by `paused`), `sync` (of the
    file system of `directory`), `skip` (the call is not made: for syncs), or the name of an errno, with which the call
    fails.
    """

    at: str
    nth: int
    action: str
    directory: str


class _Saboteur:
    def __init__(self, orders: list[PassOptions], log: str | None) -> None:
        self._orders = orders
        self._counts = [0] * len(orders)
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else None
        self._lock = Lock()

    def reach(self, point: str) -> bool:
        """Come by a point, and do what is ordered there; return whether the call shall be made."""
        for order in self._due(point):
            action = order["action"]
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif action == "pause":
                _pause(Path(order["directory"]))
            elif action == "sync":
                sync_file_system(Path(order["directory"]))
            elif action == "skip":
                return False
            else:
                number = getattr(errno, action)
                raise OSError(number, os.strerror(number))
        return True

    def _due(self, point: str) -> list[PassOptions]:
        with self._lock:
            if self._log is not None:
                os.write(self._log, point.encode() + b"\n")
            due = []
            for index, order in enumerate(self._orders):
                if fnmatchcase(point, order["at"]):
                    self._counts[index] += 1
                    if order.get("nth", 1) in {0, self._counts[index]}:
                        due.append(order)
            return due


def sync_file_system(directory: Path) -> None:
    """Sync the file system of a directory, and no other."""
    # os.sync would sync every disk of the machine; the product's own calls are not to be used, nor seen, here.
    subprocess.run(["sync", "--file-system", directory], check=True)


def _pause(directory: Path) -> None:
    parent = os.getppid()
    (directory / "paused").touch()
    while not (directory / "go").exists():
        if os.getppid() != parent:
            # The tests were killed, and nobody will ever say go on.
            os._exit(1)
        time.sleep(0.005)


def install(given: Mapping[str, Any]) -> None:
    """Wrap what has effects, once a process: `{"orders": [Order…], "log": FILE}`."""
    saboteur = _Saboteur(given["orders"], given.get("log"))
    for name, named in _FILE_CALLS.items():
        setattr(os, name, _wrap_file_call(saboteur, name, getattr(os, name), named))
    whole = _wrap_file_call(saboteur, "sync", kernel.sync_file_system, _of_descriptor)
    kernel.sync_file_system = whole
    for name in ("execute", "fetch", "fetchrow", "fetchval"):
        _wrap_statement(saboteur, name)
    _wrap_commit(saboteur)
    _wrap_requests(saboteur)


def _place(descriptor: int | None) -> str:
    if descriptor is None:
        return "elsewhere"
    found = _OURS.search(os.readlink(f"/proc/self/fd/{descriptor}"))
    return (found[1] or "own") if found else "live"


def _one_place(*_arguments: Any, dir_fd: int | None = None, **_others: Any) -> str:
    return _place(dir_fd)


def _two_places(
    *_arguments: Any, src_dir_fd: int | None = None, dst_dir_fd: int | None = None, **_others: Any
) -> str:
    return f"{_place(src_dir_fd)}>{_place(dst_dir_fd)}"


def _of_descriptor(descriptor: Any, *_others: Any) -> str:
    return _place(descriptor) if isinstance(descriptor, int) else "elsewhere"


def _created(_path: Any, flags: int, *_others: Any, dir_fd: int | None = None, **_keywords: Any) -> str:
    return _place(dir_fd) if flags & os.O_CREAT else "elsewhere"


_FILE_CALLS: Mapping[str, Callable[..., str]] = {
    "rename": _two_places,
    "link": _two_places,
    "unlink": _one_place,
    "mkdir": _one_place,
    "rmdir": _one_place,
    "fsync": _of_descriptor,
    "open": _created,
}


def _wrap_file_call(
    saboteur: _Saboteur, name: str, call: Callable[..., Any], named: Callable[..., str]
) -> Callable[..., Any]:
    verb = "create" if name == "open" else name

    @wraps(call)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        # The probe of a pass's beginning is no blob.
        where = "probe" if "probe" in str(arguments[0]) else named(*arguments, **keywords)
        if "elsewhere" in where:
            return call(*arguments, **keywords)
        if not saboteur.reach(f"before {verb} {where}"):
            return None
        result = call(*arguments, **keywords)
        saboteur.reach(f"after {verb} {where}")
        return result

    return wrapped


@cache
@cache
def _name_of(statement: str) -> str:
    """Return a statement's name in its file, or else its first words. Its module is loaded by the time it is sent."""
    names = (
        name
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("retentiond.")
        for queries in vars(module).values()
        if isinstance(queries, Mapping)
        for name, text in queries.items()
        if text == statement
    )
    return next(names, None) or " ".join(statement.split()[:3])


# The statements that wrote something in the transaction under way, by connection.
_under_way: dict[int, list[str]] = {}


def _wrap_statement(saboteur: _Saboteur, name: str) -> None:
    # Before the connection adds schemas to it, a statement is the one that has a name.
    call = getattr(NamingConnection, name)

    @wraps(call)
    async def wrapped(self: asyncpg.Connection[Any], statement: str, *arguments: Any, **keywords: Any) -> Any:
        if not _WRITES.search(statement):
            return await call(self, statement, *arguments, **keywords)
        named = _name_of(statement)
        inside = self.is_in_transaction()
        saboteur.reach(f"before {'statement' if inside else 'commit'} {named}")
        result = await call(self, statement, *arguments, **keywords)
        if inside:
            _under_way.setdefault(id(self), []).append(named)
        else:
            saboteur.reach(f"after commit {named}")
        return result

    setattr(NamingConnection, name, wrapped)


def _wrap_commit(saboteur: _Saboteur) -> None:
    call = Transaction._Transaction__commit  # type: ignore[attr-defined]

    @wraps(call)
    async def wrapped(self: Any) -> None:
        names = "+".join(dict.fromkeys(_under_way.pop(id(self._connection), [])))
        if not names:
            await call(self)
            return
        saboteur.reach(f"before commit {names}")
        await call(self)
        saboteur.reach(f"after commit {names}")

    Transaction._Transaction__commit = wrapped  # type: ignore[attr-defined]


_ADMIN = "/_dendrite/admin/"


def _wrap_requests(saboteur: _Saboteur) -> None:
    """Wrap the requests to dendrite that change something there."""
    call = aiohttp.ClientSession._request

    @wraps(call)
    async def wrapped(self: aiohttp.ClientSession, method: str, url: Any, **keywords: Any) -> Any:
        name = str(url).partition(_ADMIN)[2].partition("/")[0]
        if method != "POST" or not name:
            return await call(self, method, url, **keywords)
        saboteur.reach(f"before request {name}")
        answer = await call(self, method, url, **keywords)
        saboteur.reach(f"after request {name}")
        return answer

    aiohttp.ClientSession._request = wrapped  # type: ignore[assignment,method-assign]


def as_environment(orders: list[PassOptions], log: Path | None = None) -> dict[str, str]:
    """Return what makes a `python -m retentiond` be sabotaged."""
    here = Path(__file__).resolve()
    return {
        "SABOTAGE": json.dumps({"orders": orders, "log": str(log) if log else None}),
        "PYTHONPATH": os.pathsep.join([str(here.parent / "sabotaged"), str(here.parents[2])]),
    }
