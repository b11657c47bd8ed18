"""The visitor of an erasure: the check of the ID, and the requests in the ledger with their chats, passes and proof.

No table, record or log of retentiond has the ID itself, only its hash with a key that is in the ledger and in no record.
With the ledger and an ID one can check whether a request was for that visitor; with a record alone one cannot.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.host import actor
from retentiond.model.errors import Refusal, UsageError
from retentiond.model.floor import day_before
from retentiond.model.purge import ErasureReport
from retentiond.model.text import can_be_stored, instant, printable
from retentiond.targets.chat_database.kinds import NUMBERS, held_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Erasure
    from retentiond.targets.chat_database.catalogue import Catalogue
    from retentiond.targets.chat_database.context import ChatContext

_SQL: Final = named_queries(__package__, "visitor.sql")
MOST_CHATS: Final = 100_000
"""The most chats of one visitor: an ID with more chats is not that of a person."""
LONGEST_ID: Final = 500
LONGEST_REASON: Final = 1000
_TEXTS: Final = frozenset({"text", "character varying", "character", "bpchar", "name", "citext"})
_NOT_FILLED: Final = frozenset({"0", "00000000-0000-0000-0000-000000000000"})
_NO_VISITOR: Final = "zero and the nil UUID mean a chat without a visitor; name the ID of one visitor"


@dataclass(slots=True)
class ErasureRequest:
    """A request to erase a visitor; without `erasure_id` it is not in the ledger yet.

    `chats` are those listed so far. It covers what began before the day `until`.
    """

    erasure: Erasure
    erasure_id: int | None
    digest: str | None
    requested_at: datetime
    requested_by: str
    until: date
    chats: frozenset[str] = frozenset()

    def report(self) -> ErasureReport:
        """Return the report of the request, before anything is counted."""
        return ErasureReport(
            self.erasure_id,
            self.erasure.name,
            self.digest,
            self.erasure.even_under_floor,
            self.erasure.reason,
            instant(self.requested_at),
            self.requested_by,
        )


def check_erasure(context: ChatContext, erasure: Erasure) -> None:
    """Raise UsageError for a request that cannot be carried out with any tables."""
    context.account(erasure.account)
    if context.layout.root.visitor is None:
        raise UsageError(
            f"the layout of {context.name} does not name the column of visitors; add `visitor` to its entity "
            f"{printable(context.layout.chat)}"
        )
    visitor = erasure.visitor
    if not visitor.strip() or len(visitor) > LONGEST_ID:
        raise UsageError(f"the ID of a visitor has from 1 to {LONGEST_ID} characters; name one visitor")
    if visitor.strip() in _NOT_FILLED:
        raise UsageError(_NO_VISITOR)
    if not can_be_stored(erasure.reason):
        raise UsageError("the reason has a character that no database can store; write it without")
    if len(erasure.reason) > LONGEST_REASON:
        raise UsageError(f"a reason has at most {LONGEST_REASON} characters; write a shorter one")
    if erasure.even_under_floor and not erasure.reason.strip():
        raise UsageError(
            "an erasure of chats that are younger than the floor needs a reason for the record; add it"
        )


def first_day_kept(context: ChatContext, request: ErasureRequest, now: datetime, floor: timedelta) -> date:
    """Return the first day that is kept: by the floor, and at the latest the day after the request."""
    zone = context.config.zone
    if request.erasure.even_under_floor:
        return request.until
    # With `within` a purge may reach up to today.
    within = context.config.date_rule == "within"
    by_rule = now.astimezone(zone).date() if within else day_before(now, floor, zone)
    return min(by_rule, request.until)


async def find_request(
    context: ChatContext, connection: Conn, erasure: Erasure, now: datetime
) -> ErasureRequest:
    """Return the request in the ledger that this one continues, or a new one; raise UsageError if they differ."""
    new = ErasureRequest(erasure, None, None, now, actor(), _day_after(context, now))
    if not await has_requests(connection):
        return new
    key = await read_key(connection)
    if key is None:
        return new
    new.digest = digest_of(context, erasure, key)
    names = (context.name, erasure.account)
    if erasure.name is not None:
        row = await find_by_name(connection, *names, erasure.name)
    else:
        row = await find_unfinished(connection, *names, new.digest, even_under_floor=erasure.even_under_floor)
    if row is None:
        return new
    if row["visitor"] != new.digest:
        raise UsageError(
            f"the request `{printable(erasure.name or '')}` was made for another visitor; give this one a name of its own"
        )
    if row["even_under_floor"] != erasure.even_under_floor:
        raise UsageError(
            f"the request `{printable(erasure.name or '')}` is recorded with another `even_under_floor`; give this one a "
            "name of its own"
        )
    return ErasureRequest(
        replace(erasure, reason=row["reason"]),
        row["erasure_id"],
        new.digest,
        row["requested_at"],
        row["requested_by"],
        # A request repeated by hand covers the chats of today; a request in a file may stay there for months.
        _day_after(context, row["requested_at"] if erasure.name is not None else now),
        await read_chats(connection, row["erasure_id"]),
    )


def _day_after(context: ChatContext, moment: datetime) -> date:
    return moment.astimezone(context.config.zone).date() + timedelta(days=1)


async def is_done(context: ChatContext, connection: Conn, erasure: Erasure) -> bool:
    """Return whether a request in a file is done, and so not carried out again. Raises UsageError as `find_request` does."""
    if erasure.name is None or not await has_requests(connection):
        return False
    row = await find_by_name(connection, context.name, erasure.account, erasure.name)
    if row is None or row["finished_at"] is None:
        return False
    key = await read_key(connection)
    if key is None or row["visitor"] != digest_of(context, erasure, key):
        raise UsageError(
            f"the request `{printable(erasure.name)}` was made for another visitor; give this one a name of its own"
        )
    return True


def digest_of(context: ChatContext, erasure: Erasure, key: bytes) -> str:
    """Return the digest of the visitor in the ledger: a keyed hash of the ID and the place of its chats."""
    whereabouts = [
        context.schema_of(erasure.account),
        context.column_value_of(erasure.account),
        erasure.visitor,
    ]
    return hmac.new(key, json.dumps(whereabouts).encode(), hashlib.sha256).hexdigest()


async def check_visitor(
    connection: Conn, context: ChatContext, catalogue: Catalogue, erasure: Erasure
) -> None:
    """Raise UsageError if the column of visitors cannot hold the ID as it is written, or has another type.

    No message contains the ID, since messages are logged.
    """
    layout = context.layout
    column = layout.root.visitor or ""
    kind = catalogue.types[layout.chat][column]
    where = f"{printable(layout.table(layout.chat))}.{printable(column)}, which is {printable(kind)}"
    if kind not in NUMBERS and kind not in _TEXTS and kind != "uuid":
        raise UsageError(f"{where}, cannot be compared with an ID; name a column of numbers, text or uuid")
    held = await held_as(connection, erasure.visitor, kind)
    if held is None:
        raise UsageError(f"{where}, cannot hold this ID; write the ID as the column has it")
    if kind in NUMBERS and "." in held and "e" not in held:
        # Numbers are compared as such, whatever their spelling: 5.0 is the visitor 5, and 0.0 is no visitor.
        held = held.rstrip("0").rstrip(".")
    if held in {"0", "-0"}:
        raise UsageError(_NO_VISITOR)
    if held != erasure.visitor:
        raise UsageError(f"{where}, has this ID in another spelling; write the ID as the column has it")


def refusal_of(
    request: ErasureRequest, verdicts: Mapping[str, int], chats: int, first_kept: date
) -> Refusal | None:
    """Return the reason to refuse an erasure: a hold, too many chats for one person, or a floor that covers all chats.

    `chats` counts all chats of the visitor; `verdicts` are on those that began before the day `first_kept`.
    """
    judged = sum(verdicts.values())
    if verdicts["hold"]:
        return Refusal(
            "hold",
            f"{verdicts['hold']} chats of the visitor",
            "none",
            "a hold covers chats of this visitor: `retentiond hold list` shows it; ask again once it has ended",
        )
    if chats > MOST_CHATS:
        return Refusal(
            "max_items",
            chats,
            MOST_CHATS,
            "one person does not have so many chats; check that this is the ID of one visitor",
        )
    if chats and not judged and not request.chats and not request.erasure.even_under_floor:
        return Refusal(
            "floor",
            f"{chats} chats",
            f"chats that began before {first_kept}",
            f"every chat of this visitor began on {first_kept} or later, and the floor keeps it; ask again later",
        )
    return None


async def has_requests(connection: Conn) -> bool:
    """Return whether the ledger has the tables of requests, which came with version 3."""
    return bool(await connection.fetchval(_SQL["has_requests"]))


async def read_key(connection: Conn) -> bytes | None:
    """Return the key of the hashes of visitors; None before the first request."""
    key: bytes | None = await connection.fetchval(_SQL["key"])
    return key


async def make_key(connection: Conn) -> bytes:
    """Return the key; create it for the first request."""
    await connection.execute(_SQL["make_key"], secrets.token_bytes(32))
    key: bytes = await connection.fetchval(_SQL["key"])
    return key


async def find_by_name(connection: Conn, target: str, account: str, name: str) -> Record | None:
    """Return a request of the file of requests, finished or not."""
    return await connection.fetchrow(_SQL["by_name"], target, account, name)


async def find_unfinished(
    connection: Conn, target: str, account: str, digest: str, *, even_under_floor: bool
) -> Record | None:
    """Return the unfinished request of a visitor that was made by hand, on the same terms."""
    return await connection.fetchrow(_SQL["of_visitor"], target, account, digest, even_under_floor)


async def read_chats(connection: Conn, erasure_id: int) -> frozenset[str]:
    """Return the chats that a request has listed."""
    rows = await connection.fetch(_SQL["chats"], erasure_id)
    return frozenset(row["chat"] for row in rows)


async def add_request(
    connection: Conn, target: str, erasure: Erasure, digest: str, requested_at: datetime, requested_by: str
) -> int:
    """Add a request; return its number."""
    erasure_id: int = await connection.fetchval(
        _SQL["add"],
        *(target, erasure.account, erasure.name, digest),
        *(erasure.even_under_floor, erasure.reason, requested_at, requested_by),
    )
    return erasure_id


async def add_pass(connection: Conn, erasure_id: int, pass_id: int, chats: Iterable[str]) -> None:
    """Record a pass of a request, with the chats that it lists."""
    await connection.execute(_SQL["add_pass"], erasure_id, pass_id)
    await connection.execute(_SQL["add_chats"], erasure_id, sorted(chats))


async def sum_up_deletions(connection: Conn, erasure_id: int, report: ErasureReport) -> None:
    """Add the deletions of all passes of a request to its report."""
    deleted = await connection.fetchrow(_SQL["deleted_rows"], erasure_id)
    if deleted is not None:
        report.chats = deleted["chats"]
        report.entities = {name: int(rows) for name, rows in json.loads(deleted["entities"]).items()}
    for row in await connection.fetch(_SQL["deleted_in_stores"], erasure_id):
        report.stores[row["store"]] = {
            "state": row["state"],
            "rows": row["rows"],
            **({"at_least": True} if row["at_least"] else {}),
        }


async def finish_request(connection: Conn, erasure_id: int) -> None:
    """Record that a request is done, and delete its list of chats."""
    await connection.execute(_SQL["finish"], erasure_id)
    await connection.execute(_SQL["forget_chats"], erasure_id)


async def read_unfinished_requests(connection: Conn, target: str, *, at_work: bool) -> list[Record]:
    """Return the unfinished requests, with their unfinished stores; `at_work`: those of a running pass are left out."""
    return await connection.fetch(_SQL["unfinished"], target, at_work)
