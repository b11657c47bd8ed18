"""A YAML file as plain values, each with its place, and everything that is wrong with its form.

YAML's own traps end here: duplicate keys, merges, numbers of base 60 and 8, tags, empty values, and aliases
that unfold without end.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from retentiond.config.files import UnreadableError, read_text
from retentiond.config.problems import ConfigError, KeyPath, Problem, key_text, shown_key
from retentiond.model.text import printable

DEEPEST: Final = 50
"""How many levels of nesting are read."""
MOST_VALUES: Final = 50_000
"""How many values are read, those of each alias counted where it stands."""

_TAG: Final = "tag:yaml.org,2002:"
_WHOLE_NUMBER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}", re.ASCII)


class Position(NamedTuple):
    """A line and a column, both from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Document:
    """A parsed file: its value, the position of each key and each value, and each scalar's own characters.

    `spoiled` are the values that have a problem already and need no further one.
    """

    file: str
    value: object = None
    keys: dict[KeyPath, Position] = field(default_factory=dict)
    values: dict[KeyPath, Position] = field(default_factory=dict)
    written: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoiled: set[KeyPath] = field(default_factory=set)

    def problem(self, path: KeyPath, message: str, hint: str = "", *, at_key: bool = False) -> Problem:
        """Make a problem of the value (or of its key); a value outside the file has its section's position."""
        line, column = self._place(path, at_key=at_key)
        return Problem(self.file, line, column, key_text(path), message, hint)

    def line_of(self, path: KeyPath) -> str:
        """Return where a value is written, as `file:line`."""
        return f"{self.file}:{self._place(path, at_key=False).line}"

    def _place(self, path: KeyPath, *, at_key: bool) -> Position:
        scalar = path in self.written
        place = self.values.get(path) if scalar and not at_key else self.keys.get(path)
        if place is not None or not path:
            return place or self.values.get((), Position(1, 1))
        return self.values.get(path) or self._place(path[:-1], at_key=False)

    def spoil(self, path: KeyPath, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Note a problem, and suppress further problems of this value and of the values in it."""
        self.problems.append(self.problem(path, message, hint, at_key=at_key))
        self.spoiled.add(path)


def read_document(
    path: Path,
    *,
    when_missing: str,
    foreign: bool = False,
    may_be_none: Collection[tuple[str, str]] = (),
    text: str | None = None,
) -> Document:
    """Read one YAML file; raise ConfigError if it cannot be parsed at all, else note its faults in `problems`.

    A foreign file is another program's: merge keys and duplicates are its own affair, as are odd values. `may_be_none`
    are the keys, each with the one above it, that a `null` in the file switches off. `text` is that of a file that is
    not written yet.
    """
    document = Document(printable(str(path), 300))
    try:
        root = _compose(read_text(path, when_missing=when_missing) if text is None else text)
        if root is not None:
            document.value = _Builder(document, may_be_none, foreign=foreign).build(root, (), 0)
    except UnreadableError as error:
        problem = Problem(document.file, error.line, error.column, "", error.message, error.hint)
        raise ConfigError([problem]) from None
    return document


class _Loader(yaml.SafeLoader):
    """A loader that stops at the deepest level, where PyYAML would run out of stack, and before it takes minutes."""

    depth = 0
    count = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        self.depth += 1
        self.count += 1
        if self.depth > DEEPEST or self.count > 2 * MOST_VALUES:  # keys are nodes, too
            raise yaml.composer.ComposerError(
                None, None, "too many values or levels", parent.start_mark if parent else None
            )
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _compose(text: str) -> Node | None:
    hint = "put right what YAML cannot read; values with special characters go in quotes"
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"YAML: {error.problem or error.context or 'cannot be read'}"
        if mark is None:
            raise UnreadableError(message, hint) from None
        raise UnreadableError(message, hint, mark.line + 1, mark.column + 1) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
        raise UnreadableError(
            "YAML: a character that it does not allow", "take it out", line, column
        ) from None


class _Builder:
    """Turns nodes into values; its document takes the places and the problems."""

    def __init__(
        self, document: Document, may_be_none: Collection[tuple[str, str]], *, foreign: bool
    ) -> None:
        self._document = document
        self._foreign = foreign
        self._may_be_none = may_be_none
        self._count = 0
        self._constructor = yaml.constructor.SafeConstructor()

    def build(self, node: Node, path: KeyPath, depth: int) -> object:
        place = _start(node)
        self._document.values[path] = place
        self._count += 1
        if depth > DEEPEST or self._count > MOST_VALUES:
            raise UnreadableError(
                "YAML: too many values or levels", "write it without aliases (*name), or shorter", *place
            )
        if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, depth)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            return [self.build(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        if isinstance(node, ScalarNode):
            self._document.written[path] = node.value
            return self._scalar(node, path)
        self._refuse_tag(node, path)
        return None

    def _mapping(self, node: MappingNode, path: KeyPath, depth: int) -> dict[str, object]:
        merged: dict[str, object] = {}
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            place = _start(key_node)
            if key_node.tag == f"{_TAG}merge":
                self._refuse_key(path, place, "merge keys (<<) are not supported", "write the keys out")
                merged = _merge(self.build(value_node, (*path, "<<"), depth + 1)) | merged
                continue
            if not isinstance(key_node, ScalarNode):
                self._refuse_key(path, place, "a key must be plain text", "write key: value")
                continue
            inside = (*path, key_node.value)
            if key_node.value in mapping and not self._foreign:
                self._refuse_duplicate(inside, place)
                continue
            self._document.keys[inside] = place
            mapping[key_node.value] = self.build(value_node, inside, depth + 1)
        return merged | mapping

    def _refuse_key(self, path: KeyPath, place: Position, message: str, hint: str) -> None:
        if not self._foreign:
            self._document.problems.append(
                Problem(self._document.file, *place, key_text(path), message, hint)
            )

    def _refuse_duplicate(self, path: KeyPath, place: Position) -> None:
        first = self._document.keys[path]
        message = f"duplicate key `{shown_key(str(path[-1]))}`; it is already on line {first.line}"
        self._document.problems.append(
            Problem(self._document.file, *place, key_text(path), message, "keep one of them")
        )

    def _scalar(self, node: ScalarNode, path: KeyPath) -> object:
        text = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind == "str":
            return text
        if kind == "bool" and text.lower() in self._constructor.bool_values:
            return self._constructor.bool_values[text.lower()]
        if kind in {"int", "float"}:
            return self._number(kind, text, path)
        if kind == "timestamp":
            return self._timestamp(node, path)
        if kind == "null" and text and path[-2:] in self._may_be_none:
            return None
        if kind == "null":
            # A condition that was commented out must not become no condition.
            self._spoil(path, "has no value", "give it one, or leave the key out")
        else:
            self._refuse_tag(node, path)
        return None

    def _number(self, kind: str, text: str, path: KeyPath) -> object:
        if kind == "int" and _WHOLE_NUMBER.fullmatch(text):
            return int(text)
        if kind == "float" and _DECIMAL.fullmatch(text):
            return float(text)
        self._spoil(
            path,
            "YAML has a number of its own for this (of base 60, 16 or 8, infinite, or very large)",
            "write a plain number such as 100 or 0.5, or quotes around text",
        )
        return text

    def _timestamp(self, node: ScalarNode, path: KeyPath) -> object:
        try:
            return self._constructor.construct_yaml_timestamp(node)
        except (ValueError, OverflowError, AttributeError):  # the last, where a tag says so of other text
            self._spoil(path, "there is no such day", "write a day such as 2025-01-31")
            return node.value

    def _refuse_tag(self, node: Node, path: KeyPath) -> None:
        self._spoil(path, f"the YAML tag `{printable(node.tag, 64)}` does not fit here", "leave the tag out")

    def _spoil(self, path: KeyPath, message: str, hint: str) -> None:
        if path and not self._foreign:
            self._document.spoil(path, message, hint)


def _start(node: Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _merge(value: object) -> dict[str, object]:
    """Join the mappings of a merge key, one or several; of two values the first counts."""
    joined: dict[str, object] = {}
    for mapping in reversed(value if isinstance(value, list) else [value]):
        joined |= mapping if isinstance(mapping, dict) else {}
    return joined
