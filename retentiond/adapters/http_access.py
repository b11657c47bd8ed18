"""Who may read from the HTTP server, and what browsers may do with its answers."""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_HEADERS: Final = {
    # The default names the library and its version.
    "Server": "retentiond",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
_NAME_LIMIT: Final = 100
_HOST: Final = re.compile(r"(?:\[(?P<address>[^\[\]]+)\]|(?P<name>[^:\[\]]+))(?::[0-9]*)?")


@dataclass(frozen=True, slots=True)
class Access:
    """The names by which a server answers (None: any), the token of its readers, and the paths that need none."""

    hosts: frozenset[str] | None = None
    any_ip: bool = False
    """Whether each IP address is a name, for a server that listens at all of them: no web page can make it its own name."""
    token: str | None = field(default=None, repr=False)
    open_paths: frozenset[str] = frozenset()

    def refusal(self, request: web.BaseRequest, *, local: bool) -> tuple[int, str, Mapping[str, str]] | None:
        """Return status, sentence and headers of a refused request; None if it may be answered.

        `local` requests came by a unix socket, to which no name leads.
        """
        if self.hosts is not None and not local and (wrong := self._wrong_host(request)) is not None:
            return wrong
        if self.token is None or request.path in self.open_paths or self._knows_token(request):
            return None
        challenge = 'Bearer realm="retentiond", Basic realm="retentiond", charset="UTF-8"'
        sentence = (
            "needs the token of `http.token`; send it as `Authorization: Bearer TOKEN`, or as a password"
        )
        return 401, sentence, {"WWW-Authenticate": challenge}

    def _wrong_host(self, request: web.BaseRequest) -> tuple[int, str, Mapping[str, str]] | None:
        given = request.headers.getall("Host", [])
        if len(given) != 1:
            return 400, "needs one Host header; send one", {}
        name = _host_of(given[0])
        if name in (self.hosts or ()) or (self.any_ip and _is_ip(name)):
            return None
        shown = printable(name or given[0], _NAME_LIMIT) or "(none)"
        return (
            421,
            f"this server does not answer by the name {shown}; add it to `http.hosts`, or use one that is there",
            {},
        )

    def _knows_token(self, request: web.BaseRequest) -> bool:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        given = value.strip()
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except ValueError:
                return False
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(_digest(given), _digest(self.token or ""))


def secure(response: web.Response) -> web.Response:
    """Add the headers that keep an answer out of caches, frames and other sites; a header that is there stays."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _host_of(header: str) -> str:
    """Return the name of a Host header, without its port and in small letters; empty if it has more than these."""
    found = _HOST.fullmatch(header.strip().lower())
    return (found["address"] or found["name"]).removesuffix(".") if found else ""


def _is_ip(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _digest(text: str) -> bytes:
    # Of one length, so that the comparison shows nothing about the length of the token.
    return sha256(text.encode(errors="surrogateescape")).digest()
