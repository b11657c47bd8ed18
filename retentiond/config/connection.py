"""Connection strings: dendrite takes URLs and key=value pairs, asyncpg takes URLs alone and reads them its way.

No message shows any part of a connection string: a misread part may be the password.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address
from typing import Final, Self
from urllib.parse import quote, unquote, urlsplit

from retentiond.model.text import printable

# Parameters of other drivers that asyncpg would send to the server, which refuses them; they do not change any result.
_DROPPED: Final = frozenset({
    "application_name",
    "binary_mode",
    "binary_parameters",
    "client_encoding",
    "connect_timeout",
    "datestyle",
    "disable_prepared_binary_result",
    "fallback_application_name",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbspn",
    "load_balance_hosts",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
})  # fmt: skip
# Parameters for features that asyncpg lacks, each with the values that do not ask for the feature.
_REFUSED: Final = {
    "channel_binding": {"disable", "prefer"},
    "gssencmode": {"disable", "prefer"},
    "hostaddr": set[str](),
    "replication": {"false", "off", "no", "0"},
    "require_auth": set[str](),
    "requirepeer": set[str](),
    "requiressl": {"0"},
    "sslinline": {"false"},
}
_SSL_MODES: Final = frozenset({"disable", "allow", "prefer", "require", "verify-ca", "verify-full"})
# The others are settings of the session, which lib/pq and asyncpg alike hand to the server.
_SETTING: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,62}", re.ASCII)
_UNFIT: Final = re.compile(r"[\0\ud800-\udfff]")
_SCHEMES: Final = ("postgresql://", "postgres://")
_EXAMPLE: Final = "write it as postgresql://user:password@host/database"
_SHOWN: Final = ("sslmode",)
_LONGEST_NAME: Final = 500
_PAIR: Final = re.compile(
    r"""\s*(?P<name>[^\s='\\]+)\s*=\s*
        (?:'(?P<quoted>(?:[^'\\]|\\.)*)'|(?P<bare>(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)|\Z)\s*""",
    re.VERBOSE | re.DOTALL,
)


class ConfiguredText(str):
    """A connection string, or the URL made of it, with the place in a file where it was written: `file:line`.

    Two of them differ by their text alone, so that a line that moved is no change of the configuration.
    """

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, text: str, origin: str = "") -> Self:
        """Take the place along."""
        configured = super().__new__(cls, text)
        configured.origin = origin
        return configured


class ConnectionStringError(ValueError):
    """A connection string that cannot be used; the message shows no part of it."""


class SqliteError(ConnectionStringError):
    """A connection string that names an SQLite file, which dendrite can work on and retentiond cannot."""


def to_url(connection_string: str) -> str:
    """Turn a URL or lib/pq's key=value pairs into a URL that asyncpg reads the same way.

    A missing host is localhost, as in lib/pq. Raise ConnectionStringError for an unusable string. The position in the
    file is kept.
    """
    parameters = _checked(_parse(connection_string))
    return ConfiguredText(_build(parameters, _kept(parameters)), getattr(connection_string, "origin", ""))


def password_of(secret: str) -> str:
    """Return the password in a connection string, empty without one; a secret that is no connection string is returned whole."""
    try:
        return unquote(urlsplit(to_url(secret)).password or "")
    except (ConnectionStringError, ValueError):
        return secret


def redacted(connection_string: str) -> str:
    """Return the URL without its password, and without possible secrets under mistyped names."""
    try:
        parameters = _checked(_parse(connection_string))
        shown = {name: value for name, value in _kept(parameters) if name in _SHOWN}
        return _build({**parameters, "password": ""}, shown.items())
    except ConnectionStringError:
        return "(a connection string that cannot be read)"


def described(connection_string: str) -> str:
    """Name a database by its host and port or socket, its own name, the role, and where that is configured."""
    try:
        parameters = _checked(_parse(connection_string))
    except ConnectionStringError:
        return "a connection string that cannot be read"
    parts = [f"{parameters['dbname']}" if "dbname" in parameters else "the role's own database"]
    if "host" in parameters:
        parts.append(f"at {_addresses(parameters['host'], parameters.get('port', '5432'))}")
    else:
        parts.append(f"of the service {parameters['service']}")
    if "user" in parameters:
        parts.append(f"as role {parameters['user']}")
    origin = getattr(connection_string, "origin", "")
    text = " ".join(parts) + (f", configured in {origin}" if origin else "")
    return printable(text, _LONGEST_NAME)


def _addresses(host: str, port: str) -> str:
    hosts, ports = host.split(","), port.split(",")
    ports *= len(hosts) if len(ports) == 1 else 1
    return ", ".join(
        f"socket {name}/.s.PGSQL.{number}"
        if name.startswith("/")
        else f"[{name}]:{number}"
        if _is_ipv6(name)
        else f"{name}:{number}"
        for name, number in zip(hosts, ports, strict=True)
    )


def _parse(text: str) -> dict[str, str]:
    text = text.lstrip()
    if text.startswith(_SCHEMES):
        return _parse_url(text.rstrip())
    if text.startswith("file:"):
        raise SqliteError("this is an SQLite file; retentiond works on PostgreSQL only")
    if "=" in text and "://" not in text.partition("=")[0]:
        return dict(_parse_pairs(text))
    raise ConnectionStringError(f"not a PostgreSQL connection string; {_EXAMPLE}")


def _parse_url(text: str) -> dict[str, str]:
    rest = text.partition("://")[2]
    if "#" in rest:
        raise ConnectionStringError("a # in a connection URL must be written as %23")
    rest, _, query = rest.partition("?")
    authority, _, database = rest.partition("/")
    # The last @ ends the password, for lib/pq; asyncpg would take the first.
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = credentials.partition(":")
    pairs = [("user", user), ("password", password), ("dbname", database), *_split_hosts(hosts)]
    parameters = {name: _decoded(value) for name, value in pairs if value}
    seen: set[str] = set()
    for pair in filter(None, query.split("&")):
        name, equals, value = (part.replace("+", " ") for part in pair.partition("="))
        name = "dbname" if name == "database" else _decoded(name)
        if not equals:
            raise ConnectionStringError("a parameter after the ? has no value; write name=value")
        if name in seen:
            raise ConnectionStringError("a parameter after the ? is there twice; write it once")
        seen.add(name)
        parameters[name] = _decoded(value)
    return parameters


def _split_hosts(hosts: str) -> Iterator[tuple[str, str]]:
    names: list[str] = []
    ports: list[str] = []
    for host in filter(None, hosts.split(",")):
        match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]*))(?::(\d*))?", host)
        if match is None:
            raise ConnectionStringError(
                "the host or port cannot be read; write / : @ ? in a password as %2F %3A %40 %3F, and an IPv6 "
                "address in brackets"
            )
        names.append(match[1] or match[2])
        ports.append(match[3] or "")
    if any(names):
        yield "host", ",".join(names)
    if any(ports):
        yield "port", ",".join(port or "5432" for port in ports)


def _decoded(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise ConnectionStringError("a % in a connection URL must be written as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ConnectionStringError("what is written with % in a connection URL must be UTF-8") from None


def _parse_pairs(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        match = _PAIR.match(text, position)
        if match is None:
            raise ConnectionStringError(
                "the key=value pairs cannot be read; put a value with spaces in single quotes, and write "
                r"\' and \\ for ' and \ in it"
            )
        value = match["quoted"] or match["bare"] or ""
        yield match["name"], re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        position = match.end()


def _checked(parameters: Mapping[str, str]) -> dict[str, str]:
    checked = {name: value for name, value in parameters.items() if value}
    if any(_UNFIT.search(value) for value in checked.values()):
        raise ConnectionStringError("a connection string cannot hold NUL, or what is no valid UTF-8")
    if not all(_SETTING.fullmatch(name) for name in checked):
        raise ConnectionStringError(f"a parameter's name cannot be read; {_EXAMPLE}")
    for name, harmless in _REFUSED.items():
        if checked.pop(name, None) not in {None, *harmless}:
            raise ConnectionStringError(f"{name} is not supported; leave it out")
    if checked.get("sslmode", "prefer") not in _SSL_MODES:
        raise ConnectionStringError(f"sslmode must be one of {', '.join(sorted(_SSL_MODES))}")
    if "host" not in checked and "service" not in checked:
        checked["host"] = "localhost"
    _check_hosts(checked.get("host", ""), checked.get("port", ""))
    return checked


def _check_hosts(host: str, port: str) -> None:
    hosts = host.split(",") if host else []
    ports = port.split(",") if port else []
    if not all(_is_host(name) for name in hosts):
        raise ConnectionStringError(f"the host cannot be read; {_EXAMPLE}")
    for number in ports:
        if not re.fullmatch(r"[0-9]{1,5}", number) or not 0 < int(number) < 2**16:
            raise ConnectionStringError("a port is a number from 1 to 65535")
    if len(ports) > 1 and len(ports) != len(hosts):
        raise ConnectionStringError("there must be one port, or as many as there are hosts")


def _is_host(name: str) -> bool:
    if _is_ipv6(name):
        try:
            return bool(ip_address(name))
        except ValueError:
            return False
    return re.fullmatch(r"/[^\x00-\x1f]*|[^\s/@?#\[\]\x00-\x1f]+", name) is not None


def _is_ipv6(name: str) -> bool:
    return ":" in name and not name.startswith("/")


def _kept(parameters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    hosts = parameters.get("host", "").split(",")
    over_socket = all(host.startswith("/") for host in hosts)
    for name, value in sorted(parameters.items()):
        if name in _DROPPED or name in {"host", "port", "user", "password", "dbname"}:
            continue
        # There is no TLS on a Unix socket; asyncpg would read the certificates all the same, or miss them.
        if over_socket and name.startswith("ssl"):
            continue
        yield name, value


def _build(parameters: Mapping[str, str], others: Iterable[tuple[str, str]]) -> str:
    user, password = (_quoted(parameters.get(name, "")) for name in ("user", "password"))
    credentials = f"{user}:{password}@" if password else f"{user}@" if user else ""
    database = _quoted(parameters.get("dbname", ""))
    # A lone / would be a database without a name, to asyncpg.
    database = f"/{database}" if database else ""
    host, port = (parameters.get(name, "") for name in ("host", "port"))
    hosts = [f"[{name}]" if _is_ipv6(name) else name for name in host.split(",")]
    query = list(others)
    if len(hosts) == 1 and not host.startswith("/"):
        place = quote(hosts[0], safe="[:]") + (f":{port}" if port else "")
    else:
        place = ""
        query = [("host", ",".join(hosts)), ("port", port), *query]
    asked = "&".join(f"{name}={_quoted(value)}" for name, value in query if value)
    return f"postgresql://{credentials}{place}{database}" + (f"?{asked}" if asked else "")


def _quoted(text: str) -> str:
    return quote(text, safe="")
