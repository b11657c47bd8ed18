"""From a file to a configuration, or to everything that is wrong with it."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from retentiond.config.connection import ConfiguredText
from retentiond.config.document import Document, read_document
from retentiond.config.problems import ConfigError, KeyPath
from retentiond.config.references import ReferenceProblemError, resolve_reference
from retentiond.config.schema import KINDS, Config
from retentiond.config.wording import describe

_MISSING = "write one with `retentiond example-config > FILE`, or name another with --config"
_KEY_MARK = "[key]"
_MAY_BE_NONE = frozenset({("clickhouse", "cluster")})


def load_config(path: Path, environment: Mapping[str, str]) -> Config:
    """Read, fill in and check a configuration file; raise ConfigError with all its problems, in their order."""
    return load_with_places(path, environment)[0]


def load_with_places(path: Path, environment: Mapping[str, str]) -> tuple[Config, Document]:
    """Load a configuration, and return the document as well, which has the place of each key for warnings."""
    document = read_document(path, when_missing=_MISSING, may_be_none=_MAY_BE_NONE)
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
    """Return the value with its references followed; one that leads nowhere stays, and is a problem."""
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
    """Return the path without the kind, through which the schema goes into a target."""
    return (*path[:2], *path[3:]) if path[:1] == ("targets",) and path[2:3] and path[2] in KINDS else path


def _is_spoiled(document: Document, path: KeyPath) -> bool:
    return any(path[:length] in document.spoiled for length in range(len(path) + 1))
