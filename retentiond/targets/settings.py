"""What a target's own keys come to with the files that they name: dendrite's configuration, or a layout."""

from typing import TypeAlias

from retentiond.config.chats import ChatTarget
from retentiond.config.resolve import MediaSettings, resolve
from retentiond.config.schema import TargetConfig
from retentiond.targets.chat_database.settings import ChatSettings, resolve_chats

Resolved: TypeAlias = MediaSettings | ChatSettings


def resolve_target(config: TargetConfig) -> Resolved:
    """Read the files that a target names; raise ConfigError with their problems."""
    return resolve_chats(config) if isinstance(config, ChatTarget) else resolve(config)
