"""The purge of one account, from reading its tables to counting the rows that stay; used by plans and purges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from retentiond.model.errors import Refusal, RefusedError, UsageError
from retentiond.model.floor import cutoff_of, judge_date
from retentiond.model.purge import ATTACHMENTS_STAY, PurgeReport
from retentiond.model.text import printable
from retentiond.targets.chat_database.catalogue import missing_indexes, read_catalogue
from retentiond.targets.chat_database.kinds import held_as
from retentiond.targets.chat_database.purge_table import has_dated_hold, names_of
from retentiond.targets.chat_database.survey import Survey
from retentiond.targets.chat_database.tables import Terms, trees
from retentiond.targets.chat_database.visitor import (
    check_erasure,
    check_visitor,
    find_request,
    first_day_kept,
    refusal_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import PurgeRequest
    from retentiond.targets.chat_database.catalogue import Catalogue, MissingIndex
    from retentiond.targets.chat_database.context import ChatContext
    from retentiond.targets.chat_database.judgement import Holds
    from retentiond.targets.chat_database.visitor import ErasureRequest

_KEPT: Final = ("open", "undated", "newer", "hold", "has_file_messages")


@dataclass(slots=True)
class AccountPurge:
    """The purge of one account. `names` are its present and former names; `chats` and `others` are its surveys."""

    context: ChatContext
    request: PurgeRequest
    names: list[str]
    cutoff: datetime
    schema: str
    catalogue: Catalogue
    missing: list[MissingIndex]
    report: PurgeReport
    chats: Survey
    others: tuple[Survey, ...]
    erasure_request: ErasureRequest | None = None

    @property
    def store_cutoff(self) -> datetime:
        """The first moment that a store keeps. In an erasure, rows of the listed chats of any date are deleted."""
        return (
            self.cutoff
            if self.erasure_request is None
            else cutoff_of(self.erasure_request.until, self.context.config.zone)
        )

    async def survey(self) -> None:
        """Judge every chat that began before the date, and count the kept chats by reason."""
        report = self.report
        for survey in (self.chats, *self.others):
            await survey.judge()
            for entity in (*survey.tree.entities, *survey.tree.shared):
                report.entities[entity] = 0
        report.all_chats = await self.chats.count_all()
        report.kept.update({reason: self.chats.verdicts[reason] for reason in _KEPT})
        if self.erasure_request is not None:
            if not self.erasure_request.erasure.even_under_floor:
                report.kept["under_floor"] = report.all_chats - self.chats.verdicts.total()
            verdicts, to_date = self.chats.verdicts, self.request.to_date
            report.refused = refusal_of(self.erasure_request, verdicts, report.all_chats, to_date)
            if report.refused is None:
                self.erasure_request.chats |= await self.chats.due_keys()

    async def count(self) -> None:
        """Count the rows that would be deleted."""
        self.report.chats = self.chats.due
        for survey in (self.chats, *self.others):
            await survey.count_rows(self.report)

    @property
    def affected(self) -> int:
        """The number of chats, and of rows without a chat, to delete."""
        return sum(survey.affected for survey in (self.chats, *self.others))


def check_request(context: ChatContext, request: PurgeRequest, now: datetime) -> None:
    """Raise RefusedError for a date that the floor forbids, UsageError for an unknown account or store."""
    context.account(request.account)
    if request.erasure is not None:
        # Its date follows from the floor.
        check_erasure(context, request.erasure)
        return
    config = context.config
    for store in request.stores:
        if getattr(config, store) is None:
            raise UsageError(
                f"{context.name} has no `{store}`; add that section to it, or leave this store out"
            )
    refusal = judge_date(request.to_date, now, config.zone, floor_of(context, request), config.date_rule)
    if refusal is not None:
        raise RefusedError(refusal)


def floor_of(context: ChatContext, request: PurgeRequest) -> timedelta:
    """Return the floor of a purge: the longest floor among the classes of its rows."""
    floors = {"messages": context.config.floor.messages, "facts": context.config.floor.facts}
    return max(floors[name] for name in context.layout.classes(stats=request.stats))


async def look_at(
    context: ChatContext,
    connection: Conn,
    request: PurgeRequest,
    number: int,
    *,
    dry_run: bool,
    now: datetime,
) -> AccountPurge:
    """Compare the account's tables with the layout; `number` distinguishes the surveys of the accounts.

    `now` is the time of the database, which an erasure uses.
    """
    schema = context.schema_of(request.account)
    catalogue = await read_catalogue(connection, context.layout, schema)
    await check_value(connection, context, catalogue, request.account, stats=request.stats)
    erasure_request = None
    if request.erasure is not None:
        await check_visitor(connection, context, catalogue, request.erasure)
        erasure_request = await find_request(context, connection, request.erasure, now)
        to_date = first_day_kept(context, erasure_request, now, floor_of(context, request))
        request = replace(request, erasure=erasure_request.erasure, to_date=to_date)
    names = await names_of(connection, context, request.account)
    by_top = trees(
        context.layout,
        schema,
        catalogue,
        number,
        holds=await _holds(context, connection, names),
        of_visitor=erasure_request is not None,
    )
    cutoff = cutoff_of(request.to_date, context.config.zone)
    terms = Terms(
        names,
        context.column_value_of(request.account),
        cutoff,
        context.config.timezone,
        request.file_messages,
        request.erasure.visitor if request.erasure is not None else None,
    )
    surveys = {top: Survey(connection, tree, terms) for top, tree in by_top.items()}
    chats = surveys.pop(context.layout.chat)
    remarks = [ATTACHMENTS_STAY] if request.file_messages else []
    report = PurgeReport(request.account, request.to_date, dry_run, remarks=remarks)
    report.erasure = erasure_request.report() if erasure_request is not None else None
    return AccountPurge(
        context=context,
        request=request,
        names=names,
        cutoff=cutoff,
        schema=schema,
        catalogue=catalogue,
        missing=await missing_indexes(connection, context.layout, catalogue),
        report=report,
        chats=chats,
        others=tuple(surveys.values()) if request.stats else (),
        erasure_request=erasure_request,
    )


async def look_at_each(
    purges: list[AccountPurge],
    context: ChatContext,
    connection: Conn,
    requests: Sequence[PurgeRequest],
    *,
    dry_run: bool,
    now: datetime,
) -> None:
    """Check the requests, and append the purge of each: a refusal leaves the ones before it in `purges`."""
    for number, request in enumerate(requests):
        check_request(context, request, now)
        purges.append(await look_at(context, connection, request, number, dry_run=dry_run, now=now))


async def check_value(
    connection: Conn, context: ChatContext, catalogue: Catalogue, account: str, *, stats: bool
) -> None:
    """Raise UsageError if the column of accounts cannot hold the value of an account unchanged.

    A cast silently changes it (the first letters of a name, 01 to 1), and the result is another account.
    """
    value, layout = context.column_value_of(account), context.layout
    if value is None:
        return
    named = [child for child in layout.children(layout.chat) if layout.entities[child].account_column]
    for top in (layout.chat, *named, *(layout.by_itself if stats else ())):
        column = layout.entities[top].account_column or ""
        kind = catalogue.types[top][column]
        held = await held_as(connection, value, kind)
        if held != value:
            wrong = "cannot hold it" if held is None else f"would hold it as `{printable(held)}`"
            raise UsageError(
                f"the account `{printable(account)}` has the value `{printable(value)}`, and "
                f"{printable(layout.table(top))}.{printable(column)} of type {kind} {wrong}; set `value` to the "
                "value in that column"
            )


async def _holds(context: ChatContext, connection: Conn, names: list[str]) -> Holds:
    if not await context.ledger.exists(connection):
        return "no_ledger"
    return "dated" if await has_dated_hold(connection, names) else "undated"


def judge_limits(purge: AccountPurge, *, first: bool) -> Refusal | None:
    """Compare the counts of a scheduled purge with its limits."""
    context, due, rows = purge.context, purge.chats.due, purge.report.all_chats
    limits = context.config.limits
    next_step = f"look with `retentiond plan {context.name}`, and if it is right, run `retentiond once {context.name} --yes`"
    summary = f"{due} of {rows} chats of {purge.request.account} would be deleted"
    if rows and due / rows > limits.max_share:
        opening = f"this is the first pass over this database, and {summary}" if first else summary
        return Refusal("max_share", round(due / rows, 4), limits.max_share, f"{opening}; {next_step}")
    if due > limits.max_items:
        return Refusal("max_items", due, limits.max_items, f"{summary}; {next_step}")
    return None
