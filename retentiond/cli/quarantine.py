"""`quarantine`: list and restore deleted items; purge and accept are in files of their own."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from retentiond.cli import accept, quarantine_purge
from retentiond.cli.listing import JsonList, write_heading, write_released
from retentiond.cli.options import Json, Media, Reason, Targets, commands, example
from retentiond.cli.session import NO_QUARANTINE, Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.config.units import parse_duration
from retentiond.engine.capabilities import HasQuarantine
from retentiond.engine.target import Selection
from retentiond.model.errors import FAILED, UsageError
from retentiond.model.media import parse_media_uri
from retentiond.model.report import RestoreReport
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words, size_in_words

app = commands("List, restore or purge what passes deleted.")
for _others in (quarantine_purge.app, accept.app):
    app.add_typer(_others)


@app.command("list", epilog=example("retentiond quarantine list media"))
def list_quarantine(targets: Targets = None, as_json: Json = False) -> Work:
    """List deleted items that can be restored, and until when.

    Without TARGET it covers all targets.
    """
    return List(Scope(tuple(targets or ())), as_json)


@app.command(
    epilog=example(
        "retentiond quarantine restore media --pass 7",
        "retentiond quarantine restore --media mxc://example.org/abc --for 90d --reason 'asked for by Ann'",
    ),
)
def restore(
    targets: Targets = None,
    pass_id: Annotated[
        int | None, typer.Option("--pass", min=1, metavar="N", help="Everything that this pass deleted.")
    ] = None,
    media: Media = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything in quarantine.")] = False,
    keep_for: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="TIME",
            help="How long restored items are kept, such as 90d; default: until `quarantine forget`.",
        ),
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> Work:
    """Restore deleted items: rows, thumbnails and files.

    Restored items are kept from then on. Use one of --pass, --media and --all.
    """
    duration = None if keep_for is None else parse_duration(keep_for)
    selection = Selection(pass_id, media, duration, reason)
    return Restore(Scope(tuple(targets or ())), selection, everything, as_json)


_URI_LIMIT = 600
_WITHOUT_FILE = frozenset({"no_file", "size_mismatch", "lost"})
"""States of released rows that no restore can bring back."""


@dataclass(frozen=True, slots=True)
class List:
    """List the items that can be restored."""

    scope: Scope
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Stream the rows of one target after another."""
        targets = session.capable(self.scope, HasQuarantine, NO_QUARANTINE, anywhere=True)
        several = len(targets) > 1
        items, size, others = 0, 0, 0
        document = JsonList(session.out, "items") if self.as_json else None
        if document is None:
            write_heading(session.out, with_target=several)

        async def on_target(target: HasQuarantine, _config: TargetConfig) -> int:
            nonlocal items, size, others
            async for released in target.released():
                if released.state in _WITHOUT_FILE:
                    others += 1
                else:
                    items += 1
                    size += released.bytes
                if document is not None:
                    document.add({"target": target.name} | released.as_json())
                else:
                    write_released(session.out, target.name, released, with_target=several)
            return 0

        try:
            status = session.run(session.for_each(targets, on_target))
        finally:
            if document is not None:
                document.close()
        # A sum that lacks a target would be taken for the whole.
        if document is None and not status:
            without = f"; {count_in_words(others, 'item')} without a file" if others else ""
            session.note(f"{count_in_words(items, 'item')}, {size_in_words(size)}{without}")
        return status


@dataclass(frozen=True, slots=True)
class Restore:
    """Restore the items of a pass, one media item, or everything."""

    scope: Scope
    selection: Selection
    everything: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Restore in one target after another."""
        targets = session.capable(self.scope, HasQuarantine, NO_QUARANTINE)
        self._check(targets)
        restores: list[dict[str, Any]] = []

        async def on_target(target: HasQuarantine, _config: TargetConfig) -> int:
            report = await target.restore(self.selection)
            restores.append({"target": target.name} | report.as_json())
            if not self.as_json:
                _show_restore(session, target.name, report)
            # An item without a file cannot be restored by another try: a failure only where it alone was requested.
            alone = self.selection.media is not None
            missed = report.busy or report.failed or (alone and report.without_file)
            return FAILED if missed else 0

        try:
            status = session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json:
                session.document({"restores": restores})
        found = any(
            restore[what]
            for restore in restores
            for what in ("restored", "present", "without_file", "busy", "failed")
        )
        if status or found or self.selection.media is None or not targets:
            return status
        session.error("not in quarantine; `retentiond quarantine list` shows what can be restored")
        return FAILED

    def _check(self, targets: Mapping[str, TargetConfig]) -> None:
        chosen = (self.selection.pass_id is not None) + (self.selection.media is not None) + self.everything
        if chosen != 1:
            raise UsageError("use one of --pass N, --media mxc://SERVER/ID and --all")
        if self.selection.media is not None and parse_media_uri(self.selection.media) is None:
            raise UsageError(
                f"`{printable(self.selection.media)}` is not a media URI; write it as mxc://SERVER/ID"
            )
        if self.selection.pass_id is not None and len(targets) > 1 and not self.scope.names:
            raise UsageError(
                f"each target counts its own passes; name the TARGET, one of: {', '.join(targets)}"
            )


def _show_restore(session: Session, target: str, report: RestoreReport) -> None:
    if not session.options.quiet:
        session.line(
            f"{target}: {count_in_words(len(report.restored), 'item')} restored, "
            f"{len(report.present):,} there already, {len(report.without_file):,} without a file, "
            f"{len(report.busy):,} busy"
        )
    for why, uris in (
        (
            "has no file, or a file of another size than in its row, and is not restored",
            report.without_file,
        ),
        ("is in use by another run; try again in a minute", report.busy),
        ("could not be restored; the log has the reason; try again", report.failed),
    ):
        for uri in uris:
            session.error(f"{printable(uri, _URI_LIMIT)} {why}", about=target)
