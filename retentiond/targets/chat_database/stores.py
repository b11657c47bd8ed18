"""The stores beside the database: which are configured, and how each is opened; a new one is a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.errors import UsageError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from retentiond.config.chats import ChatTarget
    from retentiond.targets.chat_database.store import ChatStore, StoreName

STORES: Final[tuple[StoreName, ...]] = ("clickhouse", "elasticsearch")
"""All of them, in the order in which a purge comes to them."""


def open_store(name: StoreName, config: ChatTarget) -> AbstractAsyncContextManager[ChatStore]:
    """Open a store; raise UsageError where the target has none, or what it needs is not installed."""
    # A store's client is imported where it is used: most targets have neither, and the verbs start quickly.
    if name == "clickhouse" and config.clickhouse is not None:
        from retentiond.targets.chat_database.clickhouse.store import open_clickhouse  # noqa: PLC0415

        return open_clickhouse(config.clickhouse)
    if name == "elasticsearch" and config.elasticsearch is not None:
        from retentiond.targets.chat_database.search.store import open_elasticsearch  # noqa: PLC0415

        return open_elasticsearch(config.elasticsearch, config.pace.max_rows_per_second)
    raise UsageError(f"the target has no `{name}`; add that section to it, or leave this store out")
