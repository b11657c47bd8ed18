"""The kinds of target there are, and how each is opened; a new kind is a folder and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.config.chats import ChatTarget
from retentiond.targets.chat_database.target import open_chat_database
from retentiond.targets.dendrite_media.target import open_dendrite_media

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import Target


def open_target(name: str, config: TargetConfig) -> AbstractAsyncContextManager[Target]:
    """Open a target by its configuration; raises UnreachableError on entering where its database is down."""
    if isinstance(config, ChatTarget):
        return open_chat_database(name, config)
    return open_dendrite_media(name, config)
