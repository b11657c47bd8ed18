"""The policies in force: a policy shortened by a reload takes effect a day later, and its effect is logged at once.

The delay is kept in memory: after a restart the configuration applies as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.config.schema import TargetConfig
from retentiond.daemon.settings import keep_text
from retentiond.engine.target import NullProgress, Target
from retentiond.model.errors import RetentiondError
from retentiond.model.report import Tally

if TYPE_CHECKING:
    from retentiond.daemon.settings import TargetSettings
    from retentiond.model.report import PassReport

_log = get_logger()

DELAY: Final = timedelta(hours=24)
"""Time from a reload to the first pass that applies a policy shortened by it."""


@dataclass(frozen=True, slots=True)
class DeferredChange:
    """A policy that keeps its longer `keep` (None: forever) until then."""

    policy: str
    keep: timedelta | None
    until: datetime


@dataclass(frozen=True, slots=True)
class EffectivePolicies:
    """The settings of a target, and the deferred changes of its policies."""

    settings: TargetSettings
    deferred: tuple[DeferredChange, ...] = ()

    def in_force(self, moment: datetime) -> TargetSettings:
        """Return the settings at a moment: a policy with a deferred change has its longer `keep`."""
        keeps = {change.policy: change.keep for change in self.deferred if moment < change.until}
        if not keeps:
            return self.settings
        return replace(self.settings, config=self.settings.config.with_keeps(keeps))

    def reloaded(self, settings: TargetSettings, moment: datetime) -> EffectivePolicies:
        """Return the effective policies after a reload at that moment."""
        before = self.settings.config.keeps
        in_force = self.in_force(moment).config.keeps
        deferred = []
        for name, keep in settings.config.keeps.items():
            was = _name_before(name, self.settings.config, settings.config)
            if was is None or not _shorter(keep, in_force[was]):
                continue
            if _shorter(keep, before[was]):
                deferred.append(DeferredChange(name, in_force[was], moment + DELAY))
            else:  # an earlier reload shortened it
                deferred += [replace(change, policy=name) for change in self.deferred if change.policy == was]
        return EffectivePolicies(settings, tuple(deferred))


def _name_before(name: str, before: TargetConfig, now: TargetConfig) -> str | None:
    """Return the former name of a policy: a renamed policy with the same match is no new policy."""
    if name in before.keeps:
        return name
    match = now.matches.get(name)
    renamed = (old for old, was in before.matches.items() if old not in now.keeps and was == match)
    return next(renamed, None)


def _shorter(keep: timedelta | None, than: timedelta | None) -> bool:
    return keep is not None and (than is None or keep < than)


OpenTarget = Callable[[str, TargetConfig], AbstractAsyncContextManager[Target]]
"""Opens a target by its name and configuration; entering it may raise RetentiondError."""


class ShorteningPreview:
    """Logs the effect of the shortened policies of one target, once for each."""

    def __init__(self, name: str, open_target: OpenTarget) -> None:
        self._name = name
        self._open_target = open_target
        self._logged: set[DeferredChange] = set()

    async def tell(self, policies: EffectivePolicies) -> None:
        """Log each new deferred change, with the items that a plan counts for it, or the error of the plan."""
        new = [new for new in policies.deferred if new not in self._logged]
        if not new:
            return
        config = policies.settings.config
        error: str | None = None
        report: PassReport | None = None
        try:
            async with self._open_target(self._name, config) as target:
                report = await target.plan(None, NullProgress())
        except RetentiondError as failure:
            error = str(failure)
        for change in new:
            self._log(change, config, report, error)
        self._logged.update(new)

    def _log(
        self, change: DeferredChange, config: TargetConfig, report: PassReport | None, error: str | None
    ) -> None:
        fields: dict[str, object] = {"error": error}
        if report is not None:
            freed = report.removed.get(change.policy, Tally())
            fields = {"would_remove": {"items": freed.items, "bytes": freed.bytes}}
        _log.warning(
            "policy_shortened",
            target=self._name,
            policy=change.policy,
            keep_before=keep_text(change.keep),
            keep=keep_text(config.keeps[change.policy]),
            not_before=change.until,
            **fields,
        )
