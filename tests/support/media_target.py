"""retentiond on a test's own store: passes, plans and audits, with any keys, and time that passes for its ledger alone."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from retentiond.config.media import MediaTarget
from retentiond.config.schema import Config
from retentiond.engine.target import AuditOptions, NullProgress, PassOptions
from retentiond.targets.dendrite_media.target import open_dendrite_media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import asyncpg

    from retentiond.config.schema import TargetConfig
    from retentiond.model.audit import AuditReport, Finding
    from retentiond.model.report import Item, PassReport
    from retentiond.targets.dendrite_media.target import DendriteMedia


def media_target(config: Config, name: str = "media") -> MediaTarget:
    """Return a target of a configuration, which must be of media."""
    return as_media(config.targets[name])


def as_media(target: TargetConfig) -> MediaTarget:
    """Return the target, which must be of media."""
    assert isinstance(target, MediaTarget)
    return target


REMOTE = {"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}


def configure(database: str, media_path: Path, **keys: Any) -> Config:
    """Return the configuration of one target `media`, of `here.test`, without limits that tiny stores would pass."""
    target = {
        "kind": "dendrite_media",
        "database": database,
        "media_path": str(media_path),
        "server_name": "here.test",
        "policies": [REMOTE],
        "limits": {"max_share": 1.0, "max_missing_files": 1.0},
    }
    return Config.model_validate({"targets": {"media": target | keys}})


class Retention:
    """A target on a test's store; each call opens it anew, with its own keys."""

    def __init__(self, database: str, media_path: Path) -> None:
        self.database = database
        self.media_path = media_path

    @asynccontextmanager
    async def opened(self, **keys: Any) -> AsyncIterator[DendriteMedia]:
        """Open the target."""
        config = configure(self.database, self.media_path, **keys)
        async with open_dendrite_media("media", as_media(config.targets["media"])) as target:
            yield target

    async def one_pass(self, **keys: Any) -> PassReport:
        """Run a pass as the daemon does, without the last sweep of a pass by hand."""
        async with self.opened(**keys) as target:
            return await target.run_pass(PassOptions(command="run"))

    async def one_plan(self, **keys: Any) -> tuple[PassReport, list[Item]]:
        """Make a plan; return it with its items."""
        items: list[Item] = []
        async with self.opened(**keys) as target:
            return await target.plan(items.append, NullProgress()), items


WHEN_ALL_IS_OLD = timedelta(days=2)
"""How far in the future an audit is: a file's ctime cannot be set back."""


async def one_audit(
    retention: Retention,
    *,
    in_future: timedelta = WHEN_ALL_IS_OLD,
    keys: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[AuditReport, list[Finding]]:
    """Run an audit; return its report and findings. `keys` are those of the configuration."""
    findings: list[Finding] = []
    now = datetime.now(UTC) + in_future
    command = "audit --repair" if options.get("repair") else "audit"
    async with retention.opened(**(keys or {})) as target:
        report = await target.audit(AuditOptions(command, listen=findings.append, now=now, **options))
    assert sum(tally.items for tally in report.findings.values()) == len(findings)
    return report, findings


async def one_repair(retention: Retention, **options: Any) -> AuditReport:
    """Run a repair, without its last sweep."""
    # With a settle of less than a minute a repair by hand does not wait for dendrite's time-outs.
    keys = {"settle": "5s"} | options.pop("keys", {})
    report, _ = await one_audit(retention, repair=True, keys=keys, **options)
    return report


def counts(report: AuditReport) -> dict[str, int]:
    """Count the findings of each kind."""
    return {kind: tally.items for kind, tally in report.findings.items()}


_MOMENTS: Final = {
    "entry": ("renamed_at", "looked_at", "retry_at", "grace_until"),
    "released_media": ("released_at", "grace_until"),
    "released_thumbnail": ("released_at", "grace_until"),
    "thumbnail_release": ("released_at", "grace_until"),
    "shared_blob": ("noted_at",),
    "suspect_thumbnail": ("seen_at",),
    "reference_copy": ("begun_at",),
    "room_seen": ("first_seen",),
}


async def let_pass(connection: asyncpg.Connection[asyncpg.Record], time: timedelta) -> None:
    """Move all times in the ledger into the past, so that a test need not wait."""
    for table, columns in _MOMENTS.items():
        changes = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
        await connection.execute(f"UPDATE retentiond.{table} SET {changes}", time)
