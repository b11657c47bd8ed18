"""A chat target's configuration, completed by the layout that it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retentiond.config.connection import to_url
from retentiond.targets.chat_database.layout import read_layout

if TYPE_CHECKING:
    from retentiond.config.chats import ChatTarget
    from retentiond.targets.chat_database.layout import Layout


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Where the chats are, as asyncpg's URL, and how their tables hang together."""

    database: str = field(repr=False)
    layout: Layout


def resolve_chats(config: ChatTarget) -> ChatSettings:
    """Read the layout; raise ConfigError with its problems."""
    return ChatSettings(to_url(config.database.get_secret_value()), read_layout(config.layout))
