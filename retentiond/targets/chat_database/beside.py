"""The part of a purge beside the database: the chats that stay are set aside, and then each store is told."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.model.errors import Refusal, RetentiondError, UnreachableError
from retentiond.model.purge import StoreReport
from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.gate import SQL
from retentiond.targets.chat_database.statements import HOLDS_SQL
from retentiond.targets.chat_database.stores import STORES, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.engine.target import Order, Stop
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.store import ChatId, StoreName


_HELD: Final = Refusal(
    "hold",
    "a hold on the whole account",
    "none",
    "`retentiond hold list` shows it; release it, or purge again once it has ended",
)


_NUMBERS: Final = frozenset({"smallint", "integer", "bigint"})
_NOT_BEGUN: Final = StoreReport(
    "interrupted", error="not begun; run it again, and it goes on with this store"
)


class StayingChats:
    """The chats that began before the date and are there all the same, set aside in a table of the session's own.

    With them are those that somebody holds though they are there no more: another store may have something of them.
    """

    def __init__(self, connection: Conn, purge: AccountPurge) -> None:
        self._connection = connection
        self._purge = purge
        self._held: list[ChatId] = []
        self.count = 0

    async def set_aside(self) -> None:
        """Read them: after a purge what is left, in a dry run what the survey keeps."""
        name = "keep_planned" if self._purge.report.dry_run else "keep_left"
        for statement in ("make_kept", name):
            await statements.execute(self._connection, self._statement(statement), self._purge.chats.values)
        if await self._purge.place.ledger.exists(self._connection):
            self._held = await self._read_held()
        self.count = await self._connection.fetchval(self._statement("count_kept")) + len(self._held)

    async def _read_held(self) -> list[ChatId]:
        rows = await statements.fetch(
            self._connection, self._statement("held_elsewhere"), self._purge.chats.values
        )
        tree = self._purge.chats.tree
        if tree.key_type(tree.top) not in _NUMBERS:
            return [str(row["key"]) for row in rows]
        # What is no number is the id of no chat here.
        return [int(row["key"]) for row in rows if row["key"].isdecimal()]

    async def batches(self, size: int = 1000) -> AsyncIterator[Sequence[ChatId]]:
        """Stream their ids."""
        after = None
        values: dict[str, Any] = {"size": size}
        while rows := await statements.fetch(
            self._connection, self._statement("page_kept"), values | {"after": after}
        ):
            after = rows[-1]["key"]
            yield [row["key"] if isinstance(row["key"], int) else str(row["key"]) for row in rows]
        for start in range(0, len(self._held), size):
            yield self._held[start : start + size]

    def _statement(self, name: str) -> str:
        return self._purge.chats.tree.statement(name)


class Notes:
    """A store's place in the ledger."""

    def __init__(self, pool: Db, target: str, account: str, store: StoreName) -> None:
        self._pool = pool
        self._key = (target, account, store)

    async def read(self) -> dict[str, Any]:
        """Return what was written last."""
        notes = await self._pool.fetchval(SQL["store_notes"], *self._key)
        return dict(json.loads(notes)) if notes else {}

    async def write(self, notes: Mapping[str, Any]) -> None:
        """Write in place of what was there."""
        await self._pool.execute(SQL["write_store_notes"], *self._key, json.dumps(dict(notes)))


class NoNotes:
    """A dry run writes nothing down."""

    async def read(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    async def write(self, notes: Mapping[str, Any]) -> None:
        """Forget it."""


@dataclass(frozen=True, slots=True)
class Errand:
    """What one store is told."""

    purge_id: int | None
    account: str
    cutoff: datetime
    excluded: StayingChats
    dry_run: bool
    notes: Notes | NoNotes
    stop: Stop


async def purge_stores(connection: Conn, purge: AccountPurge, order: Order, pass_id: int | None) -> None:
    """Purge, or count in, each store that is wished for; what goes wrong with one does not keep the others from it."""
    wished = [name for name in STORES if name in purge.wish.stores]
    if not wished:
        return
    place, account = purge.place, purge.wish.account
    if pass_id is not None:
        # All of them at once: whoever dies between two of them leaves word of those that were not begun, too.
        for name in wished:
            await place.pool.execute(SQL["begin_store"], place.name, account, name, pass_id, purge.cutoff)
    # Where it is not known what stays in the database, nothing can be told to others.
    known = purge.report.state != "interrupted" and not purge.report.failed.total()
    staying = StayingChats(connection, purge)
    if known:
        await staying.set_aside()
    for name in wished:
        begun = known and not order.stop.asked
        report = await _purge_store(name, purge, staying, order, pass_id) if begun else _NOT_BEGUN
        purge.report.stores[name] = report
        if pass_id is not None:
            await place.pool.execute(SQL["note_store"], place.name, account, name, report.state)
            _tell(place.name, account, name, report, order)


def _tell(target: str, account: str, store: StoreName, report: StoreReport, order: Order) -> None:
    """Tell the log of what was refused or failed: a purge that stalls must not do so in silence."""
    log = get_logger(target=target, account=account, store=store)
    if report.refused is not None:
        log.warning("pass_refused", **asdict(report.refused))
    elif report.error is not None and not order.stop.asked:
        log.error("item_failed", reason=report.state, error=report.error)


async def _purge_store(
    name: StoreName, purge: AccountPurge, staying: StayingChats, order: Order, pass_id: int | None
) -> StoreReport:
    place, account = purge.place, purge.wish.account
    if await place.ledger.exists(place.pool) and await place.pool.fetchval(
        HOLDS_SQL["whole_account"], account
    ):
        return StoreReport("refused", refused=_HELD)
    if staying.count and not _has_ids(purge, name):
        return StoreReport("refused", refused=_no_ids(name, staying.count))
    notes = NoNotes() if pass_id is None else Notes(place.pool, place.name, account, name)
    errand = Errand(pass_id, account, purge.cutoff, staying, pass_id is None, notes, order.stop)
    if pass_id is not None:
        await place.pool.execute(SQL["note_store"], place.name, account, name, "running")
    try:
        async with open_store(name, place.config) as store:
            return await store.purge(errand, order.progress)
    except UnreachableError as error:
        return StoreReport("interrupted", error=str(error))
    except RetentiondError as error:
        return StoreReport("finished_with_failures", error=str(error))


def _has_ids(purge: AccountPurge, name: StoreName) -> bool:
    section = getattr(purge.place.config, name)
    return getattr(section, "thread_column", None) is not None or (
        getattr(section, "thread_field", None) is not None
    )


def _no_ids(name: StoreName, staying: int) -> Refusal:
    key = "thread_column" if name == "clickhouse" else "thread_field"
    return Refusal(
        "no_chat_ids",
        staying,
        0,
        f"{staying} chats that began before the date stay, and {name} cannot be told which: set `{key}` to what holds "
        "the id of a chat there",
    )
