"""Untrusted text made safe to display: no character in it can move a cursor, hide or turn round."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

_NUMBER: Final = re.compile(r"[0-9]+")
_UNSHOWABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def instant(moment: datetime) -> str:
    """Write a moment as JSON has it, in UTC to the second."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def can_be_stored(text: str) -> bool:
    """Tell whether a database can store the text: it has no NUL, and no half of a character."""
    return not any(unicodedata.category(char) == "Cs" or char == "\0" for char in text)


def sentence(text: str, limit: int = 200) -> str:
    """Return the text of an engine or a library as a part of a sentence: printable, and on one line."""
    # A longer text is never shown.
    return printable(" ".join(text[: 10 * limit].split()), limit)


def without_numbers(text: str) -> str:
    """Return the text with each number as 0: in the errors of one episode, names of files and processes differ."""
    return _NUMBER.sub("0", text)


def printable(text: str, limit: int = 200) -> str:
    r"""Return the text with control, format, private and surrogate characters as `\u{XX}`.

    The result has at most `limit` characters (1 or more); a cut text ends in an ellipsis.
    """
    shown: list[str] = []
    length = 0
    # One character more than the limit shows whether there is a rest, which is never read.
    for char in text[: limit + 1]:
        piece = f"\\u{{{ord(char):02X}}}" if unicodedata.category(char) in _UNSHOWABLE else char
        shown.append(piece)
        length += len(piece)
    if length <= limit:
        return "".join(shown)
    while length > limit - 1:
        length -= len(shown.pop())
    return "".join(shown) + "…"
