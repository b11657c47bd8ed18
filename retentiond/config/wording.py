"""pydantic's errors in our words, with the next step."""

from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic_core import ErrorDetails

from retentiond.config.problems import KeyPath, shown_key
from retentiond.config.schema import KINDS, Config
from retentiond.model.text import printable

_MAPPING: Final = ("must be a mapping of keys", "write key: value, indented below it")
_LIST: Final = ("must be a list", "write [one, two], or each on a line after a -")
_NUMBER: Final = ("must be a number", "write it plainly, such as 0.5")
_WHOLE: Final = ("must be a whole number", "write it plainly, such as 1000")
_WITHIN: Final = "write a number within that"
_SWITCH: Final = ("must be true or false", "write true or false")
_PLAIN: Final[Mapping[str, tuple[str, str]]] = {
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "tuple_type": _LIST,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "bool_type": _SWITCH,
    "bool_parsing": _SWITCH,
    "missing": ("is missing", "add it"),
    "string_too_short": ("must not be empty", "write something"),
    "string_too_long": ("must have at most {max_length} characters", "write it shorter"),
    "string_pattern_mismatch": ("must be 1 to 64 letters, digits, - or _", "choose another name"),
    "too_short": ("must not be empty", "write at least one"),
    "too_long": ("must have at most {max_length}", "leave the others out"),
    "greater_than": ("must be more than {gt}", _WITHIN),
    "greater_than_equal": ("must be at least {ge}", _WITHIN),
    "less_than": ("must be less than {lt}", _WITHIN),
    "less_than_equal": ("must be at most {le}", _WITHIN),
}


def describe(
    error: ErrorDetails, path: KeyPath, written: str | None, root: type[BaseModel] = Config
) -> tuple[str, str]:
    """Return the message and the hint for an error at this path; `written` are the file's own characters there.

    The path is that of the schema `root`: for a target it includes its kind.
    """
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        message, _, hint = str(context["error"]).partition("; ")
        return message, hint
    if kind == "extra_forbidden":
        return _unknown_key(path, root)
    if kind == "literal_error":
        return _choice(path, written, root)
    if kind in {"string_type", "path_type"}:
        is_secret = _annotation(path, root) is SecretStr
        return _not_text(error["input"], None if is_secret else written)
    message, hint = _PLAIN.get(kind, (error["msg"].replace("{", "{{").replace("}", "}}"), "correct it"))
    return message.format(**context), hint


def _unknown_key(path: KeyPath, root: type[BaseModel]) -> tuple[str, str]:
    key = str(path[-1])
    known = _known_keys(path[:-1], root)
    close = get_close_matches(key, known, n=1)
    message = f"unknown key `{shown_key(key)}`"
    return message, f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"


def _choice(path: KeyPath, written: str | None, root: type[BaseModel]) -> tuple[str, str]:
    written_out = {True: "true", False: "false"}
    choices = [written_out.get(choice, str(choice)) for choice in get_args(_annotation(path, root))]
    close = get_close_matches(written or "", choices, n=1)
    return (
        f"must be {' or '.join(choices)}",
        f"did you mean `{close[0]}`?" if close else f"write {choices[0]}",
    )


def _not_text(value: object, written: str | None) -> tuple[str, str]:
    if written is None:
        return "must be text", "write one value, in quotes if it is a number"
    read_as = (
        str(value).lower() if isinstance(value, bool) else "a date" if isinstance(value, date) else "a number"
    )
    shown = printable(written, 40)
    return f"YAML reads `{shown}` as {read_as}, and it must be text", f'write it in quotes: "{shown}"'


def _known_keys(path: KeyPath, root: type[BaseModel]) -> list[str]:
    section = _annotation(path, root)
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return []
    return [field.alias or name for name, field in section.model_fields.items()]


def _annotation(path: KeyPath, root: type[BaseModel]) -> Any:
    """Walk the schema along a path; return the type there."""
    here: Any = root
    for step in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = _field(here, str(step))
        elif get_origin(here) in {Union, UnionType}:
            # A target: its kind selects the section.
            here = KINDS.get(str(step), Literal[*KINDS])
        else:
            # A mapping's values, or a list's items.
            here = get_args(here)[1 if get_origin(here) is dict else 0]
        here = _bare(here)
    return here


def _field(section: type[BaseModel], key: str) -> Any:
    return next(
        field.annotation for name, field in section.model_fields.items() if (field.alias or name) == key
    )


def _bare(annotation: Any) -> Any:
    """Return a type without its constraints, and without the None of an optional key."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    optional = len(kinds) < len(get_args(annotation))
    return _bare(kinds[0]) if optional or get_origin(annotation) is Annotated else annotation
