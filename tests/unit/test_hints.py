"""What the program advises, read from its source: never to protect less, and never a finding in an errno's place."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import retentiond

if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS: Final = (
    r"leave (it|them|this|that) out of .{0,40}(protect|access_log|messages_in)",
    r"(drop|remove|take) .{0,40}(from|out of) .{0,20}protect\b",
    r"set .{0,5}since_fallback: created",
    r"protect: \[\]",
    r"without (the|that) protection",
    r"fewer protections",
)


def _texts() -> Iterator[tuple[str, str]]:
    """Every text of the program but docstrings, with the file and the line that it is in."""
    for path in Path(retentiond.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
                yield f"{path.name}:{node.lineno}", "".join(parts)
            elif (
                isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements
            ):
                yield f"{path.name}:{node.lineno}", node.value


def test_no_hint_advises_to_protect_less() -> None:
    texts = list(_texts())
    assert any("GRANT TEMPORARY" in text for _, text in texts)
    found = [
        (place, text) for place, text in texts for words in _WORDS if re.search(words, text, re.IGNORECASE)
    ]
    assert found == []
