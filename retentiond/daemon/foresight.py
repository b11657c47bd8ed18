"""Says what a policy that a reload shortened will take, while there is time to mend it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from retentiond.adapters.logging import get_logger
from retentiond.config.schema import TargetConfig
from retentiond.daemon.settings import keep_text
from retentiond.engine.target import Silence, Target
from retentiond.model.errors import RetentiondError
from retentiond.model.report import Tally

if TYPE_CHECKING:
    from retentiond.daemon.terms import Reprieve, Terms
    from retentiond.model.report import PassReport

OpenTarget = Callable[[str, TargetConfig], AbstractAsyncContextManager[Target]]
"""Opens a target by its name and configuration; entering it may raise RetentiondError."""


class Foresight:
    """The shortened policies of one target; each is told once."""

    def __init__(self, name: str, open_target: OpenTarget) -> None:
        self._name = name
        self._open_target = open_target
        self._told: set[Reprieve] = set()

    async def tell(self, terms: Terms) -> None:
        """Log what is new in the terms, with what it would free by a plan; without, where there can be none."""
        untold = [new for new in terms.reprieves if new not in self._told]
        if not untold:
            return
        config = terms.settings.config
        error: str | None = None
        report: PassReport | None = None
        try:
            async with self._open_target(self._name, config) as target:
                report = await target.plan(None, Silence())
        except RetentiondError as failure:
            error = str(failure)
        for reprieve in untold:
            self._log(reprieve, config, report, error)
        self._told.update(untold)

    def _log(
        self, reprieve: Reprieve, config: TargetConfig, report: PassReport | None, error: str | None
    ) -> None:
        fields: dict[str, object] = {"error": error}
        if report is not None:
            freed = report.removed.get(reprieve.policy, Tally())
            fields = {"would_remove": {"items": freed.items, "bytes": freed.bytes}}
        get_logger().warning(
            "policy_shortened",
            target=self._name,
            policy=reprieve.policy,
            keep_before=keep_text(reprieve.keep),
            keep=keep_text(config.keeps[reprieve.policy]),
            not_before=reprieve.until,
            **fields,
        )
