"""The summary of an audit: findings with their meaning, repairs, and unrepaired findings with the reason."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from retentiond.model.audit import KINDS, AuditReport, FindingKind
from retentiond.model.text import printable
from retentiond.terminal.account import by_reason
from retentiond.terminal.frames import refusal_panel, table
from retentiond.terminal.words import count_in_words, size_in_words

MEANINGS: Final[Mapping[FindingKind, str]] = MappingProxyType({
    "missing_file": "file missing: downloads return 404",
    "orphan_blob": "orphaned files, not referenced by the database",
    "orphan_thumbnail_row": "thumbnail entry without a media item",
    "orphan_thumbnail_file": "thumbnail file without an entry: dendrite serves the full picture instead",
    "missing_thumbnail_file": "thumbnail file missing: downloads return 404",
    "thumbnail_size_mismatch": "thumbnail size differs from the database: downloads return 404",
    "size_mismatch": "file size differs from the database: downloads return 404",
    "hash_mismatch": "damaged: the SHA-256 of the file differs from its name",
    "invalid_hash": "invalid hash in the database: no file belongs to the entry",
    "stale_upload": "unfinished upload, not written to for a day",
    "unknown_path": "not a file of dendrite; never touched",
    "room_only_in_sync": "a room of sync's tables that the room server does not have: no purge takes its rows",
    "room_missing_in_sync": "a room of the room server whose events sync does not have: its users do not see it",
    "rows_without_room": "rows of a room that dendrite does not have any more: they only take space, and no purge takes them",
})  # fmt: skip
"""The meaning of each kind of finding for users of the server."""

LEFT: Final[Mapping[str, str]] = MappingProxyType({
    "only_reported": "only reported: retentiond cannot repair it",
    "local": "media of this server cannot be fetched again: restore the file from a backup",
    "damaged": "only reported; --drop-damaged-remote removes remote ones",
    "kept": "on hold, restored by hand, protected, or changed during the repair",
    "young": "changed within the last day (its ctime counts, too)",
    "changed": "changed since the audit",
    "unsafe_path": "a link, a special file or an unexpected name is beside it",
    "not_movable": "no permission to move it",
    "local_bears_it": "a local entry refers to the same file, or one with a matching size",
    "stopped": "not reached; run again to continue",
})  # fmt: skip
"""The reasons why a repair left a finding."""


def show_audit(console: Console, report: AuditReport, next_step: Iterable[str]) -> None:
    """Print a report, and then the lines of `next_step`."""
    number = "" if report.pass_id is None else f", repair {report.pass_id}"
    rows, blobs = count_in_words(report.rows, "row"), count_in_words(report.blobs, "file")
    compared = report.compared or f"{rows} in the database, {blobs} on disk"
    console.print(Text(f"{report.target}{number}: {compared}", style="bold"))
    if report.findings:
        console.print(_findings(report))
    else:
        console.print(Text("No findings so far." if report.error else f"{_pair(report)} agree; no findings."))
    if report.left:
        console.print(_left(report))
    if report.failed:
        console.print(by_reason("Failed", report.failed))
    if report.refused is not None:
        console.print(refusal_panel(report.refused, "The repair was refused; nothing was repaired"))
    if report.error:
        console.print(
            Text(f"Cut short: {printable(report.error, 1000)}; run again to continue", style="bold red")
        )
    for line in next_step:
        console.print(Text(line), soft_wrap=True)
    console.print()


def _pair(report: AuditReport) -> str:
    return "Database and disk" if report.compared is None else "dendrite's databases"


def _findings(report: AuditReport) -> Table:
    shown = table("Findings")
    shown.add_column("kind")
    shown.add_column("items", justify="right")
    shown.add_column("size", justify="right")
    if report.repaired:
        shown.add_column("repaired", justify="right")
    shown.add_column("meaning")
    for kind in KINDS:
        if kind in report.findings:
            tally = report.findings[kind]
            repaired = [f"{report.repaired[kind]:,}"] if report.repaired else []
            shown.add_row(kind, f"{tally.items:,}", size_in_words(tally.bytes), *repaired, MEANINGS[kind])
    return shown


def _left(report: AuditReport) -> Table:
    shown = table("Not repaired")
    shown.add_column("kind")
    shown.add_column("items", justify="right")
    shown.add_column("reason")
    for kind in KINDS:
        for reason, items in sorted(report.left.get(kind, {}).items()):
            shown.add_row(kind, f"{items:,}", LEFT.get(reason, reason))
    return shown
