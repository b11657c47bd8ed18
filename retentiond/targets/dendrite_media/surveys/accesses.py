"""Access times: what was asked for lately is not due where a policy counts from the last access.

dendrite keeps no record of it. What tells is the access time of the file and of its thumbnails, and a proxy's access
log; the newest counts. Nothing is accessed before it was created, so only what is due by its creation is looked at,
before the limits are judged.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.policy import accessed_lately
from retentiond.model.report import Item
from retentiond.targets.dendrite_media.database.rows import key_columns
from retentiond.targets.dendrite_media.disk.look import look_at_blobs
from retentiond.targets.dendrite_media.disk.tree import MediaTree
from retentiond.targets.dendrite_media.surveys.access_log import AccessLog
from retentiond.targets.dendrite_media.surveys.survey import due_row, evicted_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import Hash, MediaKey
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.look import BlobLook
    from retentiond.targets.dendrite_media.store.workplace import Place
    from retentiond.targets.dendrite_media.surveys.survey import Due, Survey

SQL: Final = named_queries(__package__, "accesses.sql")
_PAGE: Final = 2000
# FS_IOC_GETFLAGS and FS_NOATIME_FL of the kernel, which Python does not name.
_GET_ATTRIBUTES: Final = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
_NO_ACCESS_TIMES: Final = 0x80


def notes_access(tree: MediaTree) -> bool:
    """Tell whether it is noted when a file is read (once a day is enough).

    The mount may spare itself that, or the directory, whose attribute all that is made in it inherits (`chattr +A`).
    """
    return not os.fstatvfs(tree.root).f_flag & os.ST_NOATIME and not _attributes(tree.root) & _NO_ACCESS_TIMES


def _attributes(descriptor: int) -> int:
    flags = bytearray(struct.calcsize("l"))
    try:
        fcntl.ioctl(descriptor, _GET_ATTRIBUTES, flags)
    except OSError:
        # This file system knows none.
        return 0
    return int.from_bytes(flags[:4], sys.byteorder)


def _asks_for_accesses(place: Place, *, policies: bool = True) -> bool:
    quotas = any(quota.evict == "least_recently_accessed" for quota in place.settings.quotas)
    return quotas or (policies and bool(place.settings.rules.by_access))


def _missing(path: Path) -> str:
    return f"{path} keeps no access times (noatime, or chattr +A): what counts from the last access counts from creation"


async def notice_mount(place: Place) -> None:
    """Say, at the start, that access times are not to be had; each pass says so again, or refuses."""
    if place.config.access_log is not None or not _asks_for_accesses(place):
        return
    with await place.disk.call(lambda: MediaTree(place.settings.media_path)) as tree:
        noted = await place.disk.call(lambda: notes_access(tree))
    if not noted:
        get_logger(target=place.name).warning("access_times_missing", reason=_missing(tree.path))


class AccessTimes:
    """The access times of one store, for one pass or plan that began at `now` on the connection."""

    def __init__(self, place: Place, tree: MediaTree, connection: Conn, now: datetime) -> None:
        self._place = place
        self._tree = tree
        self._connection = connection
        self._now = now
        self._policies = place.settings.rules.policies
        self._log = AccessLog(place, place.config.access_log) if place.config.access_log else None
        self._noted = False
        self.known = False

    async def prepare(
        self, report: PassReport, *, plan: bool = False, ledger: bool = True, policies: bool = True
    ) -> None:
        """See where access times are to be had; where they are not, fall back as configured, and say so.

        Without `policies` only quotas need them.

        Raises RefusedError where the configuration says refuse, or the log cannot be read.
        """
        if not _asks_for_accesses(self._place, policies=policies):
            return
        self._noted = await self._place.disk.call(lambda: notes_access(self._tree))
        self.known = self._noted or self._log is not None
        if self._log is not None and plan:
            await self._log.follow_for_plan(self._connection, ledger=ledger)
        elif self._log is not None:
            await self._log.follow(self._connection)
        if not self.known:
            self._fall_back(report)
        elif policies:
            self._say_since_when(report)

    def _say_since_when(self, report: PassReport) -> None:
        told = self._earliest_told()
        if told is None:
            return
        if told == self._now.timestamp():
            self._say_untold(report)
            return
        log, since = self._place.config.access_log, datetime.fromtimestamp(told, UTC)
        times = [self._policies[place].keep for place in self._place.settings.rules.by_access]
        if any(keep is not None and since > self._now - keep for keep in times):
            report.remarks.append(
                f"{log.path if log else ''} tells of every access only since {since:%Y-%m-%d %H:%M} UTC: what counts from the "
                "last access stays until it has done so for as long as its policy keeps"
            )

    def _say_untold(self, report: PassReport) -> None:
        log = self._place.config.access_log
        remark = (
            f"{log.path if log else ''} shows no media being asked for, or is not written to of late: what counts from the "
            "last access stays; see that it is the log of dendrite's media, in the format that `access_log` names"
        )
        report.remarks.append(remark)
        get_logger(target=self._place.name).warning("access_log_tells_nothing", reason=remark)

    def _fall_back(self, report: PassReport) -> None:
        if self._place.config.since_fallback == "refuse":
            raise RefusedError(
                Refusal(
                    "no_access_times",
                    f"{self._tree.path} keeps none (noatime, or chattr +A)",
                    "access times",
                    "mount it with relatime and without chattr +A, name a proxy's `access_log`, or set `since_fallback: created`",
                )
            )
        remark = _missing(self._tree.path)
        report.remarks.append(remark)
        get_logger(target=self._place.name).warning("access_times_missing", reason=remark)

    async def accessed(self, dues: Iterable[Due], looks: Iterable[BlobLook]) -> set[MediaKey]:
        """Return the keys among these that an access keeps, though they are due by their creation."""
        asked = [due for due in dues if self._policies[due.policy].since == "accessed"] if self.known else []
        if not asked:
            return set()
        read = {look.blob: look.accessed for look in looks} if self._noted else {}
        logged = await self._log.times(self._connection, [due.key for due in asked]) if self._log else {}
        floor = self._earliest_told()
        kept = set()
        for due in asked:
            times = [at for at in (read.get(due.blob), logged.get(due.key), floor) if at is not None]
            if accessed_lately(self._policies[due.policy], max(times, default=None), self._now):
                kept.add(due.key)
        return kept

    def _earliest_told(self) -> float | None:
        """Return from when on an access is sure to be known; what was before that might have been one."""
        if self._noted or self._log is None:
            return None
        now = self._now.timestamp()
        since = self._log.known.since_at(now)
        return now if since is None else since

    async def drop_accessed(
        self, survey: Survey, progress: Progress, listen: Callable[[Item], None] | None
    ) -> None:
        """Take what was accessed lately out of what the survey found due."""
        if not self.known or not self._place.settings.rules.by_access:
            return
        policies = list(self._place.settings.rules.by_access)
        progress.stage("access", None)
        async for page in pages(
            self._connection, SQL["due_by_access_page"], policies, size=_PAGE, after=("", 0)
        ):
            progress.advance(len(page))
            dues = [due_row(row) for row in page]
            blobs: list[Hash] = sorted({due.blob for due in dues})
            looks = await self._place.disk.share(look_at_blobs(self._tree), blobs)
            accessed = await self.accessed(dues, looks)
            kept = [due for due in dues if due.key in accessed]
            if not kept:
                continue
            keys = key_columns(due.key for due in kept)
            await self._connection.execute(SQL["drop_from_due"], [due.blob for due in kept], *keys)
            survey.kept["not_due"] += len(kept)
            if listen is not None:
                untold = await evicted_of(self._connection, [due.key for due in kept])
                for due in kept:
                    if due.key not in untold:
                        listen(self._kept_item(due))

    def _kept_item(self, due: Due) -> Item:
        return Item(self._place.name, due.key.uri, "keep", "not_due", self._policies[due.policy].name, 0)

    async def raise_contents(self) -> None:
        """Let the log have its say in a quota's contents, too."""
        if self._log is not None and self.known:
            await self._log.raise_contents(self._connection)

    async def forget_old(self) -> None:
        """Forget what the log told of media that are gone."""
        if self._log is not None:
            await self._log.forget(self._connection)
