"""The kinds of target, and how each is opened; a new kind is a folder, a section of the schema and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from retentiond.config.chats import ChatTarget
from retentiond.config.media import MediaTarget
from retentiond.config.schema import KINDS
from retentiond.targets.chat_database.target import open_chat_database
from retentiond.targets.dendrite_media.target import open_dendrite_media

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import Target

_OPENERS: Final[Mapping[type, Callable[[str, Any], AbstractAsyncContextManager[Target]]]] = {
    MediaTarget: open_dendrite_media,
    ChatTarget: open_chat_database,
}

# A kind without an opener must not be taken for another one.
if set(_OPENERS) != set(KINDS.values()):
    raise TypeError("targets/registry.py: _OPENERS must have each section of a target, and no other")


def open_target(name: str, config: TargetConfig) -> AbstractAsyncContextManager[Target]:
    """Open a target by its configuration; raises UnreachableError on entering where its database is down."""
    return _OPENERS[type(config)](name, config)
