"""The summary of a pass or a plan: deleted and kept items with reasons, warnings, and the next step."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Final, TypeVar

from rich.text import Text

from retentiond.config.schema import check_kinds
from retentiond.model.ownership import OTHER_SERVERS, Ownership
from retentiond.model.report import PassReport, QuarantineSummary, Tally
from retentiond.model.text import printable, sentence
from retentiond.terminal.frames import refusal_panel, table
from retentiond.terminal.purge import show_account
from retentiond.terminal.translation import Translate, untranslated
from retentiond.terminal.words import count_in_words, reason_in_words, size_in_words

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Iterator, Mapping

    from rich.console import Console
    from rich.table import Table

_LEFT_OUT: Final[Mapping[str, tuple[str, str]]] = {
    "other_uploader": ("mentioned only by other users", "any user can mention the upload of another user"),
    "other_rooms": ("mentioned in other rooms, too", "these rooms would lose them"),
    "encrypted": ("possibly shown in an encrypted room", "mentions there cannot be seen"),
}
"""The media left out for each reason, and the explanation."""
_OTHERS: Final = "users of other servers"
_LISTED: Final = 10
_COMMANDS: Final = 3
_LIMIT: Final = 300


def ownership_lines(ownership: Ownership) -> Iterator[str]:
    """Yield a line for the uploaders, one for the rooms, and the commands that delete the media left out."""
    if ownership.removed:
        yield f"Uploaded by {uploaders_in_words(ownership.removed, _LISTED)}."
    if ownership.rooms:
        yield f"Mentioned in {rooms_in_words(ownership, _LISTED)}."
    for reason, (what, why) in _LEFT_OUT.items():
        counts = ownership.left_out.get(reason)
        if counts:
            nameless = "unknown uploaders" if reason == "other_uploader" else _OTHERS
            whose = uploaders_in_words(counts, _LISTED, nameless)
            yield (
                f"Left out: {count_in_words(counts.total(), 'item')} of {whose}, {what}: {why}. To delete one of them, or all uploads of a user:"
            )
            yield from _commands(counts, ownership.examples.get(reason))


def uploaders_in_words(counts: Counter[str], limit: int, nameless: str = _OTHERS) -> str:
    """Return the uploaders and their items: `@ann:here.test (3), users of other servers (2)`.

    `nameless` stands for media without a user in the database.
    """
    local = sorted(
        (pair for pair in counts.items() if pair[0] != OTHER_SERVERS), key=lambda pair: (-pair[1], pair[0])
    )
    named = [f"{printable(user, _LIMIT)} ({items:,})" for user, items in local[:limit]]
    if len(local) > limit:
        named.append(f"{count_in_words(len(local) - limit, 'more local user')}")
    if counts[OTHER_SERVERS]:
        named.append(f"{nameless} ({counts[OTHER_SERVERS]:,})")
    return ", ".join(named)


def rooms_in_words(ownership: Ownership, limit: int) -> str:
    """Return the rooms and the items mentioned in each: `!a:here.test (2), 3 more rooms`."""
    named = [f"{printable(room, _LIMIT)} ({items:,})" for room, items in ownership.rooms.items()][:limit]
    more = ownership.rooms_in_all - len(named)
    return ", ".join([*named, *([count_in_words(more, "more room")] if more > 0 else [])])


def _commands(uploaders: Counter[str], example: str | None) -> Iterator[str]:
    if example is not None:
        yield f"  retentiond delete --media {quote(printable(example, _LIMIT))}"
    for user, _ in uploaders.most_common(_COMMANDS):
        if user != OTHER_SERVERS:
            yield f"  retentiond delete --user {quote(printable(user, _LIMIT))}"


Reason = TypeVar("Reason", bound=str)

_HEADINGS = {
    "planned": "the plan",
    "finished": "pass finished",
    "finished_with_failures": "pass finished; some items failed",
    "refused": "pass refused; nothing was changed",
    "interrupted": "pass interrupted",
}


def show_pass(
    console: Console, report: PassReport, next_step: Iterable[str], translate: Translate = untranslated
) -> None:
    """Print a report, and then the lines of `next_step`; accounts of chats are in the language of the user."""
    number = "" if report.pass_id is None else f", pass {report.pass_id}"
    heading = "the plan" if report.dry_run else _HEADINGS[report.state]
    if report.state == "refused" and report.pass_id is not None:
        heading = "a part of the pass was refused"
    console.print(Text(f"{report.target}{number}: {heading}", style="bold"))
    if report.purges:
        for purge in report.purges:
            show_account(console, purge, translate, refused=report.refused)
    else:
        _show_counts(console, report)
    if report.failed:
        console.print(by_reason("Failed", report.failed))
    for line in _remarks(report):
        console.print(Text(line))
    if report.ownership is not None:
        for line in ownership_lines(report.ownership):
            console.print(Text(line), soft_wrap=True)
    if report.refused is not None:
        title = "A pass would be refused" if report.dry_run else "Refused"
        console.print(refusal_panel(report.refused, title))
    _show_interruption(console, report)
    for line in next_step:
        console.print(Text(line), soft_wrap=True)
    console.print()


def _show_counts(console: Console, report: PassReport) -> None:
    if report.removed:
        console.print(_removed(report))
    elif report.refused is None:
        console.print(Text("Nothing to delete." if report.dry_run else "Nothing was deleted."))
    if report.kept:
        console.print(_kept(report))


def _show_interruption(console: Console, report: PassReport) -> None:
    if report.error:
        console.print(Text(f"Reason: {sentence(report.error, 1000)}", style="bold red"))
    if report.not_reached.items or report.state == "interrupted":
        words = not_reached_in_words(report)
        console.print(Text(f"{words[0].upper()}{words[1:]}.", style="yellow"))


def not_reached_in_words(report: PassReport) -> str:
    """Return the items that a pass did not reach, and how to continue: `not reached: 5 items, 2.0 KiB; run again to continue`."""
    left = report.not_reached
    how = {
        "interrupted": "run again to continue",
        "refused": "no item is deleted until a pass is allowed",
    }
    words = how.get(report.state, "the next pass continues")
    if not left.items:
        return words
    size = f", {size_in_words(left.bytes)}" if left.bytes else ""
    return f"not reached: {count_in_words(left.items, 'item')}{size}; {words}"


def quarantine_in_words(summary: QuarantineSummary) -> str:
    """Return the contents of the quarantine: `12 items can be restored; quarantined: 10 files, 3.2 MiB`."""
    states = [
        f"{state}: {count_in_words(tally.items, 'file')}, {size_in_words(tally.bytes)}"
        for state, tally in sorted(summary.blobs.items())
        if tally.items
    ]
    return printable("; ".join([f"{count_in_words(summary.items, 'item')} can be restored", *states]), 1000)


_REMOVED_HEADINGS: Final[Mapping[str, tuple[str, str]]] = {
    "dendrite_media": ("Moved to quarantine", "policy"),
    # Chats have no quarantine, and policies are by account.
    "chat_database": ("Purged", "account"),
    "dendrite_rooms": ("Purged", "policy"),
}
"""For each kind of target: the heading of the deleted items, and the column that groups them."""
check_kinds(_REMOVED_HEADINGS, "terminal/account.py: _REMOVED_HEADINGS")


def _removed(report: PassReport) -> Table:
    gone, by = _REMOVED_HEADINGS[report.kind]
    shown = table("To be deleted" if report.dry_run else gone)
    shown.add_column(by)
    shown.add_column("items", justify="right")
    shown.add_column("size", justify="right")
    for policy, tally in sorted(report.removed.items()):
        shown.add_row(Text(printable(policy)), f"{tally.items:,}", size_in_words(tally.bytes))
    shown.add_section()
    shown.add_row("all", f"{report.removed_items:,}", size_in_words(report.removed_bytes), style="bold")
    return shown


def _kept(report: PassReport) -> Table:
    shown = table("Kept")
    shown.add_column("reason")
    shown.add_column("items", justify="right")
    shown.add_column("meaning")
    for reason, items in report.kept.most_common():
        shown.add_row(Text(printable(reason)), f"{items:,}", reason_in_words(reason, report.kind))
    shown.add_section()
    shown.add_row("all", f"{report.kept.total():,}", "", style="bold")
    return shown


def by_reason(title: str, counts: Mapping[Reason, int]) -> Table:
    """Return a table of counts by reason."""
    shown = table(title)
    shown.add_column("reason")
    shown.add_column("items", justify="right")
    for reason, items in sorted(counts.items()):
        shown.add_row(Text(printable(reason)), f"{items:,}", style="red")
    return shown


def _remarks(report: PassReport) -> Iterable[str]:
    if report.shared_blobs:
        used = "1 file is" if report.shared_blobs == 1 else f"{report.shared_blobs:,} files are"
        yield (f"{used} still used by other uploads: entries deleted, files kept.")
    if report.missing_file:
        expired = (
            "1 expired entry has"
            if report.missing_file == 1
            else f"{report.missing_file:,} expired entries have"
        )
        yield f"Warning: {expired} no file on disk."
    if report.orphan_thumbnail_row:
        rows = count_in_words(report.orphan_thumbnail_row, "thumbnail row")
        yield f"Warning: {rows} without a media item."
    yield from (printable(remark, 1000) for remark in report.remarks)


_NONE = Tally()


def show_what_if(console: Console, report: PassReport, supposed: Mapping[str, PassReport]) -> None:
    """Print the media to be deleted as configured, and with each age."""
    plans = {"as configured": report, **supposed}
    console.print(Text(f"{report.target}: to be deleted if media were kept for", style="bold"))
    shown = table("To be deleted")
    shown.add_column("policy")
    for heading in plans:
        shown.add_column(Text(printable(heading)), justify="right")
    for policy in sorted({policy for plan in plans.values() for policy in plan.removed}):
        tallies = (plan.removed.get(policy, _NONE) for plan in plans.values())
        shown.add_row(Text(printable(policy)), *(_cell(tally) for tally in tallies))
    shown.add_section()
    totals = (Tally(plan.removed_items, plan.removed_bytes) for plan in plans.values())
    shown.add_row("all", *(_cell(tally) for tally in totals), style="bold")
    console.print(shown)
    if report.refused is not None:
        console.print(refusal_panel(report.refused, "A pass would be refused"))
    console.print(Text("Nothing was changed. A policy with `keep: forever` deletes nothing at any age."))
    console.print()


def _cell(tally: Tally) -> str:
    return f"{tally.items:,} ({size_in_words(tally.bytes)})" if tally.items else "-"
