"""The checks that need no survey and refuse a pass over a suspicious store, each with the things to look at.

For a read-only command all of them are made, and whether database and directory belong together; nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.clocks import ClockLook, check_clocks, look_at_clock
from retentiond.ledger.host import read_clock
from retentiond.ledger.ledger import NO_STORE, StoreState, refuse_standby
from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.text import printable
from retentiond.targets.dendrite_media.database.rights import ensure_tables, ensure_temporary, has_media
from retentiond.targets.dendrite_media.database.rows import KIND
from retentiond.targets.dendrite_media.store.mark import compare, read_mark, refuse_ahead

if TYPE_CHECKING:
    from collections.abc import Collection

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext

SQL: Final = named_queries(__package__, "safety.sql")
_COLUMNS: Final = {
    "mediaapi_media_repository": {
        "media_id": "text",
        "media_origin": "text",
        "content_type": "text",
        "file_size_bytes": "bigint",
        "creation_ts": "bigint",
        "upload_name": "text",
        "base64hash": "text",
        "user_id": "text",
    },
    "mediaapi_thumbnail": {
        "media_id": "text",
        "media_origin": "text",
        "content_type": "text",
        "file_size_bytes": "bigint",
        "creation_ts": "bigint",
        "width": "integer",
        "height": "integer",
        "resize_method": "text",
    },
}


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """The state of the store: whether a ledger exists, and whether no pass has been."""

    ledger: bool
    first: bool


async def check_belonging(context: TargetContext, connection: Conn, tree: MediaTree) -> StoreCheck:
    """Make the checks of a pass that need no lock; raise RefusedError if one fails."""
    await refuse_standby(connection)
    await check_tables(connection)
    await check_directory(context, connection, tree)
    ledger = await context.ledger.exists(connection)
    if ledger:
        await context.ledger.check_version(connection)
    state = await context.ledger.store(connection, context.name, KIND) if ledger else None
    mark = await context.disk.call(lambda: read_mark(tree, context.name))
    if compare(mark, state, context.name) == "ahead":
        raise refuse_ahead(context.name)
    if state is not None:
        check_clocks(state, await look_at_clock(connection, context.name))
        return StoreCheck(ledger, state.first)
    # Without a ledger only the server's clock can be compared with ours.
    now = await connection.fetchval("SELECT clock_timestamp()")
    check_clocks(StoreState(NO_STORE, 0, None, now), ClockLook(context.name, read_clock()))
    return StoreCheck(ledger, True)


async def check_tables(connection: Conn) -> None:
    """Refuse dendrite's tables if a row could not be restored as it was, with all that is deleted with it."""
    await ensure_tables(connection)
    await ensure_temporary(connection)
    _check_columns(await connection.fetch(SQL["media_columns"]))
    found = await connection.fetch(SQL["keys_that_take_rows"])
    if found:
        raise RefusedError(
            Refusal(
                "rows_taken_along",
                printable(", ".join(f"{row['key']} of {row['relation']}" for row in found)),
                "no foreign key that deletes or changes rows of other tables",
                "a deletion of media would delete or change rows of those tables, and they could not be restored: "
                "drop the keys, or change them to ON DELETE NO ACTION",
            )
        )


def _check_columns(found: list[Record]) -> None:
    """Refuse tables whose columns differ from ours: a column that we cannot copy, we could not restore."""
    for relation, columns in _COLUMNS.items():
        there = {row["column"]: row["type"] for row in found if row["relation"] == relation}
        if there != columns:
            odd = sorted({name for name, _ in set(there.items()) ^ set(columns.items())})
            raise RefusedError(
                Refusal(
                    "unknown_columns",
                    f"{relation}: {', '.join(odd)}",
                    "the columns of dendrite 0.15",
                    "this version of dendrite has an unknown media schema; use a newer retentiond",
                )
            )


async def check_directory(context: TargetContext, db: Conn | Db, tree: MediaTree) -> None:
    """Refuse a directory that is empty beside rows, folds case, or is not one file system with its quarantine."""
    has_rows = await has_media(db)
    await context.disk.call(lambda: _check_directory(tree, has_rows=has_rows))


def _check_directory(tree: MediaTree, *, has_rows: bool) -> None:
    first_level = tree.first_level()
    if has_rows and not first_level:
        raise RefusedError(
            Refusal(
                "empty_media_directory",
                "no media",
                "dendrite's directories",
                f"the database has media and {tree.path} has none: "
                "check that the disk is mounted and that `media_path` is right",
            )
        )
    if tree.folds_case([name for name, _ in first_level]):
        # There a directory has the name of the hash that came first, and its files look like another blob's, or like
        # orphans.
        raise RefusedError(
            Refusal(
                "folded_names",
                f"{tree.path} does not distinguish upper and lower case",
                "case-sensitive names",
                "hashes may differ in case alone, so files in use would look like orphans: move the media to a "
                "case-sensitive file system or directory",
            )
        )
    try:
        own = tree.own_device()
    except NotADirectoryError as error:
        raise RefusedError(
            Refusal(
                "quarantine_not_a_directory",
                str(error.strerror),
                "a directory",
                f"{tree.path}/.retentiond is not a directory; move it away",
            )
        ) from error
    elsewhere = [name for name, device in first_level if device != tree.device]
    if own is not None and own != tree.device:
        elsewhere.append(".retentiond")
    mounts = tree.mounts_below()
    if elsewhere or mounts:
        raise RefusedError(
            Refusal(
                "another_device",
                ", ".join(elsewhere or mounts),
                "one file system",
                f"{tree.path} must be one file system down to its last directory, "
                "since blobs are renamed into the quarantine; unmount what is mounted below it",
            )
        )


async def refuse_foreign_users(connection: Conn, server_names: Collection[str]) -> None:
    """Refuse rows with users of a server that is not ours; without our server's name this cannot be checked."""
    if not server_names:
        return
    # A statement whose rows are all fetched at once may be run by several of the server's processes.
    (found,) = await connection.fetch(SQL["foreign_users"], list(server_names))
    if found["rows"]:
        raise foreign_users(found["rows"], printable(found["example"]))


def foreign_users(rows: int, example: str) -> RefusedError:
    """Return the refusal of rows with users of a server that is not ours."""
    return RefusedError(
        Refusal(
            "foreign_users",
            f"{rows} rows, such as {example}",
            0,
            "local uploads in this database belong to another server name: set `server_name` to all the names "
            "of this server, and check that `database` is the right one",
        )
    )
