"""The kinds of target; a new kind is a folder, a section of the configuration, and a line here."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from retentiond.targets.chat_database.target import ChatDatabase, open_chat_database
from retentiond.targets.dendrite_media.target import DendriteMedia, open_dendrite_media

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import Target


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of target: its class, whose bases are its capabilities, and the function that opens it."""

    target: type[Target]
    open: Callable[[str, Any], AbstractAsyncContextManager[Target]]


KINDS: Final[Mapping[str, Kind]] = MappingProxyType({
    "dendrite_media": Kind(DendriteMedia, open_dendrite_media),
    "chat_database": Kind(ChatDatabase, open_chat_database),
})  # fmt: skip


def open_target(name: str, config: TargetConfig) -> AbstractAsyncContextManager[Target]:
    """Open a target by its configuration; entering it raises UnreachableError if its database is down."""
    return KINDS[config.kind].open(name, config)


def has(config: TargetConfig, capability: type) -> bool:
    """Return whether targets of this kind have a capability of `engine/capabilities.py`."""
    return capability in KINDS[config.kind].target.__mro__
