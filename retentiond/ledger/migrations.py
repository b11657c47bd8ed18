"""The versions of the ledger: numbered files bring an older one up to date, each step in one transaction.

The ledger's own tables and those of each kind of target are updated apart, since a kind brings its tables when it first
works in a database. `migration_N.sql`, in the folder of the tables' `schema.sql`, leads from version N - 1 to N; a
package without changes of its tables has no file for N. A ledger of a newer version is refused (Ledger.check_version).
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from retentiond.adapters.postgres import Conn, Db

SQL: Final = named_queries(__package__, "migrations.sql")
VERSION: Final = 6
"""The version that `schema.sql` of each package makes. It also covers the quarantine on the disk: version 4 changed no
table, but programs of version 3 do not find entries on its shelves. Version 5 has daily samples, version 6 a note
of the clock for each target.
"""


async def ledger_version(connection: Conn | Db) -> int | None:
    """Return the version of the ledger; None where a ledger has lost it."""
    version: int | None = await connection.fetchval(SQL["ledger_version"])
    return version


async def record_version(connection: Conn) -> None:
    """Record that the ledger's own tables were made by this version."""
    await connection.execute(SQL["record_version"], VERSION)


async def update_ledger(connection: Conn) -> None:
    """Bring the ledger's own tables up to this version; one of a newer version stays as it is."""
    if (await ledger_version(connection) or VERSION) < VERSION:
        async with connection.transaction():
            await _steps(connection, __package__, await connection.fetchval(SQL["lock_version"]))
            await connection.execute(SQL["update_version"], VERSION)


async def part_version(connection: Conn, package: str) -> int | None:
    """Return the version of the tables of a kind of target in this database; None without tables."""
    version: int | None = await connection.fetchval(SQL["part_version"], package)
    return version


async def make_part(connection: Conn, package: str, file: str) -> None:
    """Make the tables of a kind of target, or bring them up to this version."""
    version = await part_version(connection, package)
    if version is None:
        async with connection.transaction():
            # A second one waits here for the first.
            if await connection.fetchval(SQL["record_part"], package, VERSION):
                await run_script(connection, package, file)
    elif version < VERSION:
        async with connection.transaction():
            await _steps(connection, package, await connection.fetchval(SQL["lock_part"], package))
            await connection.execute(SQL["update_part"], package, VERSION)


async def run_script(connection: Conn, package: str, file: str) -> None:
    """Run the statements of a file in a package, in the transaction that is open."""
    await connection.execute((resources.files(package) / file).read_text(encoding="utf-8"))


async def _steps(connection: Conn, package: str, version: int) -> None:
    for step in range(version + 1, VERSION + 1):
        file = f"migration_{step}.sql"
        if (resources.files(package) / file).is_file():
            await run_script(connection, package, file)
