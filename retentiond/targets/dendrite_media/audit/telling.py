"""Report findings: the report counts them, a listener or the log gets each, a repair takes notes."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from retentiond.model.audit import AuditReport, Finding

MOST_LOGGED: Final = 10_000
"""The largest number of findings of a kind that one audit logs; a log cannot hold a million of them."""


class Telling:
    """Reports findings. `listen` replaces the log; `note` keeps them for a repair."""

    def __init__(
        self,
        report: AuditReport,
        listen: Callable[[Finding], None] | None,
        note: Callable[[Sequence[Finding]], Awaitable[None]] | None = None,
    ) -> None:
        self.report = report
        self._listen = listen
        self._note = note
        self._logged: Counter[str] = Counter()
        self._log = get_logger(target=report.target)

    async def tell(self, findings: Sequence[Finding]) -> None:
        """Report confirmed findings."""
        for finding in findings:
            self.report.add(finding)
            if self._listen is not None:
                self._listen(finding)
            else:
                self._write(finding)
        if self._note is not None and findings:
            await self._note(findings)

    def fail(self, reason: str, what: Sequence[str]) -> None:
        """Report a path that could not be read, or repaired."""
        self.report.fail(reason, len(what))
        for path in what:
            self._log.error("item_failed", kind=reason, path=path)

    def _write(self, finding: Finding) -> None:
        self._logged[finding.kind] += 1
        if self._logged[finding.kind] <= MOST_LOGGED:
            self._log.warning(
                "inconsistency",
                kind=finding.kind,
                media=finding.media,
                path=finding.path,
                bytes=finding.bytes,
                detail=finding.detail,
            )
        elif self._logged[finding.kind] == MOST_LOGGED + 1:
            self._log.warning(
                "inconsistencies_left_out", kind=finding.kind, hint="`retentiond audit --list` lists each"
            )
