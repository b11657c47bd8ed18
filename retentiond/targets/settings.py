"""Resolved settings of a target: its keys, completed by the files that they name (dendrite's configuration, or a layout)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from retentiond.config.chats import ChatTarget
from retentiond.config.media import MediaTarget
from retentiond.config.resolve import MediaSettings, resolve
from retentiond.config.rooms import RoomTarget
from retentiond.config.schema import KINDS, TargetConfig
from retentiond.targets.chat_database.context import ChatSettings, resolve_chats
from retentiond.targets.chat_database.stores import NOT_THERE, STORES, missing, to_install
from retentiond.targets.dendrite_rooms.context import RoomSettings, resolve_rooms

Resolved: TypeAlias = MediaSettings | ChatSettings | RoomSettings


_RESOLVERS: Final[Mapping[type, Callable[[Any], Resolved]]] = {
    MediaTarget: resolve,
    ChatTarget: resolve_chats,
    RoomTarget: resolve_rooms,
}
if set(_RESOLVERS) != set(KINDS.values()):
    raise TypeError("targets/settings.py: _RESOLVERS must have each section of a target, and no other")


def resolve_target(config: TargetConfig) -> Resolved:
    """Read the files that a target names; raise ConfigError with their problems."""
    return _RESOLVERS[type(config)](config)


def missing_extras(config: TargetConfig) -> Iterator[tuple[str, str, str]]:
    """Yield each section whose optional extra is missing, with the missing module and the next step."""
    for store in STORES if isinstance(config, ChatTarget) else ():
        module = missing(store) if getattr(config, store) is not None else None
        if module is not None:
            yield store, f"needs {module}, which {NOT_THERE}", to_install(store)
