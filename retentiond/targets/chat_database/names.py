"""Names of schemas, tables and columns, as SQL takes them. A layout may hold any; none may become anything but a name."""

from __future__ import annotations

import re
from typing import Final

from retentiond.model.errors import UsageError
from retentiond.model.text import printable

_PLAIN: Final = re.compile(r"[A-Za-z0-9_]+", re.ASCII)
_LONGEST: Final = 63  # bytes; PostgreSQL cuts what is longer, and means another table


def quoted(name: str) -> str:
    """Return the name as a quoted identifier, in which nothing but letters, digits and escapes stands.

    So it can be put into a template whose other places are filled afterwards: a name that looks like such a place, or
    like a parameter, is none. Raise UsageError for what PostgreSQL would cut.
    """
    if not name or "\0" in name or len(name.encode(errors="surrogatepass")) > _LONGEST:
        raise UsageError(
            f"`{printable(name)}` is no name that PostgreSQL keeps whole; write one of 1 to {_LONGEST} bytes"
        )
    if _PLAIN.fullmatch(name):
        return f'"{name}"'
    return 'U&"' + "".join(char if _PLAIN.fullmatch(char) else _escape(char) for char in name) + '"'


def literal(text: str) -> str:
    """Return a text as a constant, in which nothing but letters, digits and escapes stands, as in `quoted`."""
    if "\0" in text:
        raise UsageError(
            f"`{printable(text)}` has a zero character, which no text in PostgreSQL has; correct it"
        )
    return "U&'" + "".join(char if _PLAIN.fullmatch(char) else _escape(char) for char in text) + "'"


def relation(schema: str, table: str) -> str:
    """Return a table with its schema, so that no search_path has a say."""
    return f"{quoted(schema)}.{quoted(table)}"


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\{code:04X}" if code <= 0xFFFF else f"\\+{code:06X}"  # noqa: PLR2004 - the largest of four digits
