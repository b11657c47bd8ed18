"""`quarantine list` and `restore`: what can come back, and bringing it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retentiond.cli.listing import JsonList, write_heading, write_released
from retentiond.cli.session import Scope, Session
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import Selection, Target
from retentiond.model.errors import UsageError
from retentiond.model.media import parse_media_uri
from retentiond.model.outcome import FAILED
from retentiond.model.report import RestoreReport
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words, size_in_words

_URI_LIMIT = 600
_WITHOUT_FILE = frozenset({"no_file", "size_mismatch", "lost"})
"""States of released rows that no restore can bring back."""


@dataclass(frozen=True, slots=True)
class List:
    """List what can be brought back."""

    scope: Scope
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Stream the rows of one target after another."""
        targets = session.targets(self.scope, anywhere=True)
        several = len(targets) > 1
        items, size, others = 0, 0, 0
        document = JsonList(session.out, "items") if self.as_json else None
        if document is None:
            write_heading(session.out, with_target=several)

        async def errand(target: Target, _config: TargetConfig) -> int:
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
            status = session.run(session.for_each(targets, errand))
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
    """Bring back what a pass took, one medium, or everything."""

    scope: Scope
    selection: Selection
    everything: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Restore in one target after another."""
        targets = session.targets(self.scope)
        self._check(targets)
        restores: list[dict[str, Any]] = []

        async def errand(target: Target, _config: TargetConfig) -> int:
            report = await target.restore(self.selection)
            restores.append({"target": target.name} | report.as_json())
            if not self.as_json:
                _show_restore(session, target.name, report)
            # What had no file could never come, however often it is tried: a failure only of who asked for just that.
            alone = self.selection.media is not None
            missed = report.busy or report.failed or (alone and report.without_file)
            return FAILED if missed else 0

        try:
            status = session.run(session.for_each(targets, errand))
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
        session.error(
            "nothing of that is in quarantine; `retentiond quarantine list` shows what can come back"
        )
        return FAILED

    def _check(self, targets: Mapping[str, TargetConfig]) -> None:
        chosen = (self.selection.pass_id is not None) + (self.selection.media is not None) + self.everything
        if chosen != 1:
            raise UsageError("say what to restore: one of --pass N, --media mxc://SERVER/ID and --all")
        if self.selection.media is not None and parse_media_uri(self.selection.media) is None:
            raise UsageError(f"`{printable(self.selection.media)}` is no medium; write it as mxc://SERVER/ID")
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
            "had no file, or one of another size than its row says, and is not brought back",
            report.without_file,
        ),
        ("is being worked on; try it again in a minute", report.busy),
        ("could not be brought back; the log says why, and it can be tried again", report.failed),
    ):
        for uri in uris:
            session.error(f"{printable(uri, _URI_LIMIT)} {why}", about=target)
