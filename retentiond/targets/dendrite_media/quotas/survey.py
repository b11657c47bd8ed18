"""A quota's survey: the rows that it matches, their size on the disk, and its choice of rows that no policy removes.

The oldest or least recently accessed go first, until the rest fits.

Rows are judged in pure code as they stream by; an order that no index gives is read once into temporary tables.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, pages
from retentiond.model.facts import facts_of_quota
from retentiond.model.limits import Counts
from retentiond.model.match import foreign_user, matches
from retentiond.model.media import Hash, valid_hash
from retentiond.model.mentions import ENCRYPTION
from retentiond.model.policy import KEEP_REASONS, decide
from retentiond.model.protections import ENCRYPTED
from retentiond.model.quota import decide_eviction, size_shortage
from retentiond.model.text import printable
from retentiond.targets.dendrite_media.database.rows import media_row
from retentiond.targets.dendrite_media.disk.look import look_at_blobs
from retentiond.targets.dendrite_media.references.encrypted import shown
from retentiond.targets.dendrite_media.store.safety import foreign_users
from retentiond.targets.dendrite_media.surveys.criteria import PolicyCriteria, over_limit
from retentiond.targets.dendrite_media.surveys.gone import freed_thumbnails, leave_out_gone
from retentiond.targets.dendrite_media.surveys.survey import LEARNED, Surveyor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.errors import Refusal
    from retentiond.model.facts import Facts
    from retentiond.model.media import MediaRow
    from retentiond.model.quota import Quota
    from retentiond.model.report import Item, PassReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import PlanContext, TargetContext
    from retentiond.targets.dendrite_media.surveys.accesses import AccessTimes
    from retentiond.targets.dendrite_media.surveys.asked import Mentions
    from retentiond.targets.dendrite_media.surveys.survey import Due, Survey

SQL: Final = named_queries(__package__, "survey.sql", shown=shown(LEARNED, row="m", copy="0", names="$2"))
_PAGE: Final = 2000


class QuotaSurveyor(Surveyor):
    """Finds the rows that a quota removes; call `judge` first, then `keep`, then `choose`."""

    def __init__(self, connection: Conn, context: TargetContext, quota: Quota) -> None:
        super().__init__(connection, context.name, context.settings.rules)
        self._context = context
        self._quota = quota

    async def judge(
        self, now: datetime, progress: Progress, listen: Callable[[Item], None] | None = None
    ) -> Survey:
        """Judge every row; the matching rows, and those of them that may be removed, go into temporary tables."""
        del listen
        survey = await self._begin()
        for statement in ("drop_matched", "make_matched", "make_content", "make_chosen"):
            await self._connection.execute(SQL[statement])
        async for page in self._pages():
            rows = [(media_row(record), self._mentions(record)) for record in page]
            survey.rows += len(rows)
            for row, _ in rows:
                if foreign_user(row, self._rules.server_names):
                    survey.foreign += 1
                    survey.foreign_example = printable(row.key.uri)
            await self._sort_out(rows, now)
            progress.advance(len(page))
        if survey.foreign:
            raise foreign_users(survey.foreign, survey.foreign_example)
        await leave_out_gone(self._connection)
        for statement in ("leave_out_matched", "sort_matched", "analyze_matched"):
            await self._connection.execute(SQL[statement])
        await self._finish()
        return survey

    async def _sort_out(self, rows: list[tuple[MediaRow, frozenset[str] | None]], now: datetime) -> None:
        matched, due = [], []
        rules = self._quota.rules(self._rules.server_names)
        for row, mentions in rows:
            if self._quota.match.asks_mentions:
                self.encryption.add(row, decide(row, rules, now, mentions), rules, mentions)
            spoken_of = matches(row, self._quota.match, self._rules.server_names, mentions)
            # An invalid hash has no path: the row takes no space and cannot be removed.
            if not spoken_of or valid_hash(row.base64hash) is None:
                continue
            self.matched[self._quota.name] += 1
            key = (row.base64hash, row.media_id, row.media_origin)
            matched.append((*key, max(0, row.file_size_bytes), row.creation_ts / 1000))
            evictable = decide_eviction(row, self._quota, self._rules, now, mentions)
            if evictable is not None:
                due.append((*key, KEEP_REASONS.index(evictable.stayed)))
        await self._connection.copy_records_to_table("matched", schema_name="pg_temp", records=matched)
        await self._connection.copy_records_to_table(
            "due", schema_name="pg_temp", records=due, columns=("hash", "media_id", "media_origin", "policy")
        )

    async def told_bytes(self) -> int:
        """Return the size of the rows' files by the database; a missing file counts all the same."""
        told: int = await self._connection.fetchval(SQL["matched_bytes"])
        return told

    async def live_bytes(self, tree: MediaTree, accesses: AccessTimes, progress: Progress) -> int:
        """Look at every blob on the disk, and return the total size."""
        async for page in pages(self._connection, SQL["content_page"], size=_PAGE, after=("",)):
            blobs = [Hash(row["hash"]) for row in page]
            freed = await freed_thumbnails(self._connection, blobs)
            looks = await self._context.disk.share(look_at_blobs(tree, freed), blobs)
            found = [(look.blob, look.bytes, look.accessed) for look in looks if look.result == "present"]
            await self._connection.copy_records_to_table("content", schema_name="pg_temp", records=found)
            progress.advance(len(page))
        await accesses.raise_contents()
        live: int = await self._connection.fetchval(SQL["live_bytes"])
        return live

    async def choose(self, shortage: int, *, by_access: bool) -> tuple[int, int]:
        """Leave only the chosen rows due; return their number and their size."""
        await self._connection.execute(SQL["choose"], shortage, by_access)
        await self._connection.execute(SQL["keep_chosen"])
        await self._count_encrypted()
        rows: int = await self._connection.fetchval(SQL["count_due"])
        size: int = await self._connection.fetchval(SQL["chosen_bytes"])
        return rows, size

    async def _count_encrypted(self) -> None:
        """Count, of the removable rows, only the chosen ones as due although an encrypted room may show them."""
        if not self.encryption.due:
            return
        names = sorted(self._rules.server_names)
        rows = await self._connection.fetch(SQL["count_encrypted"], sorted(ENCRYPTION), names)
        self.encryption.due = Counter(
            {(self._quota.name, row["source"] == ENCRYPTED): row["items"] for row in rows}
        )


class QuotaCriteria(PolicyCriteria):
    """One quota, at the time when its check began; limits and protections are those of the policies."""

    by_access = False
    counts_unreached = False
    surveyor: QuotaSurveyor

    def __init__(self, context: TargetContext, connection: Conn, quota: Quota, now: datetime) -> None:
        super().__init__(context, connection, now)
        self._quota = quota
        self.surveyor = QuotaSurveyor(connection, context, quota)

    def name_of(self, due: Due) -> str:
        """Return the quota's name."""
        del due
        return self._quota.name

    def stayed(self, due: Due) -> str | None:
        """Return the reason for which the policies keep the row."""
        return KEEP_REASONS[due.policy]

    async def over_limit(
        self, survey: Survey, report: PassReport, *, first: bool, missing: tuple[int, int] = (0, 0)
    ) -> Refusal | None:
        """Compare with the limits the due rows together with those that the same pass, or plan, removed before."""
        del first, missing
        taken = self.taken(report)
        # In a plan they are still in the table.
        rows = survey.rows if report.dry_run else survey.rows + taken
        # A quota removes by rank, not by age: its rows are never growth.
        counts = Counts(rows, survey.due + taken, growth=min(report.growth, taken))
        return await over_limit(self._context, self._connection, counts, first=False)

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the quota may still remove the row."""
        del due
        return decide_eviction(row, self._quota, self._rules, self._now, mentions.get(row.key)) is not None

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return the quota's conditions on references, and those of the policies with `keep: forever`."""
        del due
        return facts_of_quota(row, self._rules, self._quota)

    async def choose(
        self,
        plan: PlanContext,
        accesses: AccessTimes,
        short: int,
        keep: Callable[[Survey], Awaitable[None]],
        report: PassReport,
    ) -> Survey | None:
        """Leave due, the rows to remove so that the rest fits; None if there are none.

        `short` is the shortage of free disk space in bytes. `keep` marks the rows that holds, marks and protections keep.
        """
        quota, surveyor = self._quota, self.surveyor
        plan.progress.stage("quota", None)
        survey = await surveyor.judge(self._now, plan.progress)
        if not short and not size_shortage(quota, await surveyor.told_bytes()):
            return None
        by_access = quota.evict == "least_recently_accessed" and accesses.tell
        live = await surveyor.live_bytes(plan.tree, accesses, plan.progress)
        shortage = max(short, size_shortage(quota, live))
        if not shortage:
            return None
        await keep(survey)
        survey.due, size = await surveyor.choose(shortage, by_access=by_access)
        report.remarks += surveyor.encryption.remarks()
        if size < shortage:
            report.remarks.append(
                f"{quota.name}: {shortage:,} bytes too much, and only {size:,} of them may go; the rest is protected, "
                "held, kept forever, shared with media that stay, or too young"
            )
        return survey if survey.due else None
