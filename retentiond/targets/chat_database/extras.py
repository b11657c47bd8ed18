"""The clients of the stores beside the database: optional extras, looked for before anything is purged."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from retentiond.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.targets.chat_database.store import StoreName

_MODULES: Final[Mapping[StoreName, tuple[str, ...]]] = {
    # Each client can be there without what its asynchronous part stands on.
    "clickhouse": ("clickhouse_connect", "aiohttp"),
    "elasticsearch": ("elasticsearch", "opensearchpy", "aiohttp"),
}
NOT_THERE: Final = "is not installed, or cannot be loaded"


def missing(store: StoreName) -> str | None:
    """Return what a store's client lacks; None where all of it is there."""
    for module in _MODULES[store]:
        try:
            import_module(module)
        except ImportError as error:
            return error.name or module
    return None


def require(store: StoreName) -> None:
    """See that a store's client is there; raise UsageError with what to install."""
    module = missing(store)
    if module is not None:
        raise UsageError(f"`{store}` needs {module}, which {NOT_THERE}; {to_install(store)}")


def to_install(store: StoreName) -> str:
    """Return the command that brings a store's client."""
    return f"pip install 'retentiond[{store}]'"
