"""The chats of the database, with which those of a store are compared before the store loses any row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

from retentiond.targets.chat_database import statements
from retentiond.targets.chat_database.purge_table import newest_hold
from retentiond.targets.chat_database.store import Comparison, names_no_chat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.account import AccountPurge
    from retentiond.targets.chat_database.store import ChatId

_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,40}\s*", re.ASCII)
_BITS: Final = {"smallint": 16, "integer": 32, "bigint": 64}
_TEXTS: Final = ("text", "character varying", "character", "bpchar", "name", "citext")
_FOLDING: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "-")


def fold(chat: str) -> str:
    """Return an ID in the form in which texts are compared: ASCII lower case, without dashes and surrounding blanks.

    A UUID has several spellings, and products differ in theirs. IDs with the same form are one chat, which is kept.
    """
    return chat.strip(" ").translate(_FOLDING)


def as_key(chat: ChatId, key_type: str) -> ChatId | None:
    """Return a store's ID as a key of this type in the database; None if it cannot be compared with one."""
    if key_type in _BITS:
        return int(chat) if isinstance(chat, int) or _NUMBER.fullmatch(chat) else None
    if key_type == "uuid":
        try:
            return str(UUID(str(chat)))
        except ValueError:
            return None
    return fold(str(chat)) if key_type.partition("(")[0] in _TEXTS else None


class DatabaseChats:
    """The chats of one account's database, and the holds on them."""

    def __init__(self, connection: Conn, purge: AccountPurge) -> None:
        self._connection = connection
        self._purge = purge
        self._tree = purge.chats.tree
        self._key_type = self._tree.key_type(self._tree.top)
        # In an erasure only the chats of the visitor are purged, even among chats that the database does not have.
        self._theirs = (
            None
            if purge.erasure_request is None
            else frozenset(str(as_key(chat, self._key_type)) for chat in purge.erasure_request.chats)
        )
        self.newest_hold = 0
        """The newest hold that a comparison includes; a later hold stops the running step."""

    async def count_staying(self) -> int:
        """Count the chats that began before the date and stay, for a store that does not name its chats."""
        statement = self._tree.statement("count_staying" if self._purge.report.dry_run else "count_left")
        return int(await statements.fetchval(self._connection, statement, self._purge.chats.values))

    async def learn_holds(self) -> None:
        """Read the number of the newest hold: a hold may be added while another store is purged."""
        if not self._purge.report.dry_run:
            self.newest_hold = await newest_hold(self._connection)

    async def compare(self, ids: Sequence[ChatId], *, of_visitor: bool = False) -> Comparison:
        """Compare chats of a store with those of the database, as they are now.

        Where one visitor is erased, chats that the database did not have of them count as kept, unless the store says
        that its rows are `of_visitor`.
        """
        keys = {chat: as_key(chat, self._key_type) for chat in ids}
        wanted = list({key for key in keys.values() if key is not None})
        held = await self._held(wanted)
        there = await self._present(wanted) | held
        bare = await self._stripped(wanted) - held
        absent: list[ChatId] = []
        kept: list[ChatId] = []
        unknown: list[ChatId] = []
        for chat, key in keys.items():
            if key is not None and (str(key) in there or self._stays(str(key), of_visitor=of_visitor)):
                found = kept
            else:
                found = unknown if key is None or names_no_chat(chat) else absent
            found.append(chat)
        stripped = [chat for chat in kept if str(keys[chat]) in bare]
        return Comparison(absent, kept, unknown, stripped)

    def _stays(self, key: str, *, of_visitor: bool) -> bool:
        """Return whether a missing chat is kept because one visitor is erased, and the chat is not theirs.

        Listed chats are purged by their IDs, and not a second time as rows that name the visitor.
        """
        return self._theirs is not None and (key in self._theirs) == of_visitor

    async def _present(self, keys: Sequence[ChatId]) -> set[str]:
        name = "present"
        if self._key_type in _BITS:
            keys = self._in_range(keys)
        elif self._key_type != "uuid":
            name = "present_by_text"
        return await self._chats(name, keys, self._tree.fill("t.{key}::text"))

    async def _held(self, keys: Sequence[ChatId]) -> set[str]:
        if not await self._purge.context.ledger.exists(self._connection):
            return set()
        return await self._chats("held_by_text", [str(key) for key in keys], "(h.narrowed->>'chat')")

    async def _stripped(self, keys: Sequence[ChatId]) -> set[str]:
        """Return the chats that keep their messages with files and have lost (in a dry run: would lose) all others."""
        # An erasure deletes files, too.
        if not self._purge.chats.verdicts["has_file_messages"] or self._theirs is not None:
            return set()
        of_files = self._tree.layout.with_files or ""
        name = "stripped"
        if self._key_type in _BITS:
            keys = self._in_range(keys)
        elif self._key_type != "uuid":
            name = "stripped_by_text"
        message = self._tree.of_messages(of_files)
        texts = "" if self._purge.report.dry_run else self._tree.statement("no_texts", **message)
        return await self._chats(name, keys, self._tree.fill("t.{key}::text"), no_texts=texts)

    def _in_range(self, keys: Sequence[ChatId]) -> list[ChatId]:
        # A number that the key type cannot hold is not a chat of the database.
        end = 2 ** (_BITS[self._key_type] - 1)
        return [key for key in keys if isinstance(key, int) and -end <= key < end]

    async def _chats(self, name: str, keys: Sequence[ChatId], text: str, no_texts: str = "") -> set[str]:
        if not keys:
            return set()
        if self._key_type not in {*_BITS, "uuid"}:
            text = self._tree.statement("folded", id=text)
        but_due = self._tree.statement("but_due") if self._purge.report.dry_run else ""
        statement = self._tree.statement(name, text=text, but_due=but_due, no_texts=no_texts)
        values = self._purge.chats.values | {"chats": keys}
        return {row["chat"] for row in await statements.fetch(self._connection, statement, values)}
