"""The context of one plan, which a dry run counts and a pass carries out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress, Stop
    from retentiond.model.report import Item
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import TargetContext


@dataclass(frozen=True, slots=True)
class PlanContext:
    """The store, the connection for its surveys, and the time of the plan.

    A `dry` one changes nothing, and tells `listen` each item; there may be no `ledger` yet. `first`: no pass has been.
    """

    target: TargetContext
    tree: MediaTree
    connection: Conn
    now: datetime
    progress: Progress
    stop: Stop
    dry: bool
    ledger: bool
    first: bool
    listen: Callable[[Item], None] | None = None
