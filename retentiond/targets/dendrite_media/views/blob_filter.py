"""A filter by which the server's workers leave out rows without a due blob, before the others are joined.

Workers cannot read temporary tables, and a hash join of every row with the due blobs takes longer than to read them. The
filter is a bitmap of hashes, a parameter of constant size: it lets too many rows through, never too few.
"""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn

SQL: Final = named_queries(__package__, "blob_filter.sql")
_BITS: Final = 1 << 23
_MOST: Final = 500_000
"""With more blobs the bitmap would leave out too few rows to be worth its time."""


class BlobFilter(NamedTuple):
    """A condition on rows `m` of the media table, and the arguments of its parameter."""

    condition: str
    arguments: tuple[bytes, ...]


async def due_blobs_filter(connection: Conn, parameter: int) -> BlobFilter:
    """Return the filter of this connection's due blobs; its parameter has that number."""
    (found,) = await connection.fetch(SQL["due_bits"], _BITS - 1, _MOST + 1)
    bits = array("i", found["bits"] or b"")
    if len(bits) > _MOST:
        return BlobFilter("true", ())
    if sys.byteorder == "little":
        bits.byteswap()
    bitmap = bytearray(_BITS // 8)
    for bit in bits:
        bitmap[bit >> 3] |= 1 << (bit & 7)
    condition = SQL["in_bitmap"].replace("{bitmap}", f"${parameter}::bytea").replace("{mask}", str(_BITS - 1))
    return BlobFilter(condition, (bytes(bitmap),))
