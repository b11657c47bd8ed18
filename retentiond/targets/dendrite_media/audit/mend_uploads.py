"""Mend stale uploads: they go for good, since nobody can know what they would have become."""

from __future__ import annotations

import os
import re
import secrets
from typing import TYPE_CHECKING, Final

from retentiond.targets.dendrite_media.audit.scan import UPLOADS
from retentiond.targets.dendrite_media.audit.uploads import look_at_uploads
from retentiond.targets.dendrite_media.layout import PURGING
from retentiond.targets.dendrite_media.moves import named_error, unlink_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from retentiond.targets.dendrite_media.audit.bench import Bench
    from retentiond.targets.dendrite_media.tree import MediaTree

_LEFT: Final = re.compile(r"\d{1,19}\.upload\.[0-9a-f]{16}", re.ASCII)


async def mend_uploads(bench: Bench) -> None:
    """Remove what still is stale."""
    work = bench.work
    if "stale_upload" in bench.report.findings:
        await work.place.disk.call(lambda: _finish(work.tree))
    async for page in bench.findings("stale_upload"):
        uploads = await work.place.disk.call(lambda: look_at_uploads(work.tree, bench.before))
        still = {finding.path for finding in uploads.findings if finding.kind == "stale_upload"}
        stale = [finding.path for finding in page if finding.path in still]
        bench.report.leave("stale_upload", "changed", len(page) - len(stale))
        work.claimant.guard.ensure()
        removal = _remove(work.tree, bench.pass_id)
        failed = await work.place.disk.share(removal, stale)
        bench.report.repair("stale_upload", len(stale) - len(failed))
        bench.telling.fail("not_removed", failed)


def _remove(tree: MediaTree, pass_id: int) -> Callable[[Sequence[str]], list[str]]:
    def remove(paths: Sequence[str]) -> list[str]:
        failed = []
        grave = tree.own_directory(PURGING)
        try:
            with tree.directory(UPLOADS) as uploads:
                for path in paths:
                    # Away first, as a whole: a crash leaves no half of it among the uploads.
                    name = f"{pass_id}.upload.{secrets.token_hex(8)}"
                    try:
                        os.rename(
                            path.removeprefix(f"{UPLOADS}/"), name, src_dir_fd=uploads, dst_dir_fd=grave
                        )
                        unlink_directory(grave, name)
                    except OSError as error:
                        failed.append(f"{path}: {named_error(error)}")
                os.fsync(uploads)
            os.fsync(grave)
        finally:
            os.close(grave)
        return failed

    return remove


def _finish(tree: MediaTree) -> None:
    """Unlink what a repair that died had taken away; the store's lease is ours, so no other is at it."""
    grave = tree.own_directory(PURGING)
    try:
        for name in os.listdir(grave):
            if _LEFT.fullmatch(name):
                unlink_directory(grave, name)
    finally:
        os.close(grave)
