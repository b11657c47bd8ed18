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
    "clickhouse": ("clickhouse_connect", "aiohttp", "clickhouse_connect.driver.asyncclient"),
    "elasticsearch": ("elasticsearch", "opensearchpy", "aiohttp"),
}


def require(store: StoreName) -> None:
    """See that a store's client is there; raise UsageError with what to install."""
    for module in _MODULES[store]:
        try:
            import_module(module)
        except ImportError as error:
            missing = error.name or module
            raise UsageError(
                f"`{store}` needs {missing}, which is not installed or cannot be loaded; "
                f"pip install 'retentiond[{store}]'"
            ) from error
