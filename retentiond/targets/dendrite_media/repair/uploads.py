"""Repair stale uploads: they are deleted for good, since a half upload is of no use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from retentiond.model.disk_errors import disk_error
from retentiond.targets.dendrite_media.audit.scan import UPLOADS
from retentiond.targets.dendrite_media.audit.uploads import look_at_uploads
from retentiond.targets.dendrite_media.disk.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.ledger.claims import ClaimOwner
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.repair.context import RepairContext


async def mend_uploads(bench: RepairContext) -> None:
    """Remove the uploads that still are stale."""
    session = bench.session
    async for page in bench.findings("stale_upload"):
        uploads = await session.context.disk.call(lambda: look_at_uploads(session.tree, bench.before))
        still = {finding.path for finding in uploads.findings if finding.kind == "stale_upload"}
        stale = [finding.path for finding in page if finding.path in still]
        bench.report.leave("stale_upload", "changed", len(page) - len(stale))
        failed = await session.context.disk.share(_remove(session.tree, session.claimant), stale)
        bench.report.repair("stale_upload", len(stale) - len(failed))
        bench.telling.fail("not_removed", failed)


def _remove(tree: MediaTree, claimant: ClaimOwner) -> Callable[[Sequence[str]], list[str]]:
    def remove(paths: Sequence[str]) -> list[str]:
        failed = []
        with Staging(tree, claimant.claimant_id) as staging, tree.directory(UPLOADS) as uploads:
            for path in paths:
                claimant.guard.ensure()
                try:
                    staging.take_apart(uploads, path.removeprefix(f"{UPLOADS}/"))
                except OSError as error:
                    failed.append(f"{path}: {disk_error(error)}")
            os.fsync(uploads)
            os.fsync(staging.descriptor)
        return failed

    return remove
