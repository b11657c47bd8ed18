"""The criteria of a repair: rows whose file is missing, or damaged, and that another server still has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.match import Match, matches

if TYPE_CHECKING:
    from collections.abc import Collection

    from retentiond.model.audit import FindingKind
    from retentiond.model.facts import Facts
    from retentiond.model.media import Hash, MediaRow
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.mentioned import Mentions
    from retentiond.targets.dendrite_media.surveys.survey import Due

_REMOTE = Match(origin="remote")


def is_remote(context: TargetContext, row: MediaRow) -> bool:
    """Return whether dendrite can fetch the row's media again: a row with a user never is remote."""
    return matches(row, _REMOTE, context.settings.rules.server_names)


class MissingFileCriteria:
    """Remote rows whose file is missing, and that are fetched again once they are deleted.

    No protection applies: there is nothing to lose.
    """

    even_protected = True
    kind: FindingKind = "missing_file"

    def __init__(self, context: TargetContext) -> None:
        self._context = context
        self.references = context.references.only(())

    def name_of(self, due: Due) -> str:
        """Return the finding's kind, in place of a policy."""
        del due
        return self.kind

    async def mentions_again(self, rows: Collection[MediaRow], copy: int | None) -> Mentions:
        """Return nothing: the row is enough."""
        del rows, copy
        return {}

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the row belongs to another server."""
        del due, mentions
        return is_remote(self._context, row)

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return None: no reference matters."""
        del row, due
        return None


class DamagedFileCriteria(MissingFileCriteria):
    """Remote rows whose file is damaged, with a request to delete them; protected ones stay."""

    even_protected = False

    def __init__(self, context: TargetContext, kind: FindingKind, blobs: Collection[Hash]) -> None:
        super().__init__(context)
        self.kind = kind
        self.references = context.references.only(context.references.protections)
        self._blobs = blobs

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the row still belongs to a damaged blob, and to another server."""
        return row.base64hash in self._blobs and super().still_due(row, due, mentions)
