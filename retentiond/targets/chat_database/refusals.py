"""The reasons to refuse the purge of a secondary store, or to end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.model.errors import Refusal, StoreLimit
from retentiond.targets.chat_database.purge_table import hold_beyond_stores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retentiond.config.chats import ChatTarget
    from retentiond.model.errors import MissingRightError
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.context import ChatContext
    from retentiond.targets.chat_database.store import StoreName

_KEYS: Final[Mapping[StoreName, str]] = {"clickhouse": "thread_column", "elasticsearch": "thread_field"}
"""The keys of the configuration for the column or field of chat IDs."""
_VISITORS: Final[Mapping[StoreName, str]] = {"clickhouse": "visitor_column", "elasticsearch": "visitor_field"}
"""The same for visitors."""


def not_ready(name: StoreName, problems: Sequence[str]) -> Refusal:
    """Turn a problem of a store's own check into a refusal; its first sentence is the finding."""
    found, _, next_step = problems[0].removeprefix(f"{name}: ").partition("; ")
    return Refusal(
        StoreLimit(name),
        found,
        None,
        "; ".join(filter(None, (next_step, *problems[1:]))) or "repair that first",
    )


def lacks_rights(name: StoreName, error: MissingRightError) -> Refusal:
    """Turn missing rights into a refusal, whose next step is to grant them."""
    return Refusal(StoreLimit(f"{name}_rights"), len(error.statements), 0, str(error))


async def held(context: ChatContext, name: StoreName, purge: AccountPurge) -> Refusal | None:
    """Return the refusal for a hold that a store cannot respect: it has accounts, dates and IDs of chats only."""
    if not await context.ledger.exists(context.pool):
        return None
    visitor = purge.request.erasure.visitor if purge.request.erasure is not None else None
    row = await hold_beyond_stores(context.pool, purge.names, purge.cutoff, context.config.timezone, visitor)
    if row is None:
        return None
    hold = f"hold {row['hold_id']}"
    if row["narrowed"] == "{}":
        return Refusal(
            "hold",
            f"{hold}, on the whole account",
            "none",
            f"{hold} is on the whole account: `retentiond hold list` shows it; purge again once it has ended",
        )
    return Refusal(
        "hold",
        f"{hold}, on a visitor or on days",
        "none",
        f"{hold} is on a visitor or on days, and the database may no longer have all of its chats, so that {name} "
        f"cannot keep them: hold each chat by `retentiond hold add --account NAME --chat ID` and release {hold}, or "
        "purge again once it has ended",
    )


def names_chats(config: ChatTarget, name: StoreName) -> bool:
    """Return whether the configuration names the column or field of chat IDs of a store."""
    return getattr(getattr(config, name), _KEYS[name]) is not None


def without_visitor(config: ChatTarget, name: StoreName) -> Refusal | None:
    """Return the refusal to erase a visitor in a store that names neither chats nor visitors."""
    store, key = getattr(config, name), _KEYS[name]
    visitor = _VISITORS[name]
    if names_chats(config, name) or (getattr(store, visitor) is not None and store.without_chat == "purge"):
        return None
    return Refusal(
        "no_chat_ids",
        "the rows of one visitor",
        None,
        f"without `{key}` it is not known which rows of {name} are of this visitor's chats: set it to the column or "
        f"field of chat IDs, and `{visitor}` to that of visitor IDs, if there is one",
    )


def without_ids(config: ChatTarget, name: StoreName, staying: int) -> Refusal | None:
    """Return the refusal to purge a store without chat IDs, which cannot be compared with the database."""
    key = _KEYS[name]
    if staying:
        hint = (
            f"{staying} chats that began before the date are kept, and without `{key}` their rows in {name} are not "
            "known: set it to the column or field of chat IDs"
        )
    elif getattr(config, name).without_chat == "keep":
        hint = (
            f"without `{key}` the rows of {name} cannot be compared with the chats of the database: set it to the "
            "column or field of chat IDs"
        )
    else:
        return None
    return Refusal("no_chat_ids", staying, 0, hint)


def late(hold_id: int) -> Refusal:
    """Return the refusal for a hold that was added while the store was being purged."""
    return Refusal(
        "hold",
        f"hold {hold_id}, added while the store was being purged",
        "none",
        f"hold {hold_id} was added while the store was being purged: nothing more was sent to it, and rows "
        "deleted before stay deleted; run it again for the rows that are not on hold",
    )
