"""The sentences in code, as they stand in the catalogue of a language: with numbers in the places of values."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OF_SQL: Final = re.compile(
    r"::|\$[a-z]|:Identifier\}|:(?:Array|String)\b|\b(?:SELECT|DELETE FROM|LEFT JOIN|ON CLUSTER|SET LOCAL|IS NULL|IS NOT|"
    r"EXISTS \(|CASE|WHEN|UNION ALL|CREATE INDEX|DROP INDEX|JOIN|NOT IN|GRANT \{|IN PARTITION|FROM system|DEFERRABLE|"
    r"PARTITION BY|VALUES)\b|^GRANT |^CREATE TEMPORARY |^ALTER DELETE |ON \*\.\*$|^SHOW \w+$|enable_\w+ = |plan_cache_mode|synchronous_commit not|row_security|^NOT \{|^IN \(|^AND "
)
_TYPES: Final = re.compile(r"double precision|character varying|timestamp with(?:out)? time zone|bold red")
_WORD: Final = re.compile(r"[A-Za-z]{2}")
_NOT_PRINTED: Final = frozenset({"AssertionError", "Field", "compile", "example", "Option", "TypeAlias"})
"""What is called with texts that nobody reads, or that the documents have: an option's help is listed by its command."""


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each sentence of a module, with its line; what has no blank is a name, and SQL is no sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(inner) for node in ast.walk(tree) for inner in _silent(node)}
    for node in ast.walk(tree):
        if id(node) not in silent and isinstance(node, ast.Constant | ast.JoinedStr):
            text = _template(node)
            if text is not None and _is_sentence(text):
                yield node.lineno, text.strip(" ")


def _template(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return _numbered(node.value) if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    number = 0
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            text += f"{{{number}}}"
            number += 1
    return text


def _numbered(text: str) -> str:
    """Return a text for `str.format` with numbers for its names; one that has no brace of its own is left as it is."""
    if "{{" not in text:
        return text
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"{{{names.index(match[1])}}}"

    return re.sub(r"(?<!\{)\{([a-z_]+)\}(?!\})", number, text).replace("{{", "{").replace("}}", "}")


def _silent(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is below a node and is no sentence by itself: docstrings, parts of one, what nobody reads."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from (part for part in node.values if isinstance(part, ast.Constant))
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and part.format_spec is not None:
                yield from ast.walk(part.format_spec)
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _NOT_PRINTED:
            yield from ast.walk(node)


def _is_sentence(text: str) -> bool:
    words = re.sub(r"\{\d\}", "", text)
    return (
        " " in text.strip()
        and bool(_WORD.search(words))
        and not _OF_SQL.search(text)
        and not _TYPES.fullmatch(text)
    )
