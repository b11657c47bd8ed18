"""What `check-config --connect` finds out about a target."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.model.errors import RetentiondError


@dataclass(frozen=True, slots=True)
class PolicyCount:
    """The entries that a policy decides about now, and those of them that are due, as a plan counts them; None for a quota."""

    name: str
    items: int
    due: int | None

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Check:
    """Everything that a pass would be stopped by, and the counts of policies and quotas where they could be counted.

    `notes` are what a plan remarks, such as what encrypted rooms keep.
    """

    problems: Sequence[RetentiondError]
    policies: Sequence[PolicyCount] = field(default=())
    notes: Sequence[str] = field(default=())
