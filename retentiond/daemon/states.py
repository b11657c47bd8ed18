"""The targets as the daemon last saw them, for its HTTP server: no request asks a database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.text import instant
from retentiond.report.target_report import TargetState, reached

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from retentiond.adapters.clock import Clock
    from retentiond.config.schema import TargetConfig
    from retentiond.model.report import TargetStatus

_LONGEST_SILENCE: Final = timedelta(minutes=3)
"""The oldest heartbeat of a ready target; there is one a minute."""


@dataclass(frozen=True, slots=True)
class _Seen:
    config: TargetConfig
    error: str | None
    status: TargetStatus | None = None
    at: datetime | None = None
    heartbeat: datetime | None = None
    here: bool = True


class TargetStates:
    """The last status of each target, or the error that hides it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def adopt(self, here: Mapping[str, TargetConfig], elsewhere: Mapping[str, TargetConfig]) -> None:
        """Have these targets, in this order; the state of those that stay is kept."""
        fresh = {name: _Seen(config, "not reached yet") for name, config in here.items()}
        for name, config in elsewhere.items():
            error = f"left to {', '.join(config.only_on)}; ask the daemon there"
            fresh[name] = _Seen(config, error, here=False)
        for name, seen in self._seen.items():
            if name in here and seen.here:
                fresh[name] = replace(seen, config=here[name])
        self._seen = fresh

    def lost(self, name: str, error: str) -> None:
        """Note that a target cannot be reached."""
        if name in self._seen:
            self._seen[name] = replace(self._seen[name], status=None, at=self._clock.now(), error=error)

    def stands(self, status: TargetStatus) -> None:
        """Note the status of a target."""
        seen = self._seen.get(status.target)
        if seen is not None:
            self._seen[status.target] = replace(seen, status=status, at=self._clock.now(), error=None)

    def beaten(self, name: str) -> None:
        """Note a heartbeat that was written."""
        if name in self._seen:
            self._seen[name] = replace(self._seen[name], heartbeat=self._clock.now())

    @property
    def states(self) -> list[TargetState]:
        """The state of each target, in the order of the configuration."""
        now = self._clock.now()
        return [
            TargetState(name, seen.config.kind, seen.config.schedule, error=seen.error)
            if seen.status is None
            else reached(seen.config, seen.status, now)
            for name, seen in self._seen.items()
        ]

    @property
    def age(self) -> timedelta:
        """The age of the oldest state among them."""
        now = self._clock.now()
        return max((now - seen.at for seen in self._seen.values() if seen.at), default=timedelta(0))

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether each target of this host can be worked on, and the document that says so of each."""
        now = self._clock.now()
        targets: dict[str, dict[str, Any]] = {}
        for name, seen in self._seen.items():
            if seen.here:
                beats = seen.heartbeat is not None and now - seen.heartbeat <= _LONGEST_SILENCE
                targets[name] = {
                    "ready": seen.error is None and beats,
                    "reachable": seen.error is None,
                    "last_heartbeat": instant(seen.heartbeat) if seen.heartbeat else None,
                }
        ready = all(target["ready"] for target in targets.values())
        return ready, {"ready": ready, "targets": targets}
