"""retentiond at work on a test's own store, opened as the commands open it, with any keys of the configuration."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from retentiond.config.schema import Config
from retentiond.engine.target import NullProgress, PassOptions
from retentiond.targets.dendrite_media.target import open_dendrite_media
from tests.support.targets import as_media

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.model.report import Item, PassReport
    from retentiond.targets.dendrite_media.target import DendriteMedia

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
    """Each piece of work opens the target anew, with its own keys."""

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
        """Do one pass as the daemon does, which does not wait for a last sweep."""
        async with self.opened(**keys) as target:
            return await target.run_pass(PassOptions(command="run"))

    async def one_plan(self, **keys: Any) -> tuple[PassReport, list[Item]]:
        """Make a plan, and return its items, too."""
        items: list[Item] = []
        async with self.opened(**keys) as target:
            return await target.plan(items.append, NullProgress()), items
