"""dendrite's own configuration file: its databases, its media directory and its server name.

The file is dendrite's: only the needed keys are read, and duplicates, merges and other keys are its affair.
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydantic import SecretStr

from retentiond.config.connection import ConfiguredText, ConnectionStringError, SqliteError, to_url
from retentiond.config.document import Document, read_document
from retentiond.config.problems import ConfigError, KeyPath
from retentiond.config.values import check_server_name

Component = Literal["sync_api", "user_api", "room_server", "federation_api"]
"""A part of dendrite that may have a database of its own, beside the media."""
Part = Literal[
    "database", "media_path", "server_name", "sync_api", "user_api", "room_server", "federation_api"
]
"""The values of the file; values that the target sets itself need not be in it."""

COMPONENTS: Final[tuple[Component, ...]] = ("sync_api", "user_api", "room_server")
"""The parts whose tables show which media are in use."""

# Few policies ask it, and those that do find out whether its tables are there.
_OPTIONAL: Final[frozenset[Component]] = frozenset({"room_server", "federation_api"})
_CONNECTION: Final = "connection_string"
_MEDIA_PATH: Final[KeyPath] = ("media_api", "base_path")
_GLOBAL: Final[KeyPath] = ("global", "database", _CONNECTION)
_OWN: Final[Mapping[str, KeyPath]] = {
    "media_api": ("media_api", "database", _CONNECTION),
    "sync_api": ("sync_api", "database", _CONNECTION),
    "user_api": ("user_api", "account_database", _CONNECTION),
    "room_server": ("room_server", "database", _CONNECTION),
    "federation_api": ("federation_api", "database", _CONNECTION),
}
# The short form counts only if it is the whole value: a password may contain a dollar sign.
_VARIABLE: Final = re.compile(
    r"(?P<name>\$\{[A-Za-z_][A-Za-z0-9_]*\}|(?<![^:/@=?&' ])\$[A-Z_][A-Z0-9_]*(?![^:/@?&' ]))", re.ASCII
)
_MISSING: Final = "correct `dendrite_config`, or set `database`, `media_path` and `server_name` in the target"


@dataclass(frozen=True, slots=True)
class DendriteConfig:
    """The values of dendrite's file; a part that the target sets itself is None, or missing.

    The databases are connection strings as dendrite has them.
    """

    database: SecretStr | None
    databases: Mapping[Component, SecretStr]
    media_path: Path | None
    server_names: tuple[str, ...]


def read_dendrite_config(path: Path, *, known: AbstractSet[Part] = frozenset()) -> DendriteConfig:
    """Read dendrite's file; parts that are `known` need not be there, and are not judged.

    With `database` known, `databases` has those that the file names besides the media's own. Raise ConfigError
    with all that is missing or cannot be used.
    """
    document = read_document(path, when_missing=_MISSING, foreign=True)
    if not isinstance(document.value, dict):
        raise ConfigError([document.problem((), "is not a configuration of dendrite", _MISSING)])
    reading = _Reading(document)
    database = None if "database" in known else reading.database("media_api")
    databases = {
        component: found
        for component in (*COMPONENTS, *_OPTIONAL - {*COMPONENTS})
        if component not in known
        and (found := reading.component(component, may_miss="database" in known or component in _OPTIONAL))
        is not None
    }
    media_path = None if "media_path" in known else reading.media_path()
    server_names = () if "server_name" in known else reading.server_names()
    if document.problems:
        raise ConfigError(document.problems)
    return DendriteConfig(database, databases, media_path, server_names)


def media_directory(path: Path) -> Path | None:
    """Return the media directory as dendrite's file has it, relative perhaps; None if the file does not say it."""
    text = _Reading(read_document(path, when_missing=_MISSING, foreign=True)).media_text()
    return None if text is None or "\0" in text or _VARIABLE.search(text) else Path(text)


class _Reading:
    """Reads values from the document, and notes their problems there."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def database(self, component: str) -> SecretStr | None:
        """Return a component's connection string, its own or the global one, once it is known to be usable."""
        path = self._connection_path(component)
        text = self._text(path)
        setting = "database" if component == "media_api" else f"databases: {{{component}: ...}}"
        if text is None:
            self._problem(path, "is missing", f"correct dendrite's file, or set `{setting}` in the target")
            return None
        if self._is_placeholder(path, text, "database" if path == _GLOBAL else setting):
            return None
        try:
            to_url(text)
        except SqliteError:
            message = "this dendrite works on SQLite, and retentiond on PostgreSQL only"
            self._problem(path, message, f"move dendrite to PostgreSQL, and set `{setting}` to it if need be")
        except ConnectionStringError as error:
            message, _, hint = str(error).partition("; ")
            self._problem(path, message, f"{hint or 'correct it'}, or set `{setting}` in the target")
        return SecretStr(ConfiguredText(text, self._document.line_of(path)))

    def component(self, component: Component, *, may_miss: bool) -> SecretStr | None:
        """Return where a component's tables are; None for the media's database, where it may be that."""
        if not may_miss:
            return self.database(component)
        text = self._text(self._connection_path(component))
        media = self._text(self._connection_path("media_api"))
        # Whoever names another media database has left these SQLite files behind.
        if text is None or text == media or text.startswith("file:"):
            return None
        return self.database(component)

    def media_text(self) -> str | None:
        """Return the directory of the media as it is written."""
        return self._text(_MEDIA_PATH)

    def media_path(self) -> Path | None:
        """Return the directory of the media, which must be absolute."""
        where = _MEDIA_PATH
        text = self.media_text()
        hint = "set `media_path` in the target to the absolute path"
        if text is None:
            self._problem(where, "is missing", hint)
            return None
        if self._is_placeholder(where, text, "media_path"):
            return None
        path = Path(text)
        if "\0" in text or not path.is_absolute() or ".." in path.parts:
            message = "is relative to dendrite's working directory, which is unknown here"
            self._problem(where, message, hint)
        return path

    def server_names(self) -> tuple[str, ...]:
        """Return the server's name, and those of its virtual hosts."""
        hosts = self._value(("global", "virtual_hosts"))
        paths: list[KeyPath] = [("global", "server_name")]
        if isinstance(hosts, list):
            paths += [("global", "virtual_hosts", place, "server_name") for place in range(len(hosts))]
        return tuple(name for path in paths if (name := self._server_name(path)) is not None)

    def _server_name(self, path: KeyPath) -> str | None:
        text = self._text(path)
        hint = "correct dendrite's file, or set `server_name` in the target"
        if text is None:
            self._problem(path, "is missing", hint)
            return None
        if self._is_placeholder(path, text, "server_name"):
            return None
        try:
            return check_server_name(text)
        except ValueError:
            self._problem(path, "is not a server's name", hint)
            return None

    def _is_placeholder(self, path: KeyPath, text: str, setting: str) -> bool:
        """Note a variable that dendrite would read as it stands, and so would we; return whether there is one."""
        found = _VARIABLE.search(text)
        if found is None:
            return False
        self._problem(
            path,
            f"holds {found['name']}, which is not replaced: dendrite reads no variables",
            f"name the file that dendrite is started with, or set `{setting}` in the target",
        )
        return True

    def _connection_path(self, component: str) -> KeyPath:
        own = _OWN[component]
        return own if self._text(own) is not None or self._text(_GLOBAL) is None else _GLOBAL

    def _text(self, path: KeyPath) -> str | None:
        value = self._value(path)
        return value if isinstance(value, str) and value else None

    def _value(self, path: KeyPath) -> object:
        value = self._document.value
        for step in path:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int):
                value = value[step]
            else:
                return None
        return value

    def _problem(self, path: KeyPath, message: str, hint: str) -> None:
        problem = self._document.problem(path, message, hint)
        if problem not in self._document.problems:
            self._document.problems.append(problem)
