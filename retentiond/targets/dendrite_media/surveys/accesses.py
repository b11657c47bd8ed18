"""Access times: recently requested media are not due if a policy counts from the last access.

dendrite does not record accesses. The sources are the access times of the file and of its thumbnails, and a proxy's
access log; the newest counts. No access is before the creation, so only rows due by their creation are looked at,
before the limits are checked.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.policy import accessed_lately
from retentiond.model.report import Item
from retentiond.targets.dendrite_media.database.rows import key_columns
from retentiond.targets.dendrite_media.disk.access_probe import AccessProbe, probe_access_times
from retentiond.targets.dendrite_media.disk.look import look_at_blobs
from retentiond.targets.dendrite_media.store.context import open_media
from retentiond.targets.dendrite_media.surveys.access_log import AccessLog
from retentiond.targets.dendrite_media.surveys.survey import due_row, evicted_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import Hash, MediaKey
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.look import BlobLook
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.survey import Due, Survey

SQL: Final = named_queries(__package__, "accesses.sql")
_PAGE: Final = 2000


def _asks_for_accesses(context: TargetContext, *, policies: bool = True) -> bool:
    quotas = any(quota.evict == "least_recently_accessed" for quota in context.settings.quotas)
    return quotas or (policies and bool(context.settings.rules.by_access))


def _fallback(probe: AccessProbe) -> str:
    kept = ", except for media with a recent access time" if probe.shown else ""
    return f"{probe.reason}: policies with `since: accessed` count from creation{kept}"


async def notice_mount(context: TargetContext) -> None:
    """Log, at the start, that access times prove nothing; each pass repeats it, or refuses."""
    if context.config.access_log is not None or not _asks_for_accesses(context):
        return
    opened = await open_media(context, context.pool)
    if isinstance(opened, str):
        return
    with opened as tree:
        probe = await context.disk.call(lambda: probe_access_times(tree))
    if not probe.proven:
        get_logger(target=context.name).warning("access_times_missing", reason=_fallback(probe))


class AccessTimes:
    """The access times of one store, for one pass or plan that began at `now` on the connection."""

    def __init__(self, context: TargetContext, tree: MediaTree, connection: Conn, now: datetime) -> None:
        self._context = context
        self._tree = tree
        self._connection = connection
        self._now = now
        self._policies = context.settings.rules.policies
        self._log = AccessLog(context, context.config.access_log) if context.config.access_log else None
        self._probe = AccessProbe(shown=False)
        self._proven = False
        self.known = False

    async def prepare(
        self, report: PassReport, *, plan: bool = False, ledger: bool = True, policies: bool = True
    ) -> None:
        """Probe whether access times show reads; if that is not proven, fall back as configured, and report it.

        Without `policies` only quotas need them. A plan by a user without write access believes the mount, and
        reports it.

        Raise RefusedError if the configuration says refuse, or the log cannot be read.
        """
        if not _asks_for_accesses(self._context, policies=policies):
            return
        self._probe = await self._context.disk.call(lambda: probe_access_times(self._tree))
        self._proven = self._probe.proven or (plan and self._probe.untried)
        self.known = self._proven or self._log is not None
        if plan and self._probe.untried:
            report.remarks.append(f"{self._probe.reason}; a pass tests it before it relies on them")
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
        log, since = self._context.config.access_log, datetime.fromtimestamp(told, UTC)
        times = [self._policies[context].keep for context in self._context.settings.rules.by_access]
        if any(keep is not None and since > self._now - keep for keep in times):
            report.remarks.append(
                f"{log.path if log else ''} is complete only since {since:%Y-%m-%d %H:%M} UTC: media under policies "
                "with `since: accessed` stay until it covers their `keep`"
            )

    def _say_untold(self, report: PassReport) -> None:
        log, unread = self._context.config.access_log, self._log.unread if self._log else None
        remark = (
            f"the access log {unread} has not been read for a day, and may have new accesses: media under policies with "
            "`since: accessed` stay; run retentiond on that host, or wait until the log is dropped, after 30 days"
            if unread
            else f"{log.path if log else ''} shows no requests for media, or has no recent lines: media under policies with "
            "`since: accessed` stay; check that it is the log of dendrite's media, in the format that `access_log` names"
        )
        report.remarks.append(remark)
        get_logger(target=self._context.name).warning("access_log_tells_nothing", reason=remark)

    def _fall_back(self, report: PassReport) -> None:
        if self._context.config.since_fallback == "refuse":
            raise RefusedError(
                Refusal(
                    "no_access_times",
                    self._probe.reason,
                    "access times that reads move",
                    "store the media on a local file system that is mounted with relatime, or set `access_log` to the log "
                    "of a reverse proxy",
                )
            )
        remark = _fallback(self._probe)
        report.remarks.append(remark)
        get_logger(target=self._context.name).warning("access_times_missing", reason=remark)

    @property
    def tell(self) -> bool:
        """Whether any source shows accesses: even if a missing access time proves nothing, a recent one keeps."""
        return self.known or self._probe.shown

    async def accessed(self, dues: Iterable[Due], looks: Iterable[BlobLook]) -> set[MediaKey]:
        """Return the keys among these that an access keeps, though they are due by their creation."""
        asked = [due for due in dues if self._policies[due.policy].since == "accessed"] if self.tell else []
        if not asked:
            return set()
        # A file may have been read up to that much later than its access time says.
        read = {
            look.blob: look.accessed + self._probe.late
            for look in looks
            if self._probe.shown and look.accessed is not None
        }
        logged = await self._log.times(self._connection, [due.key for due in asked]) if self._log else {}
        floor = self._earliest_told()
        kept = set()
        for due in asked:
            times = [at for at in (read.get(due.blob), logged.get(due.key), floor) if at is not None]
            if accessed_lately(self._policies[due.policy], max(times, default=None), self._now):
                kept.add(due.key)
        return kept

    def _earliest_told(self) -> float | None:
        """Return from when on every access is known; before it an unknown access is possible."""
        if self._proven or self._log is None:
            return None
        now = self._now.timestamp()
        since = self._log.since_at(now)
        return now if since is None else since

    async def drop_accessed(
        self, survey: Survey, progress: Progress, listen: Callable[[Item], None] | None
    ) -> None:
        """Remove recently accessed rows from the due rows of the survey."""
        if not self.tell or not self._context.settings.rules.by_access:
            return
        policies = list(self._context.settings.rules.by_access)
        progress.stage("access", None)
        async for page in pages(
            self._connection, SQL["due_by_access_page"], policies, size=_PAGE, after=("", 0)
        ):
            progress.advance(len(page))
            dues = [due_row(row) for row in page]
            blobs: list[Hash] = sorted({due.blob for due in dues})
            looks = await self._context.disk.share(look_at_blobs(self._tree), blobs)
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
        return Item(self._context.name, due.key.uri, "keep", "not_due", self._policies[due.policy].name, 0)

    async def raise_contents(self) -> None:
        """Raise the access times of a quota's blobs by the log."""
        if self._log is not None and self.known:
            await self._log.raise_contents(self._connection)

    async def forget_old(self) -> None:
        """Delete the log's times of media whose rows are deleted."""
        if self._log is not None:
            await self._log.forget(self._connection)
