"""An audit, as people read it: what is wrong and what that means, what was mended, and what was left and why."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retentiond.model.audit import KINDS, AuditReport, FindingKind
from retentiond.model.text import printable
from retentiond.terminal.account import by_reason, refusal_panel, table
from retentiond.terminal.words import count_in_words, size_in_words

MEANINGS: Final[Mapping[FindingKind, str]] = MappingProxyType({
    "missing_file": "file missing: downloads return 404",
    "orphan_blob": "orphaned files, not referenced by the database",
    "orphan_thumbnail_row": "a thumbnail's row without its medium",
    "orphan_thumbnail_file": "a thumbnail that no row knows: the full picture is served in its place",
    "missing_thumbnail_file": "a thumbnail's row without its file: not found, for good",
    "thumbnail_size_mismatch": "a thumbnail of another size than its row says: not found, for good",
    "size_mismatch": "a file of another size than its row says: not found, for good",
    "hash_mismatch": "a file that is not what its name says: damaged",
    "invalid_hash": "a row whose hash is none, and leads to no file",
    "stale_upload": "an upload that nobody has written to for a day",
    "unknown_path": "something that dendrite does not make; it is never touched",
})  # fmt: skip
"""What each kind of finding means to who uses the server."""

LEFT: Final[Mapping[str, str]] = MappingProxyType({
    "only_reported": "only reported: nothing here can mend it",
    "local": "media of this server cannot be fetched again: restore the file from a backup",
    "damaged": "only reported; --drop-damaged-remote drops remote ones",
    "kept": "on hold, restored by hand, protected, or changed meanwhile",
    "young": "changed within the last day (its ctime counts, too)",
    "changed": "not as the audit saw it any more",
    "unsafe_path": "a link, a special file or an odd name lies beside it",
    "not_movable": "this user may not move it",
    "local_bears_it": "a local row bears the same content, or one whose size fits",
    "stopped": "not reached; run again to continue",
})  # fmt: skip
"""Why a repair left something as it is."""


def show_audit(console: Console, report: AuditReport, way_on: Iterable[str]) -> None:
    """Show all that a report says, and then the lines of `way_on`."""
    number = "" if report.pass_id is None else f", repair {report.pass_id}"
    rows, blobs = count_in_words(report.rows, "row"), count_in_words(report.blobs, "content")
    console.print(Text(f"{report.target}{number}: {rows} in the database, {blobs} on the disk", style="bold"))
    if report.findings:
        console.print(_findings(report))
    else:
        console.print(
            Text("They agree: nothing was found." if not report.error else "Nothing was found so far.")
        )
    if report.left:
        console.print(_left(report))
    if report.failed:
        console.print(by_reason("Failed", report.failed))
    if report.refused is not None:
        console.print(refusal_panel(report.refused, "The repair was refused; nothing was mended"))
    if report.error:
        console.print(
            Text(f"Cut short: {printable(report.error, 1000)}; run again to continue", style="bold red")
        )
    for line in way_on:
        console.print(Text(line), soft_wrap=True)
    console.print()


def _findings(report: AuditReport) -> Table:
    shown = table("Found")
    shown.add_column("kind")
    shown.add_column("items", justify="right")
    shown.add_column("size", justify="right")
    if report.repaired:
        shown.add_column("mended", justify="right")
    shown.add_column("which means")
    for kind in KINDS:
        if kind in report.findings:
            tally = report.findings[kind]
            mended = [f"{report.repaired[kind]:,}"] if report.repaired else []
            shown.add_row(kind, f"{tally.items:,}", size_in_words(tally.bytes), *mended, MEANINGS[kind])
    return shown


def _left(report: AuditReport) -> Table:
    shown = table("Left as it is")
    shown.add_column("kind")
    shown.add_column("items", justify="right")
    shown.add_column("because")
    for kind in KINDS:
        for reason, items in sorted(report.left.get(kind, {}).items()):
            shown.add_row(kind, f"{items:,}", LEFT.get(reason, reason))
    return shown
