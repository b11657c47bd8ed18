"""An acceptance in the ledger: the last pass that any side knows of, the clock, and the user who accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.ledger.clocks import CLOCK_REFUSALS, check_clocks, look_at_clock, save_clock
from retentiond.ledger.host import actor
from retentiond.ledger.records import Record, add_record
from retentiond.model.acceptance import Acceptance, Known
from retentiond.model.errors import RefusedError

if TYPE_CHECKING:
    from asyncpg import Record as Row

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.ledger.ledger import Ledger, StoreState


async def look_at_ledger(db: Db, state: StoreState, acceptance: Acceptance) -> None:
    """Note the ledger's knowledge, and whether the clock is an obstacle."""
    at = state.last_pass_at.isoformat(timespec="seconds") if state.last_pass_at else None
    acceptance.ledger = Known(str(state.store_id), state.last_pass, at)
    try:
        check_clocks(state, await look_at_clock(db, acceptance.target))
    except RefusedError as error:
        acceptance.refused.append(error.refusal)


def accepts_clock(acceptance: Acceptance) -> bool:
    """Return whether a refused clock is accepted: every time that is waited for begins anew."""
    return bool(CLOCK_REFUSALS & {refusal.limit for refusal in acceptance.refused})


async def save_acceptance(connection: Conn, ledger: Ledger, acceptance: Acceptance, last_pass: int) -> Row:
    """Accept a refused clock, continue after the last pass of either side, and record the user, in one transaction."""
    if accepts_clock(acceptance):
        await save_clock(connection, await look_at_clock(connection, acceptance.target))
    store = await ledger.accept_store(connection, last_pass)
    body = {
        "by": actor(),
        "refused": sorted(refusal.limit for refusal in acceptance.refused),
        "taken": acceptance.taken,
        "lost": acceptance.lost,
    }
    await add_record(connection, Record("accepted", acceptance.target, body=body))
    get_logger(target=acceptance.target).warning("store_accepted", last_pass=store["last_pass"], **body)
    return store
