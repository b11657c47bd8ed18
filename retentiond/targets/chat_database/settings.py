"""A chat target's configuration, completed by the layout that it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from retentiond.config.connection import to_url
from retentiond.model.errors import UsageError
from retentiond.model.text import printable
from retentiond.targets.chat_database.layout import read_layout

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.config.chats import Account, ChatTarget
    from retentiond.targets.chat_database.layout import Layout


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """Where the chats are, as asyncpg's URL, and how their tables hang together."""

    database: str = field(repr=False)
    layout: Layout
    server_names: ClassVar[frozenset[str]] = frozenset()
    secret_files: ClassVar[tuple[Path, ...]] = ()

    def whereabouts(self, name: str, account: Account) -> tuple[str | None, str | None]:
        """Return the schema of an account's tables, and what their account column holds; None for what nobody says."""
        by_column = self.layout.root.account_column is not None
        return account.schema_ or self.layout.table_schema, (account.value or name) if by_column else None


def resolve_chats(config: ChatTarget) -> ChatSettings:
    """Read the layout; raise ConfigError with its problems, and UsageError for accounts that it cannot tell apart."""
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
                f"the accounts `{printable(first)}` and `{printable(name)}` have the same chats, and a purge of one would "
                "take the other's; give each its own `schema`, or a layout with `account_column`"
            )
    return settings


def _check_kinds(config: ChatTarget, layout: Layout) -> None:
    """Raise UsageError where the search is told to purge, as texts, a kind of message that the layout says has files."""
    files = layout.entities[layout.with_files].files if layout.with_files else None
    kinds = config.elasticsearch.text_kinds if config.elasticsearch is not None else ()
    both = sorted(set(kinds) & set(files.values or ())) if files is not None else []
    if both:
        raise UsageError(
            f"`text_kinds` of the search names {', '.join(both)}, which the layout names as a kind with files; leave it out"
        )
