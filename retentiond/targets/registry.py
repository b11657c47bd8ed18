"""The kinds of target; a new kind is a folder, a section of the configuration, and a line here.

The modules of a kind are imported when a target of it is used: a verb does not wait for those of the other kinds.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from retentiond import adapters, targets
from retentiond.config.chats import ChatTarget
from retentiond.config.media import MediaTarget
from retentiond.config.rooms import RoomTarget
from retentiond.config.schema import KINDS

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


def _dendrite_media() -> Kind:
    from retentiond.targets.dendrite_media.target import DendriteMedia, open_dendrite_media  # noqa: PLC0415

    return Kind(DendriteMedia, open_dendrite_media)


def _chat_database() -> Kind:
    from retentiond.targets.chat_database.target import ChatDatabase, open_chat_database  # noqa: PLC0415

    return Kind(ChatDatabase, open_chat_database)


def _dendrite_rooms() -> Kind:
    from retentiond.targets.dendrite_rooms.target import DendriteRooms, open_dendrite_rooms  # noqa: PLC0415

    return Kind(DendriteRooms, open_dendrite_rooms)


_KINDS: Final[Mapping[type, Callable[[], Kind]]] = MappingProxyType({
    MediaTarget: _dendrite_media,
    ChatTarget: _chat_database,
    RoomTarget: _dendrite_rooms,
})  # fmt: skip

# A section without a kind must not be taken for another one.
if set(_KINDS) != set(KINDS.values()):
    raise TypeError("targets/registry.py: _KINDS must have each section of a target, and no other")


def import_kinds() -> None:
    """Import every module of all kinds, and of the adapters.

    For the daemon: a faulty module stops it at its start, no import delays its work, and an upgrade of the package does
    not mix old modules with new ones.
    """
    for package in (adapters, targets):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)


def open_target(name: str, config: TargetConfig) -> AbstractAsyncContextManager[Target]:
    """Open a target by its configuration; entering it raises UnreachableError if its database is down."""
    return _KINDS[type(config)]().open(name, config)


def has(config: TargetConfig, capability: type) -> bool:
    """Return whether targets of this kind have a capability of `engine/capabilities.py`."""
    return capability in _KINDS[type(config)]().target.__mro__
