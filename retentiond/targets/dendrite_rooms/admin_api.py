"""dendrite's admin API: the rooms that it calls empty, the purge of one, and the evacuation of one.

dendrite checks nothing before a purge, and answers each failure with status 500 and a text. Its answer may take minutes, or
never come, although the purge goes on: a lost answer is no failure, and the database has to be asked.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from urllib.parse import quote

import aiohttp
from yarl import URL

from retentiond import __version__
from retentiond.model.errors import UnreachableError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

AdminFailure = Literal[
    "not_reachable",
    "certificate",
    "silent",
    "lost",
    "no_token",
    "unknown_token",
    "not_an_administrator",
    "guest",
    "wrong_address",
    "no_endpoint",
    "not_dendrite",
    "redirect",
    "too_long",
    "refused",
]
"""The ways in which a request can fail."""

_CHECK_URL: Final = "check `admin_api`: it has to be the address of dendrite itself, not of a proxy before it"
_LOG_IN: Final = (
    "log in as an administrator of dendrite, and set `admin_api: {token: …}` to the new access token"
)
NEXT_STEPS: Final[dict[AdminFailure, str]] = {
    "not_reachable": "start dendrite, or correct `admin_api`",
    "certificate": "set `admin_api: {ca_file: …}` to the certificate of its authority, or use the address of its HTTP listener",
    "silent": "wait until dendrite has less to do, then try again",
    "lost": "the database shows whether the request was carried out; try again",
    "no_token": _LOG_IN,
    "unknown_token": _LOG_IN,
    "not_an_administrator": "use the token of an administrator: "
    "`create-account -admin` makes one, or `UPDATE userapi_accounts SET account_type = 3 WHERE localpart = …`",
    "guest": _LOG_IN,
    "wrong_address": _CHECK_URL,
    "no_endpoint": "update dendrite: this version of it has no such request",
    "not_dendrite": _CHECK_URL,
    "redirect": "write the address that it redirects to, if that is dendrite itself",
    "too_long": _CHECK_URL,
    "refused": "look into dendrite's log",
}
"""The next step after each failure."""
if set(NEXT_STEPS) != set(get_args(AdminFailure)):
    raise TypeError("targets/dendrite_rooms/admin_api.py: NEXT_STEPS must have each failure, and no other")

_ADMIN: Final = "/_dendrite/admin/"
_HEALTH: Final = "/_dendrite/monitor/health"
_WHOAMI: Final = "/_matrix/client/v3/account/whoami"
_LONGEST_LIST: Final = 64 << 20
_LONGEST_ANSWER: Final = 1 << 20
_CONNECT_SECONDS: Final = 10.0
_ANSWER_SECONDS: Final = 60.0
EVACUATION_SECONDS: Final = 600.0
"""The longest wait for an evacuation, which writes an event for each local user."""
_LONGEST_TEXT: Final = 300


class AdminApiError(UnreachableError):
    """A request failed. With `sent` dendrite may have begun it, or still be at it; otherwise it never did.

    `text` is dendrite's own, as it came: untrusted.
    """

    def __init__(self, failure: AdminFailure, summary: str, *, sent: bool = False, text: str = "") -> None:
        super().__init__(f"dendrite's admin API {summary}; {NEXT_STEPS[failure]}")
        self.failure = failure
        self.summary = summary
        self.sent = sent
        self.text = text


@dataclass(frozen=True, slots=True)
class AdminAddress:
    """The address of the admin API: a URL, or a Unix socket; the token is a secret."""

    url: str | None
    unix_socket: Path | None
    token: str
    ca_file: Path | None = None


PurgeAnswer = Literal["done", "not_there", "lost"]
"""dendrite's answer to a purge: it is done, it does not know the room, or no answer came."""


@asynccontextmanager
async def open_admin_api(address: AdminAddress) -> AsyncIterator[AdminApi]:
    """Open a client; raise AdminApiError for an unreadable certificate. Nothing is sent yet.

    Each request has a connection of its own: one that is kept may be closed as a purge is sent, and leave its fate open.
    """
    connector: aiohttp.BaseConnector
    if address.unix_socket is not None:
        connector = aiohttp.UnixConnector(str(address.unix_socket), limit=1, force_close=True)
        base = "http://dendrite"
    else:
        try:
            tls = await asyncio.to_thread(
                ssl.create_default_context, cafile=str(address.ca_file) if address.ca_file else None
            )
        except OSError as error:
            raise AdminApiError(
                "certificate", f"cannot be used: `ca_file` {address.ca_file}: {error.strerror or error}"
            ) from error
        connector = aiohttp.TCPConnector(limit=1, ssl=tls, force_close=True)
        base = (address.url or "").rstrip("/")
    headers = {
        "Authorization": f"Bearer {address.token}",
        "User-Agent": f"retentiond/{__version__}",
        # A packed answer could be far larger than it looks.
        "Accept-Encoding": "identity",
    }
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        yield AdminApi(session, base, address.token)


class AdminApi:
    """The requests; each raises AdminApiError with the next step."""

    def __init__(self, session: aiohttp.ClientSession, base: str, token: str) -> None:
        self._session = session
        self._base = base
        self._token = token

    async def check_health(self) -> None:
        """Raise AdminApiError unless dendrite says that it is healthy. It needs no token, and proves little."""
        answer = await self._ask("GET", _HEALTH, _ANSWER_SECONDS, _LONGEST_ANSWER)
        if answer.status != HTTPStatus.OK:
            raise AdminApiError("refused", f"says that dendrite is not healthy: status {answer.status}")

    async def empty_rooms(self) -> frozenset[str]:
        """Return the rooms without a joined local member, those with pending invites included."""
        document = await self._document("GET", "emptyRooms", _ANSWER_SECONDS, _LONGEST_LIST)
        # Without the key it is the answer of another server, such as `{}`.
        rooms = document.get("empty_rooms", False)
        # dendrite writes null in the place of an empty list.
        if rooms is None:
            return frozenset()
        if not isinstance(rooms, list) or not all(map(_is_room, rooms)):
            raise AdminApiError("not_dendrite", "answered with another document than a list of rooms")
        return frozenset(rooms)

    async def user(self) -> str:
        """Return the ID of the token's user, which ends in the name of the server that answers."""
        answer = await self._ask("GET", _WHOAMI, _ANSWER_SECONDS, _LONGEST_ANSWER)
        if answer.status != HTTPStatus.OK or answer.document is None:
            raise await self._failure(answer, sent=False)
        return printable(str(answer.document.get("user_id", "")), _LONGEST_TEXT)

    async def purge(self, room_id: str, patience: float, within: float = _CONNECT_SECONDS) -> PurgeAnswer:
        """Purge a room, and wait for the answer for at most `patience` seconds; send nothing after `within` seconds.

        Whether the answer comes says little: ask the database. Raise AdminApiError where dendrite refused to begin.
        """
        try:
            await self._document("POST", f"purgeRoom/{quoted(room_id)}", patience, _LONGEST_ANSWER, within)
        except AdminApiError as error:
            if error.failure == "refused" and error.text == f"room {room_id} does not exist":
                return "not_there"
            if error.sent and error.failure in {"lost", "silent", "not_dendrite", "too_long"}:
                return "lost"
            raise
        return "done"

    async def evacuate(self, room_id: str) -> tuple[str, ...]:
        """Let all local members leave a room; return those whom dendrite names. Look into the database afterwards."""
        document = await self._document(
            "POST", f"evacuateRoom/{quoted(room_id)}", EVACUATION_SECONDS, _LONGEST_LIST
        )
        affected = document.get("affected") or ()
        if not isinstance(affected, list | tuple):
            raise AdminApiError(
                "not_dendrite", "answered with another document than a list of users", sent=True
            )
        # The ledger's JSON cannot have each text.
        return tuple(printable(str(user), 300) for user in affected)

    async def _document(
        self, method: str, path: str, patience: float, longest: int, within: float = _CONNECT_SECONDS
    ) -> dict[str, Any]:
        """Return the JSON object of an answer with status 200."""
        answer = await self._ask(method, _ADMIN + path, patience, longest, within)
        if answer.status == HTTPStatus.OK and answer.document is not None:
            return answer.document
        raise await self._failure(answer, sent=method == "POST")

    async def _ask(
        self, method: str, path: str, patience: float, longest: int, within: float = _CONNECT_SECONDS
    ) -> _Answer:
        """Send one request, once, if a connection is there `within` seconds; read no more of the answer than `longest` bytes."""
        sent = method == "POST"
        timeout = aiohttp.ClientTimeout(total=patience, connect=within)
        try:
            async with self._session.request(
                method,
                URL(self._base + path, encoded=True),
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(1 << 16):
                    body += chunk
                    if len(body) > longest:
                        raise AdminApiError("too_long", f"answered with more than {longest} bytes", sent=sent)
                return _Answer(response.status, response.content_type, bytes(body))
        except aiohttp.ClientConnectorCertificateError:
            raise AdminApiError("certificate", "has a certificate that is not valid here") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            reason = _reason(error)
            kind: AdminFailure = (
                "certificate" if isinstance(error, aiohttp.ClientSSLError) else "not_reachable"
            )
            raise AdminApiError(kind, f"cannot be reached: {reason}") from None
        except TimeoutError:
            raise AdminApiError("silent", f"gave no answer within {patience:.0f} s", sent=sent) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AdminApiError(
                "lost", f"closed the connection without an answer: {_reason(error)}", sent=sent
            ) from None

    async def _failure(self, answer: _Answer, *, sent: bool) -> AdminApiError:
        """Turn an answer into its error."""
        document, status = answer.document, answer.status
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return AdminApiError(
                "redirect", f"is not there: the server at this address redirects, status {status}"
            )
        if document is None:
            # A proxy may give up before dendrite does.
            return AdminApiError(
                "not_dendrite",
                f"is not there: status {status}, and the answer is no JSON, as that of a proxy",
                sent=sent and (status == HTTPStatus.OK or status >= HTTPStatus.INTERNAL_SERVER_ERROR),
            )
        code, text = document.get("errcode"), self._text(document)
        if status == HTTPStatus.UNAUTHORIZED and code == "M_MISSING_TOKEN":
            return AdminApiError("no_token", f"did not receive the token: {text}")
        if status == HTTPStatus.UNAUTHORIZED:
            return AdminApiError("unknown_token", f"does not know the token, or it was logged out: {text}")
        if status == HTTPStatus.FORBIDDEN and code == "M_GUEST_ACCESS_FORBIDDEN":
            return AdminApiError("guest", f"was asked with the token of a guest: {text}")
        if status == HTTPStatus.FORBIDDEN:
            return AdminApiError(
                "not_an_administrator", f"was asked by a user that is no administrator: {text}"
            )
        if code == "M_UNRECOGNIZED":
            return await self._unrecognized(status)
        message = document.get("message")
        raw = message if isinstance(message, str) else ""
        return AdminApiError("refused", f"refused, status {status}: {text}", text=raw)

    async def _unrecognized(self, status: int) -> AdminApiError:
        """Tell an older dendrite from another server: only dendrite has the page of its health."""
        try:
            await self.check_health()
        except AdminApiError:
            return AdminApiError("wrong_address", f"is not at this address: status {status}, M_UNRECOGNIZED")
        return AdminApiError("no_endpoint", f"has no such request: status {status}, M_UNRECOGNIZED")

    def _text(self, document: dict[str, Any]) -> str:
        text = str(
            document.get("error") or document.get("message") or document.get("errcode") or "no reason given"
        )
        return printable(text.replace(self._token, "…") if self._token else text, _LONGEST_TEXT)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    content_type: str
    body: bytes

    @property
    def document(self) -> dict[str, Any] | None:
        """The JSON object; None for anything else."""
        if self.content_type != "application/json":
            return None
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None


def _is_room(value: object) -> bool:
    """Return whether a value is a text that a database can have."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def quoted(room_id: str) -> str:
    """Return a room's ID as a part of a path: encoded once, which dendrite decodes once."""
    return quote(room_id, safe="")


def _reason(error: BaseException) -> str:
    """Return the system's words; those of the library hold the URL."""
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    # The event loop puts the address in place of the system's words.
    number = error.errno if isinstance(error, OSError) else None
    words = os.strerror(number) if number is not None and number > 0 else None
    return printable(words or type(error).__name__, 200)
