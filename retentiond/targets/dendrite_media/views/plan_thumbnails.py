"""Plan the removals of policies for thumbnails alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.policy import FIRST_BELIEVABLE_MS
from retentiond.model.report import Item
from retentiond.targets.dendrite_media.database.rows import key_columns
from retentiond.targets.dendrite_media.surveys.assess import assess
from retentiond.targets.dendrite_media.surveys.survey import SQL as DUE_SQL
from retentiond.targets.dendrite_media.surveys.thumbnails import SQL, ThumbnailCriteria, by_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import Hash
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.assess import Assessed
    from retentiond.targets.dendrite_media.surveys.plan_context import PlanContext


async def plan_thumbnails(
    context: TargetContext, connection: Conn, tree: MediaTree, means: PlanContext, report: PassReport, progress: Progress,
    listen: Callable[[Item], None] | None,
) -> None:  # fmt: skip
    """Count the media that would lose their thumbnails, and the bytes that would be freed."""
    if not context.settings.rules.thumbnail_policies:
        return
    criteria = ThumbnailCriteria(context, connection, means.now)
    await criteria.surveyor.learn(means.copy, context.references.asked, plan=True)
    progress.stage("thumbnails", None)
    survey = await criteria.surveyor.judge(means.now, progress)
    await connection.execute(DUE_SQL["leave_out_gone"])
    await criteria.surveyor.narrow(means.now)
    await means.accesses.drop_accessed(survey, progress, listen=None)
    await criteria.surveyor.keep(
        survey,
        ledger=means.belonging.ledger,
        copy=means.copy,
        protections=context.references.protections,
        plan=True,
    )
    report.count_policies(criteria.surveyor.matched, await criteria.surveyor.due_by())
    refusal = await criteria.over_limit_with(survey, report, first=means.belonging.first)
    report.refused = report.refused or refusal
    async for batch in criteria.surveyor.due(context.batch):
        assessed = await assess(tree, context.disk, batch, means.accesses)
        report.failed.update(item.failed for item in assessed if item.failed is not None)
        going = [item for item in assessed if item.goes and item.look.has_file]
        leaving = await _leaving(connection, going, criteria.newest or ())
        # As in a pass: of a blob's rows the last in the batch counts the bytes.
        last = {item.due.blob: item.due.key for item in going}
        for item in going:
            size = leaving.get(item.due.blob, 0) if item.due.key == last[item.due.blob] else 0
            policy = criteria.name_of(item.due)
            report.remove(policy, 1, size)
            if listen is not None:
                listen(Item(context.name, item.due.key.uri, "remove", "thumbnails", policy, size))
        progress.advance(len(batch))


async def _leaving(connection: Conn, going: Sequence[Assessed], newest: Sequence[int]) -> dict[Hash, int]:
    """Note the rows; return the bytes freed of each blob: files that no thumbnail row would reference any more."""
    await connection.execute(
        SQL["note_gone_thumbnails"],
        *key_columns([item.due.key for item in going]),
        [newest[item.due.policy] for item in going],
        [item.due.blob for item in going],
        FIRST_BELIEVABLE_MS,
    )
    freed = by_hash(await connection.fetch(SQL["free_thumbnails"], sorted({item.due.blob for item in going})))
    sizes = {item.look.blob: dict(item.look.thumbnails) for item in going}
    return {
        blob: sum(sizes[blob].get(thumbnail, 0) for thumbnail in thumbnails)
        for blob, thumbnails in freed.items()
    }
