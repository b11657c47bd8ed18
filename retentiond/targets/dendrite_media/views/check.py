"""`check-config --connect`: tests of all requirements of a pass, which change nothing that a pass would change."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from retentiond.adapters.postgres import translate_errors
from retentiond.config.rights import beside_owner
from retentiond.engine.target import NullProgress
from retentiond.ledger.lease import try_session
from retentiond.model.check import Check, PolicyCount
from retentiond.model.disk_errors import disk_error
from retentiond.model.errors import RefusedError, RetentiondError, UnreachableError
from retentiond.targets.dendrite_media.database.index import index_stands
from retentiond.targets.dendrite_media.database.rights import ensure_tables, may_delete, owns_media
from retentiond.targets.dendrite_media.disk.layout import OWN, QUARANTINE, STAGING
from retentiond.targets.dendrite_media.store.context import open_media
from retentiond.targets.dendrite_media.views.plan import plan

if TYPE_CHECKING:
    from retentiond.model.errors import Refusal
    from retentiond.model.report import PassReport
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext


async def check(context: TargetContext) -> Check:
    """Test the database, the rights, the media directory, and a plan, which counts the rows of each policy."""
    problems: list[RetentiondError] = []
    policies: list[PolicyCount] = []
    notes: list[str] = []
    try:
        with translate_errors("the database"):
            problems += await _try_session(context)
            await ensure_tables(context.pool)
            problems += map(UnreachableError, await _check_rights(context))
            of_directory = await _check_directory(context)
            problems += map(UnreachableError, of_directory)
            report = await plan(context, None, NullProgress())
        policies = _count_policies(context, report)
        notes = report.remarks
        if report.refused is not None and not any(_tells(problem, report.refused) for problem in problems):
            problems.append(RefusedError(report.refused))
        if report.failed.total() and not of_directory:
            words = f"{report.failed.total()} due items cannot be moved by this user; run retentiond as the user of dendrite"
            problems.append(UnreachableError(words + beside_owner(context.settings.media_path)))
    except RetentiondError as error:
        problems.append(error)
    return Check(problems, policies, notes)


def _count_policies(context: TargetContext, report: PassReport) -> list[PolicyCount]:
    """Return the counts of all policies and quotas, or an empty list if the plan ended before its survey."""
    if (matched := report.matched) is None:
        return []
    settings = context.settings
    return [
        *(
            PolicyCount(policy.name, matched[policy.name], report.due_by[policy.name])
            for policy in settings.rules.policies
        ),
        *(PolicyCount(quota.name, matched[quota.name], None) for quota in settings.quotas),
    ]


async def _try_session(context: TargetContext) -> list[RetentiondError]:
    """Make the checks of a pass on the connection that holds its lease."""
    try:
        await try_session(context.settings.database)
    except RefusedError as error:
        return [error]
    return []


def _tells(problem: RetentiondError, refusal: Refusal) -> bool:
    return isinstance(problem, RefusedError) and problem.refusal.limit == refusal.limit


async def _check_rights(context: TargetContext) -> list[str]:
    async with context.pool.acquire() as connection:
        missing = await context.ledger.missing_right(connection)
        problems = [missing] if missing else []
        if await connection.fetchval("SHOW default_transaction_read_only") == "on":
            problems.append(
                "this role or database is read-only by default, and a pass writes; set default_transaction_read_only "
                "to off for it"
            )
        if not await may_delete(connection):
            problems.append("the role may not change dendrite's media tables; connect as dendrite's own role")
        if (
            context.config.create_index
            and not await index_stands(connection)
            and not await owns_media(connection)
        ):
            problems.append(
                "the role does not own mediaapi_media_repository and cannot create the index that makes passes "
                "fast; connect as its owner, or set create_index: false"
            )
    return problems


async def _check_directory(context: TargetContext) -> list[str]:
    opened = await open_media(context, context.pool)
    if isinstance(opened, str):
        return []
    with opened as tree:
        return await context.disk.call(lambda: _check_rights_in(tree))


def _check_rights_in(tree: MediaTree) -> list[str]:
    if os.fstatvfs(tree.root).f_flag & os.ST_RDONLY:
        # The kernel denies the right to write, too, and no other user would have it.
        return [f"{tree.path}: {disk_error(OSError(errno.EROFS, os.strerror(errno.EROFS)))}"]
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=tree.root, effective_ids=True):
        return [
            f"this user may not write in {tree.path}; run retentiond as the user of dendrite{beside_owner(tree.path)}"
        ]
    if _quarantine_stands(tree):
        # It leaves nothing behind; before the first pass there is no directory to test.
        tree.probe()
    return []


def _quarantine_stands(tree: MediaTree) -> bool:
    try:
        for name in (QUARANTINE, STAGING):
            os.close(tree.open_directory(OWN, name))
    except OSError:
        # The plan reports its error, unless it is just missing.
        return False
    return True
