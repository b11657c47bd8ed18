"""The context of each step of a repair."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from retentiond.engine.passes import Pace
from retentiond.targets.dendrite_media.audit.confirm import Confirmer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import AuditOptions
    from retentiond.ledger.lease import Lease
    from retentiond.model.audit import AuditReport, Finding, FindingKind
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.audit.contents import ContentOnDisk
    from retentiond.targets.dendrite_media.audit.judge import ContentInDatabase
    from retentiond.targets.dendrite_media.audit.telling import Telling
    from retentiond.targets.dendrite_media.repair.notes import Notes
    from retentiond.targets.dendrite_media.store.context import StoreSession


@dataclass(frozen=True, slots=True)
class RepairContext:
    """A running repair: the store, the connection and lease of its transactions, and the findings to repair.

    Files changed after `before` (seconds since the epoch) may be in use.
    """

    session: StoreSession
    connection: Conn
    lease: Lease
    notes: Notes
    telling: Telling
    order: AuditOptions
    pass_id: int
    before: float

    @property
    def report(self) -> AuditReport:
        """The report of the repair."""
        return self.telling.report

    async def findings(self, *kinds: FindingKind) -> AsyncIterator[list[Finding]]:
        """Yield the findings of these kinds at the configured pace, until a stop is requested."""
        # A slow pace must not keep a stop waiting.
        pace = Pace(self.session.context.config.pace.max_items_per_second, sleep=self.order.stop.wait)
        for kind in kinds:
            async with aclosing(self.notes.of_kind(kind)) as noted:
                async for page in noted:
                    await pace.take(len(page))
                    if self.order.stop.asked:
                        self.report.leave(kind, "stopped", len(page))
                        continue
                    yield page
                    self.order.progress.advance(len(page))

    async def look(self, blobs: Sequence[Hash]) -> dict[Hash, tuple[ContentInDatabase, ContentOnDisk]]:
        """Look once more, before anything is removed."""
        confirmer = Confirmer(self.session.context, self.session.tree, ledger=True, before=self.before)
        return await confirmer.once(blobs)
