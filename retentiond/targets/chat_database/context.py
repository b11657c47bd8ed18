"""The settings of a chat target and the means to work on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.model.errors import UsageError
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retentiond.adapters.postgres import Db
    from retentiond.config.chats import Account, ChatTarget
    from retentiond.ledger.ledger import Ledger
    from retentiond.model.replication import Replication
    from retentiond.targets.chat_database.layout import Layout
    from retentiond.targets.chat_database.settings import ChatSettings


KIND: Final = "chat_database"
SCHEMA: Final = (__package__, "schema.sql")


@dataclass(frozen=True, slots=True)
class ChatContext:
    """The target's settings and the means to work on it, for as long as the target is open."""

    name: str
    config: ChatTarget
    settings: ChatSettings
    pool: Db
    ledger: Ledger
    look_at_replicas: Callable[[], Awaitable[Replication]]

    @property
    def layout(self) -> Layout:
        """The layout of the tables."""
        return self.settings.layout

    def account(self, name: str) -> Account:
        """Return an account; raise UsageError for an unknown name."""
        if name not in self.config.accounts:
            known = ", ".join(printable(one) for one in self.config.accounts)
            raise UsageError(f"there is no account `{printable(name)}`; {self.name} has {known}")
        return self.config.accounts[name]

    def schema_of(self, name: str) -> str:
        """Return the schema of an account's tables; raise UsageError if it is not configured."""
        schema, _ = self.settings.whereabouts(name, self.account(name))
        if schema is None:
            raise UsageError(
                f"the account `{printable(name)}` needs `schema`, where its tables are; add it to the configuration"
            )
        return schema

    def column_value_of(self, name: str) -> str | None:
        """Return the value of the layout's account column for an account; None where an account is a schema."""
        return self.settings.whereabouts(name, self.account(name))[1]
