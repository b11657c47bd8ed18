"""Access times: what was asked for lately is not due where a policy counts from the last access.

dendrite keeps no record of it. What tells is the access time of the file and of its thumbnails. Nothing is accessed
before it was created, so only what is due by its creation is looked at, before the limits are judged.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.media import Hash, MediaKey
from retentiond.model.policy import accessed_lately
from retentiond.model.report import Item
from retentiond.targets.dendrite_media.look import look_at_blobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.survey import Survey
    from retentiond.targets.dendrite_media.tree import MediaTree
    from retentiond.targets.dendrite_media.workplace import Place

SQL: Final = named_queries(__package__, "accesses.sql")
_PAGE: Final = 2000


def notes_access(tree: MediaTree) -> bool:
    """Tell whether the mount that holds the media directory notes when a file is read (once a day is enough)."""
    return not os.fstatvfs(tree.root).f_flag & os.ST_NOATIME


class AccessTimes:
    """The access times of one store, for one pass or plan that began at `now`."""

    def __init__(self, place: Place, tree: MediaTree, now: datetime) -> None:
        self._place = place
        self._tree = tree
        self._now = now
        self._policies = place.settings.rules.policies
        self._known = False

    async def prepare(self, report: PassReport) -> None:
        """See whether access times are to be had; where they are not, fall back as configured, and say so.

        Raises RefusedError where the configuration says refuse.
        """
        if not self._place.settings.rules.by_access:
            return
        self._known = await self._place.disk.call(lambda: notes_access(self._tree))
        if self._known:
            return
        if self._place.config.since_fallback == "refuse":
            raise RefusedError(
                Refusal(
                    "no_access_times",
                    f"{self._tree.path} is mounted noatime",
                    "access times",
                    "mount it with relatime, or set `since_fallback: created`",
                )
            )
        remark = f"{self._tree.path} is mounted noatime: `since: accessed` counts from creation"
        report.remarks.append(remark)
        get_logger(target=self._place.name).warning("access_times_missing", reason=remark)

    def keeps(self, policy: int, accessed: float | None) -> bool:
        """Tell whether an access at that time keeps what the policy would take."""
        return self._known and accessed_lately(self._policies[policy], accessed, self._now)

    async def drop_accessed(
        self, connection: Conn, survey: Survey, progress: Progress, listen: Callable[[Item], None] | None
    ) -> None:
        """Take what was accessed lately out of what the survey found due."""
        if not self._known:
            return
        policies = list(self._place.settings.rules.by_access)
        progress.stage("access", None)
        async for page in pages(
            connection, SQL["due_by_access_page"], policies, size=_PAGE, after=("", "", "")
        ):
            progress.advance(len(page))
            kept = await self._accessed(page)
            if not kept:
                continue
            await connection.execute(
                SQL["drop_from_due"],
                *([row[name] for row in kept] for name in ("hash", "media_id", "media_origin")),
            )
            survey.kept["not_due"] += len(kept)
            if listen is not None:
                for row in kept:
                    listen(self._kept_item(row))

    async def _accessed(self, page: list[Record]) -> list[Record]:
        blobs = sorted({Hash(row["hash"]) for row in page})
        looks = await self._place.disk.share(look_at_blobs(self._tree), blobs)
        accessed = {look.blob: look.accessed for look in looks}
        return [row for row in page if self.keeps(row["policy"], accessed[row["hash"]])]

    def _kept_item(self, row: Record) -> Item:
        uri = MediaKey(row["media_id"], row["media_origin"]).uri
        return Item(self._place.name, uri, "keep", "not_due", self._policies[row["policy"]].name, 0)
