"""The second look: each suspect is compared closely, twice, and is a finding only if both comparisons find it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retentiond.targets.dendrite_media.audit.contents import look_at_contents
from retentiond.targets.dendrite_media.audit.database import look_up
from retentiond.targets.dendrite_media.audit.judge import is_whole, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.model.audit import Finding
    from retentiond.model.media import Hash
    from retentiond.targets.dendrite_media.audit.contents import ContentOnDisk
    from retentiond.targets.dendrite_media.audit.judge import ContentInDatabase
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext


@dataclass(slots=True)
class Looked:
    """The result of the looks at some blobs: findings, blobs whose file can be trusted, and unreadable ones."""

    findings: list[Finding] = field(default_factory=list)
    whole: list[Hash] = field(default_factory=list)
    unreadable: list[ContentOnDisk] = field(default_factory=list)


class Confirmer:
    """Compares blobs on the disk and in the database; `ledger` is whether a quarantine exists."""

    def __init__(self, context: TargetContext, tree: MediaTree, *, ledger: bool, before: float) -> None:
        self._context = context
        self._tree = tree
        self._ledger = ledger
        self._before = before

    async def look(self, blobs: Sequence[Hash]) -> Looked:
        """Look twice, and return the findings of both looks."""
        first = await self.once(blobs)
        doubtful = [blob for blob, (known, seen) in first.items() if judge(known, seen, self._before)]
        second = await self.once(doubtful)
        looked = Looked()
        for blob, (known, seen) in (first | second).items():
            if seen.unreadable:
                looked.unreadable.append(seen)
            if blob in second:
                before = {_identity(finding) for finding in judge(*first[blob], self._before)}
                found = judge(known, seen, self._before)
                looked.findings += [finding for finding in found if _identity(finding) in before]
            if is_whole(known, seen):
                looked.whole.append(blob)
        return looked

    async def once(self, blobs: Sequence[Hash]) -> dict[Hash, tuple[ContentInDatabase, ContentOnDisk]]:
        """Look once: at the database, and then at the disk.

        dendrite writes the file before the row, so the file of each visible row exists.
        """
        if not blobs:
            return {}
        known = await look_up(self._context.pool, blobs, ledger=self._ledger)
        seen = await self._context.disk.share(look_at_contents(self._tree), blobs)
        return {content.blob: (known[content.blob], content) for content in seen}


def _identity(finding: Finding) -> tuple[object, ...]:
    return finding.kind, finding.path, finding.key
