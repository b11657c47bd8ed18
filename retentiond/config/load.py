"""From a file to a configuration, or to all of its problems; references to variables and files are resolved here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from retentiond.config.connection import ConfiguredText
from retentiond.config.document import Document, read_document
from retentiond.config.files import UnreadableError, read_text
from retentiond.config.problems import ConfigError, KeyPath
from retentiond.config.schema import KINDS, Config
from retentiond.config.units import LONGEST
from retentiond.config.wording import describe
from retentiond.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9_@.:-]{1,255}", re.ASCII)
_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
_LARGEST_SECRET: Final = 64 * 1024


class ReferenceProblemError(Exception):
    """The reason why a reference cannot be resolved; the message and the hint show the reference alone."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def resolve_reference(text: str, environment: Mapping[str, str]) -> str:
    """Return the text with its references resolved; `$${` becomes `${`.

    A file's last line end is not part of its value. Raise ReferenceProblemError.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "file":
        return _read(Path(_filled(rest, environment)), "the file")
    if colon and kind == "credential":
        return _read(_credential(_filled(rest, environment), environment), "the credential")
    return _filled(text, environment)


def _filled(text: str, environment: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if name is None or not _VARIABLE_NAME.fullmatch(name):
            raise ReferenceProblemError(
                "a ${ must be followed by a variable's name and }",
                "write ${VARIABLE}, or $${ for the two characters themselves",
            )
        if name not in environment:
            raise ReferenceProblemError(
                f"the environment variable {name} is not set",
                "set it for retentiond, or write the value here",
            )
        return environment[name]

    return _VARIABLE.sub(fill, text)


def _credential(name: str, environment: Mapping[str, str]) -> Path:
    if not _CREDENTIAL_NAME.fullmatch(name) or name in {".", ".."}:
        raise ReferenceProblemError(
            "a credential's name has letters, digits and _ @ . : - only",
            "write credential:NAME, as in LoadCredential=",
        )
    directory = environment.get(_DIRECTORY)
    if not directory:
        raise ReferenceProblemError(
            f"there are no credentials here: ${_DIRECTORY} is not set",
            f"start retentiond by systemd with LoadCredential={name}:PATH, or write file:PATH",
        )
    return Path(directory, name)


def _read(path: Path, noun: str) -> str:
    if not path.is_absolute():
        raise ReferenceProblemError(f"{noun} must be named by an absolute path", "write file:/PATH")
    try:
        # Opening a pipe without a writer would block forever.
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ReferenceProblemError(f"{noun} is not a plain file", "name a plain file")
        value = read_text(path, when_missing="make it, or correct the name", largest=_LARGEST_SECRET)
    except UnreadableError as error:
        raise ReferenceProblemError(f"{noun} cannot be used: {error.message}", error.hint) from None
    except (OSError, ValueError):
        raise ReferenceProblemError(
            f"{noun} cannot be accessed", "check the path and its permissions"
        ) from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ReferenceProblemError(f"{noun} is empty", "write the value into it")
    return value


_MISSING = "make one with `retentiond init`, or name another with --config"
_KEY_MARK = "[key]"
_MAY_BE_NONE = frozenset({("clickhouse", "cluster")})


def load_config(path: Path, environment: Mapping[str, str]) -> Config:
    """Read, fill in and check a configuration file; raise ConfigError with all its problems, in their order."""
    return load_with_places(path, environment)[0]


def load_with_places(
    path: Path, environment: Mapping[str, str], text: str | None = None
) -> tuple[Config, Document]:
    """Load a configuration, and return the document as well, which has the place of each key for warnings.

    `text` is that of a file that is not written yet.
    """
    document = read_document(path, when_missing=_MISSING, may_be_none=_MAY_BE_NONE, text=text)
    if not isinstance(document.value, dict):
        document.spoil((), *_not_a_configuration(document.value))
        raise ConfigError(document.problems)
    value = _filled_in(document, (), document.value, environment)
    try:
        config = Config.model_validate(value)
    except ValidationError as error:
        config = None
        _take_over(document, error)
    if config is None or document.problems:
        raise ConfigError(
            sorted(document.problems, key=lambda problem: (problem.line or 0, problem.column or 0))
        )
    return config, document


def _not_a_configuration(value: object) -> tuple[str, str]:
    message = "is empty" if value is None else "must be a mapping of keys at the top"
    return message, "begin with `targets:`; `retentiond example-config` prints an example"


def _filled_in(document: Document, path: KeyPath, value: object, environment: Mapping[str, str]) -> object:
    """Return the value with its references resolved; an unresolved one stays, and becomes a problem."""
    if isinstance(value, dict):
        return {key: _filled_in(document, (*path, key), inner, environment) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled_in(document, (*path, place), inner, environment) for place, inner in enumerate(value)]
    if not isinstance(value, str) or _is_spoiled(document, path):
        return value
    try:
        filled = resolve_reference(value, environment)
    except ReferenceProblemError as problem:
        document.spoil(path, problem.message, problem.hint)
        return value
    return ConfiguredText(filled, document.line_of(path)) if _is_connection(path) else filled


def _is_connection(path: KeyPath) -> bool:
    return path[-1] == "database" or path[-2:-1] == ("databases",)


def _take_over(document: Document, error: ValidationError) -> None:
    for details in error.errors(include_url=False):
        inside, kind = _in_schema(details)
        of_key = inside[-1:] == (_KEY_MARK,)
        if of_key:
            inside = inside[:-1]
        path = _in_document(inside)
        if path[-1:] == (0,) and path not in document.values:
            # One value in the place of a list is its only item.
            path = path[:-1]
        unknown = kind == "extra_forbidden"
        # An unknown key is reported as that, not by a problem of its value.
        if _is_spoiled(document, path[:-1] if unknown else path):
            continue
        message, hint = describe({**details, "type": kind}, inside, document.written.get(path))
        at_key = of_key or unknown
        document.problems.append(document.problem(path, message, hint, at_key=at_key))


def _in_schema(details: ErrorDetails) -> tuple[KeyPath, str]:
    """Return where the schema has the error, and its type; a missing or an unknown kind of target is an error of that key."""
    path: KeyPath = details["loc"]
    if details["type"] == "union_tag_not_found":
        return (*path, "kind"), "missing"
    if details["type"] == "union_tag_invalid":
        return (*path, "kind"), "literal_error"
    return path, details["type"]


def _in_document(path: KeyPath) -> KeyPath:
    """Return the path without the kind, which the schema inserts below a target."""
    return (*path[:2], *path[3:]) if path[:1] == ("targets",) and path[2:3] and path[2] in KINDS else path


def _is_spoiled(document: Document, path: KeyPath) -> bool:
    return any(path[:length] in document.spoiled for length in range(len(path) + 1))


def from_dendrite_config(path: Path, days: int, *, local: bool) -> Config:
    """Make the configuration of one target, `media`, that keeps remote media so many days; with `local` local ones, too.

    All else is as it is by default. Raise UsageError for a number of days that cannot be.
    """
    if not 0 <= days <= LONGEST.days:
        raise UsageError(f"{days} days are out of range; write a number from 0 to {LONGEST.days}")
    origins = ["remote", "local"] if local else ["remote"]
    policies = [{"name": origin, "match": {"origin": origin}, "keep": f"{days}d"} for origin in origins]
    target = {"kind": "dendrite_media", "dendrite_config": path.absolute(), "policies": policies}
    try:
        return Config.model_validate({"targets": {"media": target}})
    except ValidationError:
        raise UsageError(
            "the path of dendrite's configuration cannot be used; write it without `..`"
        ) from None
