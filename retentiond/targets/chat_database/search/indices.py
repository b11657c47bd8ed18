"""The indices of a purge: writable, readable and unreadable ones, with the reasons; without I/O.

Policies of ISM and ILM make old indices read-only, close or freeze them, or mount them from a snapshot. A purge deletes from
the writable indices, and reports the documents that are left in the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from retentiond.model.errors import Refusal, StoreLimit
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Obstacle = Literal["closed", "frozen", "renamed", "snapshot", "read_only", "write", "read_only_allow_delete"]
"""The reason that nothing is deleted from an index; the last three are names of blocks."""

_LIMITS: Final[Mapping[Obstacle, str]] = {
    "closed": "closed",
    "frozen": "frozen",
    "renamed": "hidden",
    "snapshot": "snapshot",
    "read_only": "blocked",
    "write": "blocked",
    "read_only_allow_delete": "blocked",
}
_BY_POLICY: Final = (
    "has the block `{block}`, which is set by hand or by a policy of ISM or ILM: remove it "
    '(PUT /INDEX/_settings {{"index.blocks.{block}": null}}), purge again, and set it again'
)
_HINTS: Final[Mapping[Obstacle, str]] = {
    "closed": "is closed, and nothing in it can be counted: open it (POST /INDEX/_open), purge again, and close it; or "
    "name the others in `index`",
    "frozen": "is frozen, and searches skip it: unfreeze it (POST /INDEX/_unfreeze), purge again, and freeze it",
    "renamed": "was made of an index of the pattern by a policy, and the pattern does not match it: add its name to `index`",
    "snapshot": "is a searchable snapshot, from which nothing can be deleted: delete it and its snapshot, or restore the "
    "snapshot as an index, purge that, and delete the mounted index and the snapshot",
    "read_only": _BY_POLICY.format(block="read_only"),
    "write": _BY_POLICY.format(block="write"),
    "read_only_allow_delete": "has the block `read_only_allow_delete`, which the servers set where a disk is full: make "
    "room, and they remove it",
}
_POLICIES: Final = (
    "index.lifecycle.name",
    "index.plugins.index_state_management.policy_id",
    "index.opendistro.index_state_management.policy_id",
)
_SNAPSHOTS: Final = frozenset({"snapshot", "remote_snapshot"})
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class FieldTypes:
    """The values of fields: `days` without a time, and texts rather than numbers as IDs of chats and as kinds."""

    days: bool = False
    texts: bool = False
    kinds_are_texts: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """The indices behind a name: `writable` ones, those that can only be read, and those that cannot be read.

    `policies` are the names of the policies that manage an index, if known.
    """

    writable: tuple[str, ...] = ()
    readable: Mapping[str, Obstacle] = field(default_factory=dict)
    unreadable: Mapping[str, Obstacle] = field(default_factory=dict)
    policies: Mapping[str, str] = field(default_factory=dict)
    types: FieldTypes = FieldTypes()

    @property
    def searched(self) -> tuple[str, ...]:
        """The indices in which documents are counted."""
        return (*self.writable, *self.readable)

    def refusal(self, left: Mapping[str, int]) -> Refusal | None:
        """Return the refusal that names indices with kept documents; `left` are the due documents in readable ones."""
        found = dict(self.unreadable) | {
            name: obstacle for name, obstacle in self.readable.items() if left.get(name)
        }
        kinds = [kind for kind in _HINTS if kind in found.values()]
        if not kinds:
            return None
        sentences = [
            f"{self._named([name for name in found if found[name] == kind], left)} {_HINTS[kind]}"
            for kind in kinds
        ]
        names = ", ".join(sorted(found)[:_MOST_NAMED])
        return Refusal(StoreLimit(f"elasticsearch_{_LIMITS[kinds[0]]}"), names, None, "; ".join(sentences))

    def _named(self, names: list[str], left: Mapping[str, int]) -> str:
        described = []
        for name in sorted(names)[:_MOST_NAMED]:
            facts = [f"{left[name]} documents to purge"] if left.get(name) else []
            facts += [f"policy {printable(self.policies[name], 60)}"] if name in self.policies else []
            described.append(f"{name} ({', '.join(facts)})" if facts else name)
        more = len(names) - _MOST_NAMED
        return ", ".join(described) + (f" (and {more} more)" if more > 0 else "")


def take_stock(
    listed: Mapping[str, str], settings: Mapping[str, Any], renamed: Mapping[str, str], types: FieldTypes
) -> Inventory:
    """Sort indices into an inventory: `listed` has the status of each, `settings` those of the open ones."""
    unreadable: dict[str, Obstacle] = {name: "closed" for name, status in listed.items() if status != "open"}
    unreadable |= dict.fromkeys(renamed, "renamed")
    writable, readable = [], {}
    for name, index in sorted(settings.items()):
        if name in unreadable:
            continue
        obstacle = _obstacle(index["settings"])
        if obstacle is None:
            writable.append(name)
        elif obstacle == "frozen":
            unreadable[name] = obstacle
        else:
            readable[name] = obstacle
    policies = dict(_policies(settings))
    return Inventory(tuple(writable), readable, unreadable, policies, types)


def _obstacle(settings: Mapping[str, Any]) -> Obstacle | None:
    def is_set(name: str) -> bool:
        return str(settings.get(f"index.{name}")) == "true"

    if is_set("frozen") or is_set("search.throttled"):
        return "frozen"
    if settings.get("index.store.type") in _SNAPSHOTS:
        return "snapshot"
    # The disk first: while it is full, removing another block does not help.
    blocks: tuple[Obstacle, ...] = ("read_only_allow_delete", "read_only", "write")
    return next((block for block in blocks if is_set(f"blocks.{block}")), None)


def _policies(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, index in settings.items():
        policy = next((index["settings"][key] for key in _POLICIES if index["settings"].get(key)), None)
        if policy is not None:
            yield name, str(policy)
