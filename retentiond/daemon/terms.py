"""What a target is kept by, now and later: a policy that a reload shortened waits a day, so that a slip can be mended.

The wait is in the memory of the daemon that was reloaded; a start goes by the file as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.config.media import MediaTarget

if TYPE_CHECKING:
    from retentiond.config.schema import TargetConfig
    from retentiond.daemon.settings import TargetSettings

REPRIEVE: Final = timedelta(hours=24)
"""The least time between a reload and the first pass that goes by a policy that the reload shortened."""


@dataclass(frozen=True, slots=True)
class Reprieve:
    """A policy that still goes by its longer `keep` (None: for ever), until then."""

    policy: str
    keep: timedelta | None
    until: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """A target's settings, and the reprieves of its policies."""

    settings: TargetSettings
    reprieves: tuple[Reprieve, ...] = ()

    def in_force(self, moment: datetime) -> TargetSettings:
        """Return the settings that hold at a moment: policies with a reprieve have their longer `keep`."""
        keeps = {reprieve.policy: reprieve.keep for reprieve in self.reprieves if moment < reprieve.until}
        if not keeps:
            return self.settings
        return replace(self.settings, config=self.settings.config.with_keeps(keeps))

    def reloaded(self, settings: TargetSettings, moment: datetime) -> Terms:
        """Return the terms after a reload at that moment."""
        before = self.settings.config.keeps
        in_force = self.in_force(moment).config.keeps
        reprieves = []
        for name, keep in settings.config.keeps.items():
            was = _name_before(name, self.settings.config, settings.config)
            if was is None or not _shorter(keep, in_force[was]):
                continue
            if _shorter(keep, before[was]):
                reprieves.append(Reprieve(name, in_force[was], moment + REPRIEVE))
            else:  # an earlier reload shortened it
                reprieves += [
                    replace(reprieve, policy=name) for reprieve in self.reprieves if reprieve.policy == was
                ]
        return Terms(settings, tuple(reprieves))


def _name_before(name: str, before: TargetConfig, now: TargetConfig) -> str | None:
    """Return what a policy was called before: with another name, the same match makes no new policy."""
    if name in before.keeps:
        return name
    if not isinstance(before, MediaTarget) or not isinstance(now, MediaTarget):
        return None
    match = next(policy.match for policy in now.policies if policy.name == name)
    gone = [policy for policy in before.policies if policy.name not in now.keeps]
    return next((policy.name for policy in gone if policy.match == match), None)


def _shorter(keep: timedelta | None, than: timedelta | None) -> bool:
    return keep is not None and (than is None or keep < than)
