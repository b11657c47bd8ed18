"""The section `http`: the daemon's pages and documents, their addresses, and who may read them."""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from retentiond.config.section import Conflict, Section
from retentiond.config.values import AbsolutePath, Duration, Listen, one_or_more, to_address

DEFAULT_ADDRESS: Final[Any] = "127.0.0.1:19187"
"""As the file has it, for the example and the reference."""
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){0,10}", re.ASCII)
_LONGEST_SOCKET: Final = 107  # bytes; the kernel's own limit
_SHORTEST_TOKEN, _LONGEST_TOKEN = 16, 1000
_SHORTEST_REFRESH: Final = timedelta(minutes=1)
_MOST: Final = 20


def _socket_path(path: Path) -> Path:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f"is too long for a socket; choose a path of at most {_LONGEST_SOCKET} bytes")
    return path


def _host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise ValueError("not a host's name; write it without a scheme and a port, such as media.example.org")
    return name.lower()


def _token(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > _LONGEST_TOKEN:
        raise ValueError(
            "must be one line of ASCII text without spaces; make one with `openssl rand -hex 32`"
        )
    if len(text) < _SHORTEST_TOKEN:
        raise ValueError(
            f"must have at least {_SHORTEST_TOKEN} characters; make one with `openssl rand -hex 32`"
        )
    return secret


def _refresh(pause: timedelta) -> timedelta:
    if pause < _SHORTEST_REFRESH:
        raise ValueError("must be at least 1m; a report reads all tables of a store")
    return pause


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from its own machine only."""
    return ip_address(host).is_loopback


WILDCARDS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not listened at
"""The addresses of a server that listens at all addresses of its machine."""


def shared_address(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Return whether two servers at these addresses would be in each other's way."""
    return one[1] == other[1] != 0 and (one[0] == other[0] or bool({one[0], other[0]} & WILDCARDS))


class Tls(Section):
    """The certificate of the server; a reload reads the files again."""

    certificate: AbsolutePath = Field(
        description="The certificate, with those of the authorities between, in PEM.",
        examples=["/etc/retentiond/http.pem"],
    )
    key: AbsolutePath = Field(
        description="Its private key, in PEM and without a passphrase.", examples=["/etc/retentiond/http.key"]
    )

    def load(self, context: ssl.SSLContext) -> None:
        """Read both files into a context; raise ValueError, fit to be shown, if they cannot be used."""
        try:
            # A key with a passphrase must not ask for it at a terminal.
            context.load_cert_chain(self.certificate, self.key, password="")
        except ssl.SSLError as error:
            reason = (error.reason or "unknown format").replace("_", " ").lower()
            raise ValueError(
                f"certificate and key cannot be used ({reason}); write PEM files that belong together, the key "
                "without a passphrase"
            ) from None
        except OSError as error:
            raise ValueError(
                f"certificate or key cannot be read ({error.strerror}); check both paths, and let the service read them"
            ) from None

    def context(self) -> ssl.SSLContext:
        """Return the settings of a TLS server; raise ValueError as `load` does."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.load(context)
        return context


class Http(Section):
    """Pages and documents by HTTP: the report, the status, the usage, and metrics. Reading only."""

    listen: Annotated[
        tuple[Listen, ...], BeforeValidator(one_or_more, json_schema_input_type=str | tuple[str, ...])
    ] = Field(
        default=DEFAULT_ADDRESS,
        validate_default=True,
        max_length=_MOST,
        description="The address and port, or a list of them; [] for none beside `socket`. An address that is not of the "
        "loopback needs `token`: the pages have names of users.",
    )
    socket: Annotated[AbsolutePath, AfterValidator(_socket_path)] | None = Field(
        default=None,
        description="The path of a unix socket to listen at as well, for a proxy on this machine. The user and the group of "
        "the service can connect.",
        examples=["/run/retentiond/http.sock"],
    )
    hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = Field(
        default=(),
        max_length=_MOST,
        description="Names by which browsers and Prometheus reach the server, beside localhost, 127.0.0.1, [::1] and the "
        "addresses of `listen`. Requests by other names are refused, since a web page could make them.",
        examples=[["media.example.org"]],
    )
    token: Annotated[SecretStr, AfterValidator(_token)] | None = Field(
        default=None,
        description="The secret of those who may read: `Authorization: Bearer TOKEN`, or the password in a browser. "
        "/healthz and /readyz need none. May be credential:NAME.",
        examples=["credential:http"],
    )
    tls: Tls | None = Field(
        default=None, description="The certificate of the server, for HTTPS at the addresses of `listen`."
    )
    refresh: Annotated[Duration, AfterValidator(_refresh)] = Field(
        default=timedelta(minutes=15),
        description="The least time between two computations of the report and the usage, at least 1m. They run in the "
        "background, and never beside a pass.",
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the problems of addresses that are missing, named twice, or open to a network without a token."""
        listen = one_or_more(given.get("listen", DEFAULT_ADDRESS))
        if not listen and given.get("socket") is None:
            yield Conflict(
                ("listen",), "has no address; name one, or leave `http` out for a daemon without pages"
            )
        seen: list[tuple[str, int]] = []
        for place, value in enumerate(listen):
            address = to_address(value)
            if address is None:
                continue  # reported as no address
            if any(shared_address(address, other) for other in seen):
                yield Conflict(("listen", place), "is named before in this list; leave it out")
            seen.append(address)
            if given.get("token") is None and not is_loopback(address[0]):
                yield Conflict(
                    ("listen", place),
                    "is not on the loopback and needs a `token`, since the pages have names of users; add "
                    "`token: credential:http`, or listen at 127.0.0.1",
                )
