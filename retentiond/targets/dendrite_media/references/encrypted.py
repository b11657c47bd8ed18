"""Add to a copy of references the media that an encrypted room may show: their references cannot be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.targets.dendrite_media.references.sources import ENCRYPTED_SQL as SQL
from retentiond.targets.dendrite_media.references.sources import MEMBERS, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.adapters.postgres import Conn


async def copy_encrypted(
    source: Conn, connection: Conn, relation: str, copy_id: int, wanted: Sequence[str], names: Sequence[str],
    *, released: bool,
) -> None:  # fmt: skip
    """Read the users of encrypted rooms from `source`, and add what they may show to the copy on `connection`.

    `names` are the names of this server; `released` adds media that were released and can come back.
    """
    await connection.execute(SQL["drop_members"])
    await connection.execute(SQL["make_members"])
    if source is connection:
        await connection.execute(SQL["take_members"].replace("{source}", MEMBERS.text), names)
    else:
        async for page in stream(source, MEMBERS.text, names):
            await connection.copy_records_to_table(
                "retentiond_member",
                schema_name="pg_temp",
                records=[tuple(row) for row in page],
                columns=("user_id", "until_ms"),
            )
    media = SQL["stored_and_released" if released else "stored"]
    adding = SQL["copy_encrypted"].replace("{reference}", relation).replace("{media}", media)
    await connection.execute(adding, copy_id, wanted, names)
