"""The context of a target while it is open, and the session of each piece of work on its store."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from retentiond.ledger.claims import ClaimOwner, claimant
from retentiond.targets.dendrite_media.database.rights import ensure_tables, has_media
from retentiond.targets.dendrite_media.database.rows import KIND, SCHEMA
from retentiond.targets.dendrite_media.disk.tree import MediaTree, NoMediaDirectoryError
from retentiond.targets.dendrite_media.store.mark import Fit, compare, read_mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime, timedelta

    from retentiond.adapters.disk import DiskWorkers
    from retentiond.adapters.postgres import Conn, Db
    from retentiond.config.media import MediaTarget
    from retentiond.config.resolve import MediaSettings
    from retentiond.engine.target import Progress, Stop
    from retentiond.ledger.ledger import Ledger, StoreState
    from retentiond.model.errors import UnreachableError
    from retentiond.model.report import Item
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.references.of_holds import HoldReferences


@dataclass(frozen=True, slots=True)
class TargetContext:
    """The target's settings, connections and caches, for as long as the target is open.

    `logged_refusals` are the limits that refuse the purge since it was last possible, and were logged.
    """

    name: str
    config: MediaTarget
    settings: MediaSettings
    pool: Db
    disk: DiskWorkers
    ledger: Ledger
    references: References
    hold_references: HoldReferences
    logged_refusals: set[str] = field(default_factory=set)

    def keeping(self, keep: timedelta) -> TargetContext:
        """Return this context with all policies set to another age."""
        return replace(self, settings=replace(self.settings, rules=self.settings.rules.keeping(keep)))

    async def make_ledger(self) -> None:
        """Make the ledger if it is missing, and migrate it to this version."""
        async with self.pool.acquire() as connection:
            await self.ledger.make(connection, SCHEMA)

    @property
    def batch(self) -> int:
        """The number of rows or entries of a batch."""
        return self.config.pace.batch


@dataclass(frozen=True, slots=True)
class StoreSession:
    """One piece of work: the directory through its descriptor, a claim owner, and how disk and ledger fit."""

    context: TargetContext
    tree: MediaTree
    claimant: ClaimOwner
    state: StoreState
    fit: Fit


@dataclass(frozen=True, slots=True)
class PlanContext:
    """One plan, which a dry run counts and a pass carries out: the store, the connection for its surveys, and the time of the plan.

    A `dry` one changes nothing, and tells `listen` each item; there may be no `ledger` yet. `first`: no pass has been.
    """

    target: TargetContext
    tree: MediaTree
    connection: Conn
    now: datetime
    progress: Progress
    stop: Stop
    dry: bool
    ledger: bool
    first: bool
    listen: Callable[[Item], None] | None = None


@asynccontextmanager
async def open_store(context: TargetContext) -> AsyncIterator[StoreSession]:
    """Open the media directory, compare it with the ledger, and become a claim owner.

    Raise UnreachableError for a directory that cannot be opened, RefusedError for one of another store.
    """
    with await context.disk.call(lambda: MediaTree(context.settings.media_path)) as tree:
        state = await context.ledger.store(context.pool, context.name, KIND)
        fit = compare(await context.disk.call(lambda: read_mark(tree, context.name)), state, context.name)
        async with claimant(context.settings.database) as claiming:
            yield StoreSession(context, tree, claiming, state, fit)


async def no_media_yet(context: TargetContext, connection: Conn | Db, error: UnreachableError) -> str | None:
    """Return a sentence about a store without media whose directory does not exist yet; None for any other error.

    If the database has media, or the ledger has had a pass, the directory existed, and its absence is an error.
    """
    if not isinstance(error, NoMediaDirectoryError):
        return None
    await ensure_tables(connection)
    if await has_media(connection):
        return None
    if (
        await context.ledger.exists(connection)
        and (await context.ledger.store(connection, context.name, KIND)).last_pass
    ):
        return None
    return (
        f"there is nothing to do yet: the database has no media, and dendrite makes {context.settings.media_path} at its "
        "first upload"
    )


async def open_media(context: TargetContext, connection: Conn | Db) -> MediaTree | str:
    """Open the media directory, or return a sentence about a store that has no media yet. Raise UnreachableError."""
    try:
        return await context.disk.call(lambda: MediaTree(context.settings.media_path))
    except NoMediaDirectoryError as error:
        sentence = await no_media_yet(context, connection, error)
        if sentence is None:
            raise
        return sentence
