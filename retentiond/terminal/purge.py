"""A chat purge as text: deleted rows by entity, kept chats by reason, and each secondary store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from retentiond.model.orphans import Orphans
from retentiond.model.purge import FailedRow, PurgeReport, StoreReport, shards_as_json
from retentiond.model.text import printable, sentence
from retentiond.terminal.frames import refusal_panel, table
from retentiond.terminal.translation import Translate, untranslated
from retentiond.terminal.words import count_in_words, reason_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from rich.console import Console
    from rich.table import Table

    from retentiond.model.errors import Refusal

_SHARD_LIMIT: Final = 300


def shard_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each shard and for each of its replicas, from the keys `shards` and `more_shards`."""
    for shard in document.get("shards", ()):
        yield f"shard {_copy(shard)}"
        for replica in shard.get("replicas", ()):
            yield f"  replica {_copy(replica)}"
    if document.get("more_shards"):
        yield f"and {count_in_words(document['more_shards'], 'shard')} more"


def _copy(document: Mapping[str, Any]) -> str:
    rows = [
        f"{count_in_words(document[key], 'row')} {words}"
        for key, words in (("rows", "deleted"), ("left", "left"))
        if document.get(key) is not None
    ]
    line = ", ".join([f"{printable(document['name'], _SHARD_LIMIT)}: {document['state']}", *rows])
    return f"{line}: {printable(document['error'], _SHARD_LIMIT)}" if document.get("error") else line


_HEADINGS: Final = {
    "planned": "dry run",
    "finished": "purge finished",
    "finished_with_failures": "purge finished, with failures",
    "refused": "purge refused; nothing was changed",
    "interrupted": "purge interrupted",
}
_LIMIT: Final = 1000
_MOST_FAILURES: Final = 20


def show_purge(
    console: Console, report: PurgeReport, next_step: Iterable[str], translate: Translate = untranslated
) -> None:
    """Show the whole report, and then the lines of `next_step`, in the language of the user."""
    show_account(console, report, translate)
    for line in next_step:
        console.print(Text(translate(line)), soft_wrap=True)
    console.print()


def show_account(
    console: Console, report: PurgeReport, translate: Translate, *, refused: Refusal | None = None
) -> None:
    """Show the whole report; a refusal of the whole pass (`refused`) is shown by itself."""
    what = "one visitor" if report.erasure is not None else f"up to {report.to_date}"
    # A plan that would be refused is shown like any other.
    state = "planned" if report.dry_run and refused is not None else report.state
    heading = f"{printable(report.account)}, {what}: {_HEADINGS[state]}"
    console.print(Text(translate(heading), style="bold"))
    if report.entities.total():
        console.print(_entities(report, translate))
    if report.kept.total():
        console.print(_kept(report, translate))
    if report.orphans.found is not None and report.orphans.found.rows.total():
        console.print(_orphans(report, translate))
    for line in _lines(report):
        console.print(Text(translate(line)), soft_wrap=True)
    if report.refused is not None and report.refused != refused:
        console.print(refusal_panel(report.refused, translate("Refused"), translate))
    if report.error:
        why = translate(f"Why: {sentence(report.error, _LIMIT)}")
        console.print(Text(why, style="bold red"))


def _lines(report: PurgeReport) -> Iterable[str]:
    if report.orphans.as_json() is not None:
        yield from (printable(f"Orphans: {line}.", _LIMIT) for line in report.orphans.remarks())
    for name, store in report.stores.items():
        # What kept all of it back is shown by itself.
        if report.refused is None or store.refused != report.refused:
            yield from _store(name, store)
    yield from (*_erasure_lines(report), *_remarks(report))


def _entities(report: PurgeReport, translate: Translate) -> Table:
    rows = table(translate("To be deleted" if report.dry_run else "Deleted"))
    rows.add_column(translate("entity"))
    rows.add_column(translate("rows"), justify="right")
    for entity, count in (+report.entities).items():
        rows.add_row(Text(printable(entity)), translate(f"{count:,}"))
    rows.add_section()
    rows.add_row(translate("all"), translate(f"{report.entities.total():,}"), style="bold")
    return rows


def _kept(report: PurgeReport, translate: Translate) -> Table:
    rows = table(translate("Kept chats that began before the date"))
    rows.add_column(translate("reason"))
    rows.add_column(translate("chats"), justify="right")
    rows.add_column(translate("meaning"))
    for reason, count in report.kept.items():
        if count:
            rows.add_row(reason, translate(f"{count:,}"), translate(reason_in_words(reason, "chat_database")))
    rows.add_section()
    rows.add_row(translate("all"), translate(f"{report.kept.total():,}"), "", style="bold")
    return rows


def _orphans(report: PurgeReport, translate: Translate) -> Table:
    found = report.orphans.found or Orphans()
    rows = table(translate("Orphans: rows whose chat is missing from the database"))
    rows.add_column(translate("entity"))
    rows.add_column(translate("rows"), justify="right")
    rows.add_column(translate("older than the date"), justify="right")
    if report.orphans.requested and not report.dry_run:
        rows.add_column(translate("deleted"), justify="right")
    for entity, count in found.rows.items():
        counts = [count, found.due[entity]]
        if report.orphans.requested and not report.dry_run:
            counts.append(report.orphans.removed[entity])
        rows.add_row(Text(printable(entity)), *(translate(f"{number:,}") for number in counts))
    return rows


def _store(name: str, store: StoreReport) -> Iterable[str]:
    at_least = "at least " if store.at_least else ""
    yield f"{name}: {store.state}, {at_least}{count_in_words(store.rows, 'row')}"
    yield from (f"  {line}" for line in shard_lines(shards_as_json(store.shards)))
    yield from (f"  {printable(line, _LIMIT)}" for line in store.waiting)
    if store.refused is not None:
        yield f"  refused by {store.refused.limit}: {sentence(store.refused.hint, _LIMIT)}"
    if store.error:
        yield f"  {sentence(store.error, _LIMIT)}"


def _remarks(report: PurgeReport) -> Iterable[str]:
    # Before a look at the tables no number is known.
    if report.all_chats:
        counts = f"{report.chats:,} of {report.all_chats:,}"
        yield (
            f"Complete chats to be deleted: {counts}."
            if report.dry_run
            else f"Complete chats deleted: {counts}."
        )
    elif report.entities and not report.entities.total():
        yield (
            "The account has no chats."
            if report.erasure is None
            else "The visitor has no chats in this account."
        )
    if report.partitions_dropped:
        names = ", ".join(map(printable, report.partitions_dropped))
        yield f"Partitions dropped: {names}."
    if report.not_reached:
        yield f"Not reached: {count_in_words(report.not_reached, 'chat')}."
    if report.failed:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.failed.items()))
        yield f"Failed: {reasons}; the log names them, and the next purge tries again."
    yield from (f"{printable(remark[:1].upper() + remark[1:], _LIMIT)}." for remark in report.remarks)
    yield from (f"  {_failure(failure)}" for failure in report.failures[:_MOST_FAILURES])
    if len(report.failures) > _MOST_FAILURES:
        yield f"  and {len(report.failures) - _MOST_FAILURES:,} more, which `--json` names."


def _erasure_lines(report: PurgeReport) -> Iterable[str]:
    """Describe the remaining data of an erased visitor, and whether the request is done."""
    erasure, dry_run = report.erasure, report.dry_run
    if erasure is None:
        return
    if not erasure.even_under_floor and (report.kept["under_floor"] or report.kept["newer"]):
        yield f"The floor keeps chats with entries of {report.to_date} or later."
    if erasure.remaining and dry_run:
        yield f"Chats of this visitor to be kept: {erasure.remaining:,}."
    elif erasure.remaining:
        yield f"Kept chats of this visitor: {erasure.remaining:,}."
    if erasure.later:
        yield f"Kept chats of this visitor that began after the request: {erasure.later:,}."
    for name, rows in erasure.left.items():
        if rows is None:
            yield f"Rows of this visitor in {printable(name)} are kept; this role lacks the right to count them."
        elif rows:
            yield f"Kept rows of this visitor in {printable(name)}, outside of chats: {rows:,}."
    if not dry_run and erasure.erasure_id is not None:
        named = f"Erasure request {erasure.erasure_id}"
        yield f"{named} is finished." if erasure.done else f"{named} is not finished."
        yield f"The records name this visitor {(erasure.visitor or '')[:12]}…, a keyed hash of the ID."


def _failure(failure: FailedRow) -> str:
    what = "chat" if failure.entity is None else f"{printable(failure.entity)}, row"
    by = [
        f"{kind} {printable(name)}"
        for kind, name in (("constraint", failure.constraint), ("trigger", failure.trigger))
        if name is not None
    ]
    where = f"table {printable(failure.table)}" if failure.table else ""
    details = ", ".join(filter(None, (where, *by)))
    return f"{what} {printable(str(failure.row))} ({details or failure.reason}): {sentence(failure.error, _LIMIT)}"
