"""The base of the sections of targets."""

from collections.abc import Mapping
from datetime import timedelta

from retentiond.config.schedule import AuditSchedule
from retentiond.config.section import Section


class TargetSection(Section):
    """The section of a target; each kind implements the properties in its own way."""

    @property
    def only_on(self) -> tuple[str, ...]:
        """The hosts that work on the target; empty: every host."""
        return ()

    @property
    def audit_schedule(self) -> AuditSchedule | None:
        """When the daemon audits the target; None: never."""
        return None

    @property
    def quota_interval(self) -> timedelta | None:
        """How often the daemon checks quotas; None without quotas."""
        return None

    @property
    def restorable_for(self) -> timedelta | None:
        """How long deleted items can be restored; None: not at all."""
        return None

    @property
    def matches(self) -> Mapping[str, object]:
        """The match of each policy by its name; equal matches are one policy under two names."""
        return {}

    def has_subject(self, kind: str, name: str) -> bool:
        """Return whether the target has subjects of this kind for holds."""
        raise NotImplementedError
