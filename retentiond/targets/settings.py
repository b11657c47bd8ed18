"""What a target's own keys come to with the files that they name: dendrite's configuration, or a layout."""

from collections.abc import Iterator
from typing import TypeAlias

from retentiond.config.chats import ChatTarget
from retentiond.config.resolve import MediaSettings, resolve
from retentiond.config.schema import TargetConfig
from retentiond.targets.chat_database.extras import NOT_THERE, missing, to_install
from retentiond.targets.chat_database.settings import ChatSettings, resolve_chats
from retentiond.targets.chat_database.stores import STORES

Resolved: TypeAlias = MediaSettings | ChatSettings


def resolve_target(config: TargetConfig) -> Resolved:
    """Read the files that a target names; raise ConfigError with their problems."""
    return resolve_chats(config) if isinstance(config, ChatTarget) else resolve(config)


def missing_extras(config: TargetConfig) -> Iterator[tuple[str, str, str]]:
    """Yield each section whose optional extra is missing, with what it lacks and what to do."""
    for store in STORES if isinstance(config, ChatTarget) else ():
        module = missing(store) if getattr(config, store) is not None else None
        if module is not None:
            yield store, f"needs {module}, which {NOT_THERE}", to_install(store)
