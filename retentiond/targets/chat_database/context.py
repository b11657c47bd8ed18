"""The settings of a chat target, completed by its layout, and the means to work on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from retentiond.config.connection import to_url
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import UsageError
from retentiond.model.text import printable
from retentiond.targets.chat_database.layout import read_layout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from retentiond.adapters.postgres import Db
    from retentiond.config.chats import Account, ChatTarget
    from retentiond.model.replication import Replication
    from retentiond.targets.chat_database.layout import Layout


KIND: Final = "chat_database"
SCHEMA: Final = (__package__, "schema.sql")


class ChatLedger(Ledger):
    """The ledger in the database of the chats."""

    table = "chat_purge"


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """The database of the chats, as asyncpg's URL, and the layout of its tables."""

    database: str = field(repr=False)
    layout: Layout
    server_names: ClassVar[frozenset[str]] = frozenset()
    secret_files: ClassVar[tuple[Path, ...]] = ()

    def whereabouts(self, name: str, account: Account) -> tuple[str | None, str | None]:
        """Return the schema of an account's tables, and the value of their account column, each None if not configured."""
        by_column = self.layout.root.account_column is not None
        return account.schema_ or self.layout.table_schema, (account.value or name) if by_column else None


def resolve_chats(config: ChatTarget) -> ChatSettings:
    """Read the layout; raise ConfigError with its problems, and UsageError for two accounts with the same chats."""
    settings = ChatSettings(to_url(config.database.get_secret_value()), read_layout(config.layout))
    _check_kinds(config, settings.layout)
    found: dict[tuple[str | None, str | None], str] = {}
    for name, account in config.accounts.items():
        if account.value is not None and settings.layout.root.account_column is None:
            raise UsageError(
                f"the account `{printable(name)}` has a `value`, which has no effect: the layout has no "
                "`account_column`; leave `value` out, or name a layout that has one"
            )
        first = found.setdefault(settings.whereabouts(name, account), name)
        if first != name:
            raise UsageError(
                f"the accounts `{printable(first)}` and `{printable(name)}` have the same chats, and a purge of one "
                "would delete the other's; give each its own `schema`, or a layout with `account_column`"
            )
    return settings


def _check_kinds(config: ChatTarget, layout: Layout) -> None:
    """Raise UsageError if `text_kinds` of the search names a kind that has files by the layout."""
    files = layout.entities[layout.with_files].files if layout.with_files else None
    kinds = config.elasticsearch.text_kinds if config.elasticsearch is not None else ()
    both = sorted(set(kinds) & set(files.values or ())) if files is not None else []
    if both:
        raise UsageError(
            f"`text_kinds` of the search names {', '.join(both)}, which the layout names as a kind with files; leave it out"
        )


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
        """Return the value of the layout's account column for an account; None if an account is a schema."""
        return self.settings.whereabouts(name, self.account(name))[1]
