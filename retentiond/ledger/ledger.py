"""The ledger of one database: its schema, the store's mark, the passes, and the daemons that are alive."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final
from uuid import UUID

import asyncpg

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import LOST, named_queries
from retentiond.ledger.host import actor, host_name, process_id
from retentiond.ledger.migrations import (
    VERSION,
    ledger_version,
    make_part,
    record_version,
    run_script,
    update_ledger,
)
from retentiond.ledger.records import Record, add_record
from retentiond.ledger.session import OF_EVERY_LEDGER, ledger_exists
from retentiond.model.errors import Refusal, RefusedError, UnreachableError
from retentiond.model.records import version_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime, timedelta

    from asyncpg import Record as Row

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.model.report import PassReport

SQL: Final = named_queries(__package__, "ledger.sql")
NO_STORE: Final = UUID(int=0)
"""The store of a database that has no ledger."""
_NAME_TAKEN: Final = (
    asyncpg.UniqueViolationError,
    asyncpg.DuplicateSchemaError,
    asyncpg.DuplicateTableError,
    asyncpg.DuplicateObjectError,
)
_OWN_SCHEMAS: Final = tuple(
    (__package__, f"{name}.sql") for name in ("schema", "holds_schema", "records_schema")
)


@dataclass(frozen=True, slots=True)
class StoreState:
    """The store as the ledger knows it, for one target; `now` is the database server's clock.

    `last_pass` is the last pass of this kind of target, or a later one that was accepted, and `last_pass_at` when any target had one. `first`: this
    target has had none yet.
    """

    store_id: UUID
    last_pass: int
    last_pass_at: datetime | None
    now: datetime
    first: bool = True


@dataclass(frozen=True, slots=True)
class PassHeader:
    """The rules of a pass, recorded before its first effect; `cutoffs` are the dates that result from its policies."""

    target: str
    kind: str
    command: str
    started_at: datetime
    rules: dict[str, Any]
    grace: timedelta
    settle: timedelta
    cutoffs: dict[str, str] = field(default_factory=dict)


class Ledger:
    """The ledger's statements that belong to no target; each takes the connection it shall run on."""

    table: ClassVar[str] = OF_EVERY_LEDGER
    """A table of the kind of target that works with this ledger."""

    async def exists(self, connection: Conn | Db) -> bool:
        """Return whether this kind of target has worked with a ledger in this database; another kind may have made it."""
        return await ledger_exists(connection, self.table)

    async def make(self, connection: Conn, *schemas: tuple[str, str]) -> None:
        """Create a missing ledger; `schemas` are (package, file) of the targets' own tables.

        Targets of two kinds may share a database, and each brings its tables when it first works there. Raise
        UnreachableError with the necessary GRANT if our role may not, and for a ledger of a newer version.
        """
        if not await self.exists(connection) and not await ledger_exists(connection):
            await refuse_standby(connection)
            await self._refuse_foreign_owner(connection)
            missing = await self.missing_right(connection)
            if missing is not None:
                raise UnreachableError(missing)
            # Of two that make it at once the second waits for the first, whose names it finds taken. An advisory lock
            # for it could be held by any role, for as long as it likes.
            with suppress(*_NAME_TAKEN):
                async with connection.transaction():
                    for package, file in _OWN_SCHEMAS:
                        await run_script(connection, package, file)
                    await record_version(connection)
        await self._refuse_foreign_owner(connection)
        await update_ledger(connection)
        await self.check_version(connection)
        for package, file in schemas:
            await make_part(connection, package, file)

    async def check_version(self, connection: Conn | Db) -> None:
        """Raise UnreachableError where the ledger is not of our version, or another role could run code through it."""
        await self._refuse_foreign_owner(connection)
        try:
            version = await ledger_version(connection)
        except asyncpg.InsufficientPrivilegeError as error:
            raise UnreachableError(
                "the schema retentiond belongs to another role; connect as that role, "
                "or GRANT this one ALL on the schema, its tables and its sequences"
            ) from error
        if version != VERSION:
            next_step = (
                "the next pass, or the daemon, updates it"
                if version is not None and version < VERSION
                else "run the retentiond that made it, or a newer one"
            )
            raise UnreachableError(
                f"the ledger in this database is of version {version}, and this retentiond knows {VERSION}; {next_step}"
            )

    async def _refuse_foreign_owner(self, connection: Conn | Db) -> None:
        foreign = await connection.fetchrow(SQL["foreign_owner"])
        if foreign is not None:
            raise UnreachableError(
                f"the {foreign['kind'].lower()} {foreign['name']} belongs to the role {foreign['owner']}, which could run "
                "code of its own with the rights of this role; connect as that role, or look for triggers and rules that "
                f"you did not make, then run as a superuser: ALTER {foreign['kind']} {foreign['name']} OWNER TO "
                f"{foreign['role']};"
            )

    async def missing_right(self, connection: Conn) -> str | None:
        """Name the missing right to create the ledger or to write into it, and the GRANT for it."""
        if await self.exists(connection) or await ledger_exists(connection):
            lacking = await connection.fetchrow(SQL["lacking_rights"])
            if lacking is None:
                return None
            return (
                f"the role {lacking['role']} may not use {lacking['name']} as a pass does; as its owner run: "
                f"GRANT ALL ON ALL TABLES IN SCHEMA retentiond TO {lacking['role']}; "
                f"GRANT ALL ON ALL SEQUENCES IN SCHEMA retentiond TO {lacking['role']};"
            )
        right = await connection.fetchrow(SQL["may_create_schema"])
        if right is None or right["allowed"]:
            return None
        return (
            "the role may not make the schema retentiond; as a superuser run: "
            f"GRANT CREATE ON DATABASE {right['database']} TO {right['role']};"
        )

    async def store(self, connection: Conn | Db, target: str, kind: str) -> StoreState:
        """Return the state of the store, of a target and of its kind."""
        row = await connection.fetchrow(SQL["store"], target, kind)
        if row is None:
            raise UnreachableError(
                "the ledger has lost its store; restore the schema retentiond from a backup"
            )
        return StoreState(**dict(row))

    async def begin_pass(self, connection: Conn, header: PassHeader) -> int:
        """Give a pass its number and record its rules; an earlier one that is still marked as running has died."""
        await self.interrupt_passes(connection)
        await connection.execute(SQL["clear_refusal"], header.target)
        pass_id: int = await connection.fetchval(
            SQL["begin_pass"],
            header.target,
            header.kind,
            header.command,
            host_name(),
            process_id(),
            header.started_at,
            json.dumps(header.rules),
            header.grace,
            header.settle,
        )
        body = {
            "kind": header.kind,
            "command": header.command,
            "by": actor(),
            "started_at": header.started_at.isoformat(),
            "policy_version": version_of(header.rules),
            "rules": header.rules,
            "cutoffs": header.cutoffs,
            "grace_seconds": header.grace.total_seconds(),
            "settle_seconds": header.settle.total_seconds(),
        }
        await add_record(connection, Record("pass_began", header.target, pass_id, body))
        return pass_id

    async def interrupt_passes(self, connection: Conn) -> None:
        """Close the passes that are still marked as running although we hold the lock; in a transaction."""
        for row in await connection.fetch(SQL["interrupt_passes"]):
            body = {"state": "interrupted"}
            await add_record(connection, Record("pass_ended", row["target"], row["pass_id"], body))

    async def end_pass(self, db: Db, target: str, pass_id: int, state: str, report: dict[str, Any]) -> None:
        """Close a pass with its report."""
        async with db.acquire() as connection, connection.transaction():
            await connection.execute(SQL["end_pass"], pass_id, state, json.dumps(report))
            await add_record(connection, Record("pass_ended", target, pass_id, report))

    async def count_purged(self, connection: Conn, purged: Sequence[tuple[int, int]]) -> None:
        """Add purged blobs to the totals of their passes: the pass and the bytes of each."""
        passes, sizes = [pass_id for pass_id, _ in purged], [size for _, size in purged]
        await connection.execute(SQL["count_purged"], passes, sizes)

    async def count_restored(self, connection: Conn, passes: Sequence[int]) -> None:
        """Add restored rows to the totals of their passes: the pass of each."""
        await connection.execute(SQL["count_restored"], list(passes))

    async def accept_store(self, connection: Conn, last_pass: int) -> Row:
        """Continue after the later of this pass and our last one; return the store's ID and its last pass."""
        row = await connection.fetchrow(SQL["accept_store"], last_pass)
        assert row is not None  # noqa: S101 - a ledger has a store
        return row

    async def save_refusal(self, db: Db, target: str, refusal: Refusal) -> None:
        """Remember why a pass did not begin, until one does."""
        async with db.acquire() as connection, connection.transaction():
            await connection.execute(SQL["save_refusal"], target, json.dumps(asdict(refusal)))
            await add_record(connection, Record("pass_refused", target, body=asdict(refusal)))

    async def record_end(
        self, db: Db, report: PassReport, complete: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Record the end of a pass in the log and the ledger; without the database, the next start records it.

        `complete` completes the report of a pass that began, before it is recorded.
        """
        log = get_logger(target=report.target)
        if report.refused is not None:
            log.warning("pass_refused", **asdict(report.refused))
        try:
            if report.pass_id is not None:
                if complete is not None:
                    await complete()
                await self.end_pass(db, report.target, report.pass_id, report.state, report.as_json())
            elif report.refused is not None:
                await self.save_refusal(db, report.target, report.refused)
        except LOST as error:
            log.warning("report_not_recorded", pass_id=report.pass_id, reason=str(error))
        if report.refused is None or report.pass_id is not None:
            fields = report.as_json()
            fields.pop("target")
            log.info("pass_finished", **fields, error=report.error)

    async def clear_refusal(self, db: Db, target: str) -> None:
        """Forget why a pass did not begin."""
        await db.execute(SQL["clear_refusal"], target)


async def refuse_standby(connection: Conn | Db) -> None:
    """Raise RefusedError if the server is a standby, which takes no writes."""
    if await connection.fetchval(SQL["is_standby"]):
        raise RefusedError(
            Refusal("standby", "a standby", "the primary", "point `database` at the primary server")
        )
