"""Plan what policies would take of thumbnails alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.model.policy import FIRST_BELIEVABLE_MS
from retentiond.model.report import Item
from retentiond.targets.dendrite_media.surveys.assess import assess
from retentiond.targets.dendrite_media.surveys.survey import SQL as DUE_SQL
from retentiond.targets.dendrite_media.thumbnails.ground import ThumbnailGround
from retentiond.targets.dendrite_media.thumbnails.release import by_hash
from retentiond.targets.dendrite_media.thumbnails.survey import SQL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import Hash
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.workplace import Place
    from retentiond.targets.dendrite_media.surveys.assess import Assessed
    from retentiond.targets.dendrite_media.surveys.means import Means


async def plan_thumbnails(
    place: Place, connection: Conn, tree: MediaTree, means: Means, report: PassReport, progress: Progress,
    listen: Callable[[Item], None] | None,
) -> None:  # fmt: skip
    """Count the media that would lose their thumbnails, and the bytes that would leave with those."""
    if not place.settings.rules.thumbnail_policies:
        return
    ground = ThumbnailGround(place, connection, means.now)
    await ground.surveyor.learn(means.copy, place.references.asked, plan=True)
    progress.stage("thumbnails", None)
    survey = await ground.surveyor.judge(means.now, progress)
    await connection.execute(DUE_SQL["leave_out_gone"])
    await ground.surveyor.narrow(means.now)
    await means.accesses.drop_accessed(survey, progress, listen=None)
    await ground.surveyor.keep(
        survey,
        ledger=means.belonging.ledger,
        copy=means.copy,
        protections=place.references.protections,
        plan=True,
    )
    refusal = ground.over_limit(survey, 0, 0, first=means.belonging.first)
    report.refused = report.refused or refusal
    counted: Hash | None = None
    async for batch in ground.surveyor.due(place.batch):
        assessed = await assess(tree, place.disk, batch, means.accesses)
        leaving = await _leaving(connection, assessed, ground.newest)
        for item in assessed:
            if not item.goes or not item.look.has_file:
                continue
            size = leaving.get(item.due.blob, 0) if item.due.blob != counted else 0
            counted = item.due.blob
            report.remove(ground.name_of(item.due), 1, size)
            if listen is not None:
                policy = ground.name_of(item.due)
                listen(Item(place.name, item.due.key.uri, "remove", "thumbnails", policy, size))
        progress.advance(len(batch))


async def _leaving(connection: Conn, assessed: Sequence[Assessed], newest: list[int]) -> dict[Hash, int]:
    """Return how many bytes leave of each content: files that no thumbnail row would know any more."""
    blobs = sorted({item.due.blob for item in assessed})
    rows = await connection.fetch(SQL["thumbnails_of"], blobs, FIRST_BELIEVABLE_MS, newest)
    going, staying = (by_hash([row for row in rows if row["goes"] is goes]) for goes in (True, False))
    sizes = {item.look.blob: dict(item.look.thumbnails) for item in assessed}
    return {
        blob: sum(sizes[blob].get(thumbnail, 0) for thumbnail in free - staying.get(blob, set()))
        for blob, free in going.items()
    }
