"""The secondary stores, and how each is opened; a new store is a line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from retentiond.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from retentiond.config.chats import ChatTarget
    from retentiond.targets.chat_database.store import ChatStore, StoreName

STORES: Final[tuple[StoreName, ...]] = ("clickhouse", "elasticsearch")
"""All of them, in the order of a purge."""


_MODULES: Final[Mapping[StoreName, tuple[str, ...]]] = {
    # A client may be installed without the dependencies of its asynchronous part.
    "clickhouse": ("clickhouse_connect", "aiohttp"),
    "elasticsearch": ("elasticsearch", "opensearchpy", "aiohttp"),
}
NOT_THERE: Final = "is not installed, or cannot be loaded"


def missing(store: StoreName) -> str | None:
    """Return the missing module of a store's client; None if it is complete."""
    for module in _MODULES[store]:
        try:
            import_module(module)
        except ImportError as error:
            return error.name or module
    return None


def require(store: StoreName) -> None:
    """Check that a store's client is installed; raise UsageError with the package to install."""
    module = missing(store)
    if module is not None:
        raise UsageError(f"`{store}` needs {module}, which {NOT_THERE}; {to_install(store)}")


def to_install(store: StoreName) -> str:
    """Return the command that installs a store's client."""
    return f"pip install 'retentiond[{store}]'"


def open_store(name: StoreName, config: ChatTarget) -> AbstractAsyncContextManager[ChatStore]:
    """Open a store; raise UsageError if it is not configured, or its client is not installed."""
    # Imported where it is used, so that commands start quickly: most targets have no secondary store.
    if name == "clickhouse" and config.clickhouse is not None:
        require(name)
        from retentiond.targets.chat_database.clickhouse.store import open_clickhouse  # noqa: PLC0415

        return open_clickhouse(config.clickhouse)
    if name == "elasticsearch" and config.elasticsearch is not None:
        require(name)
        from retentiond.targets.chat_database.search.store import open_elasticsearch  # noqa: PLC0415

        return open_elasticsearch(config.elasticsearch, config.pace.max_rows_per_second)
    raise UsageError(f"the target has no `{name}`; add that section to it, or leave this store out")
