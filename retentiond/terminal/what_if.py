"""The comparison of ages: a table with a line for each policy and a column for each age."""

from collections.abc import Mapping

from rich.console import Console
from rich.text import Text

from retentiond.model.report import PassReport, Tally
from retentiond.model.text import printable
from retentiond.terminal.frames import refusal_panel, table
from retentiond.terminal.words import size_in_words

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
