"""Results of `check-config --connect` for a target."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from retentiond.model.errors import MissingRightError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
class AccountRows:
    """The data of an account in a store: chats, rows or documents, and the day of the oldest."""

    items: int
    oldest: str | None


@dataclass(frozen=True, slots=True)
class StoreOverview:
    """A store of chats as found: its product and version, its distribution, and its data of each account."""

    store: str
    version: str
    accounts: Mapping[str, AccountRows]
    shards: int | None = None
    replicas: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON, without the unknown fields."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Check:
    """Everything that would stop a pass, and the counts of policies and quotas if they could be counted.

    `notes` are a plan's remarks, such as the media that encrypted rooms keep; `stores` are the reached stores of chats.
    """

    problems: Sequence[RetentiondError]
    policies: Sequence[PolicyCount] = field(default=())
    notes: Sequence[str] = field(default=())
    stores: Sequence[StoreOverview] = field(default=())

    @property
    def rights(self) -> list[str]:
        """The statements that grant the missing rights, in the order in which they are reported."""
        return [
            statement
            for problem in self.problems
            if isinstance(problem, MissingRightError)
            for statement in problem.statements
        ]
