"""The condition under which an encrypted room may show a media row: its references cannot be read.

A copy of references holds the users of encrypted rooms. Each statement that reads rows derives from them the rows
that such a room may show, so that the copy needs no entry for each row.
"""

from __future__ import annotations

from retentiond.targets.dendrite_media.references.sources import ENCRYPTED_SQL as SQL


def shown(relation: str, *, row: str, copy: str, names: str) -> str:
    """Return a subquery with the pseudo-source of a row, for use in another statement; empty if no room may show it.

    `relation` is the copy, `row` the alias of the row, `copy` and `names` the parameters with the copy's number and
    the names of this server.
    """
    text = SQL["shown"].replace("{reference}", relation)
    return text.replace("{row}", row).replace("{copy}", copy).replace("{names}", names)
