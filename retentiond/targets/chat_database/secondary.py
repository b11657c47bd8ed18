"""The part of a purge in the secondary stores: they are checked before the database is purged, and purged after it.

The database is purged first, since a store loses only chats that the database does not have. An unreachable store does
not stop the purge of the database; it can be purged later. Errors of the installation, the configuration or the rights
are found by the check, before anything is deleted.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.logging import get_logger
from retentiond.engine.target import StoppedError
from retentiond.ledger.records import Record, add_record
from retentiond.model.errors import (
    MissingRightError,
    RefusedError,
    RetentiondError,
    UnreachableError,
    UsageError,
)
from retentiond.model.floor import in_zone
from retentiond.model.purge import StoreReport, shards_as_json
from retentiond.model.text import printable
from retentiond.targets.chat_database import refusals
from retentiond.targets.chat_database.database_chats import DatabaseChats
from retentiond.targets.chat_database.store import ErasedVisitor
from retentiond.targets.chat_database.store_access import GRACE
from retentiond.targets.chat_database.store_notes import Notes
from retentiond.targets.chat_database.store_request import HoldWatch, ShardStates, StorePurgeRequest
from retentiond.targets.chat_database.stores import STORES, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PassOptions, PurgeRequest
    from retentiond.ledger.lease import Lease
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.context import ChatContext
    from retentiond.targets.chat_database.store import ChatStore, StoreName


_NOT_BEGUN: Final = StoreReport("interrupted", error="not started; run it again to purge this store")


class SecondaryStores:
    """The work of one pass in the stores; without a lease it is a dry run, which only counts."""

    def __init__(
        self, context: ChatContext, connection: Conn, options: PassOptions, lease: Lease | None = None
    ) -> None:
        self._context = context
        self._connection = connection
        self._options = options
        self._lease = lease
        self.errors: dict[StoreName, RetentiondError] = {}
        """The UsageError or RefusedError of each store that failed its check."""

    async def check_stores(self, requests: Sequence[PurgeRequest]) -> None:
        """Check each requested store without changes; log its problems, and keep refusals and usage errors in `errors`."""
        for name in STORES:
            if any(name in request.stores for request in requests):
                error = await self._look(name)
                if error is not None:
                    get_logger(target=self._context.name).warning(
                        "store_not_ready", store=name, error=str(error)
                    )
                if isinstance(error, RefusedError | UsageError):
                    self.errors[name] = error

    async def _look(self, name: StoreName) -> RetentiondError | None:
        try:
            problems = await self._options.stop.unless_asked(self._check(name))
        except StoppedError:
            # The purge of the database sees the stop next, and begins nothing.
            return None
        except MissingRightError as error:
            # The right would still be missing after the purge of the database.
            return RefusedError(refusals.lacks_rights(name, error))
        except RetentiondError as error:
            return error
        return RefusedError(refusals.not_ready(name, problems)) if problems else None

    async def _check(self, name: StoreName) -> list[str]:
        async with open_store(name, self._context.config) as store:
            return await store.check()

    async def purge(self, purge: AccountPurge, pass_id: int | None) -> None:
        """Purge, or count in, each requested store; an error in one store does not stop the others."""
        requested = [name for name in STORES if name in purge.request.stores]
        if not requested:
            return
        chats = DatabaseChats(self._connection, purge)
        for name in requested:
            begun = purge.report.state != "interrupted" and not self._options.stop.asked
            if begun:
                await chats.learn_holds()
            if pass_id is None or self._lease is None:
                store = await self._work(name, purge, chats, None, None) if begun else _NOT_BEGUN
            else:
                store = await self._purge_and_record(name, purge, chats, pass_id, self._lease, begun=begun)
            purge.report.stores[name] = store

    async def _purge_and_record(
        self,
        name: StoreName,
        purge: AccountPurge,
        chats: DatabaseChats,
        pass_id: int,
        lease: Lease,
        *,
        begun: bool,
    ) -> StoreReport:
        context, account = self._context, purge.request.account
        erasure_id = purge.erasure_request.erasure_id if purge.erasure_request is not None else None
        notes = Notes(context.pool, lease, context.name, purge.names, name, erasure_id)
        store, continued = _NOT_BEGUN, False
        if begun:
            continued = await notes.start()
            store = await self._work(name, purge, chats, notes, pass_id)
        async with context.pool.acquire() as connection, connection.transaction():
            await lease.check(connection)
            await notes.end(connection, store, purge.cutoff)
            if begun and (store.state != "refused" or store.rows):
                body = _body(name, purge, store, continued=continued)
                await add_record(connection, Record("store_purged", context.name, pass_id, body))
                await notes.settle(connection, store)
        self._log_outcome(account, name, store)
        return store

    async def _work(
        self,
        name: StoreName,
        purge: AccountPurge,
        chats: DatabaseChats,
        notes: Notes | None,
        pass_id: int | None,
    ) -> StoreReport:
        stop = self._options.stop
        cutoff = in_zone(purge.store_cutoff, self._context.config.zone)
        account = purge.request.account
        states = ShardStates(
            self._context.name, account, name, self._options.progress, notes.write_shards if notes else None
        )
        request = StorePurgeRequest(pass_id, account, cutoff, chats, notes, stop, states, _erased(purge))
        try:
            if notes is not None:
                await stop.unless_asked(self._halt_earlier(name, notes), GRACE)
            error = await self._kept_from(name, purge, chats)
            if error is not None:
                return _report(error)
            async with AsyncExitStack() as opened:
                opening = opened.enter_async_context(open_store(name, self._context.config))
                report = await self._watched(name, await stop.unless_asked(opening), request)
        except StoppedError:
            return _NOT_BEGUN
        except RetentiondError as error:
            return _report(error)
        return replace(report, waiting=(*report.waiting, *self._under_other_names(purge)))

    async def _halt_earlier(self, name: StoreName, notes: Notes) -> None:
        """End the running step of an earlier purge if a hold was added since: no process watched it."""
        sent = await notes.read()
        if sent and await notes.held_since() is not None:
            async with open_store(name, self._context.config) as store:
                await store.halt(sent)

    async def _watched(self, name: StoreName, store: ChatStore, request: StorePurgeRequest) -> StoreReport:
        """Purge; a hold that is added meanwhile ends the running step."""
        if request.dry_run:
            return await store.purge(request, self._options.progress)
        opening = partial(open_store, name, self._context.config)
        async with HoldWatch(request.notes, request.chats.newest_hold, opening) as watch:
            report = await store.purge(request, self._options.progress)
        if watch.late is None or report.state == "finished":
            return report
        return replace(report, state="refused", refused=refusals.late(watch.late))

    def _under_other_names(self, purge: AccountPurge) -> Iterator[str]:
        """Report rows that the store may have under former names of the account."""
        for former in purge.names[1:]:
            if former not in self._context.config.accounts:
                yield (
                    f"rows under {printable(former)}, a former name of the account, are kept in the store: give the "
                    "account that name again to purge them"
                )

    async def _kept_from(
        self, name: StoreName, purge: AccountPurge, chats: DatabaseChats
    ) -> RetentiondError | None:
        """Return the reason why a store is not purged."""
        refusal = await refusals.held(self._context, name, purge)
        if refusal is None and purge.erasure_request is not None:
            refusal = refusals.without_visitor(self._context.config, name)
        elif refusal is None and not refusals.names_chats(self._context.config, name):
            refusal = refusals.without_ids(self._context.config, name, await chats.count_staying())
        return RefusedError(refusal) if refusal is not None else self.errors.get(name)

    def _log_outcome(self, account: str, name: StoreName, store: StoreReport) -> None:
        """Log a refusal or a failure, so that a stalled purge is noticed."""
        log = get_logger(target=self._context.name, account=account, store=name)
        if store.refused is not None:
            log.warning("pass_refused", **asdict(store.refused))
        elif store.error is not None and not self._options.stop.asked:
            log.error("item_failed", reason=store.state, error=store.error)


def _erased(purge: AccountPurge) -> ErasedVisitor | None:
    if purge.request.erasure is None:
        return None
    if purge.erasure_request is None:
        raise AssertionError("a store was about to lose rows of all visitors in the place of one")
    return ErasedVisitor(purge.request.erasure.visitor, purge.erasure_request.chats, purge.cutoff)


def _report(error: RetentiondError) -> StoreReport:
    """Return the report of a store that an error ended."""
    if isinstance(error, RefusedError):
        return StoreReport("refused", refused=error.refusal)
    unreachable = isinstance(error, UnreachableError)
    return StoreReport("interrupted" if unreachable else "finished_with_failures", error=str(error))


def _body(name: StoreName, purge: AccountPurge, store: StoreReport, *, continued: bool) -> dict[str, Any]:
    """Return the record of a store's purge; `rows` were counted as deleted, and with `at_least` there may be more."""
    return {
        "account": purge.request.account,
        **({"erasure_id": purge.erasure_request.erasure_id} if purge.erasure_request is not None else {}),
        "store": name,
        "to_date": purge.request.to_date.isoformat(),
        "cutoff": purge.cutoff.isoformat(),
        "state": store.state,
        "rows": store.rows,
        "at_least": store.at_least,
        "kept": dict(store.kept),
        "waiting": list(store.waiting),
        # An earlier purge began it; `rows` includes what that one deleted and did not record.
        "continued": continued,
        "error": store.error,
        "refused": store.refused.hint if store.refused is not None else None,
        **shards_as_json(store.shards),
    }
