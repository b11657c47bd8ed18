"""The base of the sections of targets."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from retentiond.config.problems import KeyPath
from retentiond.config.schedule import AuditSchedule
from retentiond.config.section import Section


class ResolvedSettings(Protocol):
    """The settings of a target of any kind: its section, completed by the files that it names."""

    @property
    def server_names(self) -> frozenset[str]:
        """The names of this server in URIs of media; empty if they are unknown, or for a kind without URIs."""

    @property
    def secret_files(self) -> Sequence[Path]:
        """The files of other programs from which passwords are read."""


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

    @property
    def counted_rules(self) -> Mapping[str, Sequence[str]]:
        """The names of the rules of which `check-config` counts the matches, by their key, in their order."""
        return {}

    def warnings(self, server_names: frozenset[str]) -> Iterator[tuple[KeyPath, str, str]]:
        """Yield a path, a message and advice for each value that is valid and probably a mistake."""
        del server_names
        yield from ()

    def names_item(self, text: str) -> bool:
        """Return whether a text is written as the name of an item that can be explained."""
        del text
        return False

    def has_subject(self, kind: str, name: str) -> bool:
        """Return whether the target has subjects of this kind for holds."""
        raise NotImplementedError
