"""The statements that find orphans and delete them, made from the layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.chat_database.catalogue import WHOLE_NUMBERS
from retentiond.targets.chat_database.judgement import date_tests
from retentiond.targets.chat_database.statements import column, literal, of_entity, quoted
from retentiond.targets.chat_database.store import NIL_UUID, NO_CHAT_TEXTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.tables import Tree

_SQL: Final = named_queries(__package__, "orphans.sql")
_NUMBERS: Final = WHOLE_NUMBERS | {"numeric", "real", "double precision"}


class OrphanRows:
    """Makes the statements for one account's tree of chats. `guarded` are the tables whose foreign key leaves no orphan.

    `holds`: whether there is a ledger, and so possibly holds.
    """

    def __init__(self, tree: Tree, guarded: frozenset[str], *, holds: bool) -> None:
        self.tree = tree
        self.guarded = guarded
        self._layout = tree.layout
        self._holds = holds
        self._key_type = tree.key_type(tree.top)
        whole = self._key_type in WHOLE_NUMBERS
        self.orphan_type = "bigint" if whole else self._key_type
        """A type wide enough for each ID in a row; the key of a chat may be narrower."""
        self.among = f"= ANY($keys::{self.orphan_type}[])"

    @property
    def direct(self) -> list[str]:
        """The entities whose rows name a chat."""
        return self._layout.children(self.tree.top)

    @property
    def unguarded(self) -> list[str]:
        """Those of them whose rows may name a missing chat."""
        return [entity for entity in self.direct if entity not in self.guarded]

    @property
    def below(self) -> list[str]:
        """All entities with rows of chats, in the order of deletion.

        Rows with dates are deleted last: if a chat is deleted in portions, its other rows are dated by them.
        """
        below = [entity for entity in self.tree.entities if entity != self.tree.top]
        return sorted(below, key=lambda entity: self.dated(self._direct_of(entity)))

    @property
    def with_unlinked(self) -> list[str]:
        """The entities of which rows may name no chat."""
        return [entity for entity in self.direct if self.dated(entity) or entity not in self.guarded]

    def dated(self, entity: str) -> bool:
        """Return whether the rows of an entity have dates of their own."""
        return bool(self._layout.entities[entity].dates)

    def statement(self, name: str, **places: str) -> str:
        """Fill a statement."""
        number = self.tree.survey.removeprefix("retentiond_survey_")
        return self.tree.fill(
            _SQL[name],
            missing=f'pg_temp."retentiond_missing_{number}"',
            unlinked_rows=f'pg_temp."retentiond_unlinked_{number}"',
            orphan_type=self.orphan_type,
            **places,
        )

    def judged(self, entities: Sequence[str], *, by_key: bool) -> str:
        """Return the statement that judges missing chats by the rows of some entities: of all, or of those of a batch."""
        sources = " UNION ALL ".join(self._source(entity, by_key=by_key) for entity in entities)
        clear = "bool_and(o.all_ours) AND NOT bool_or(o.nameless)"
        shared = self._layout.root.account_column is not None
        return self.statement(
            "judged",
            sources=sources,
            unclear=f"({clear}) IS NOT TRUE" if shared else "false",
            # Missing chats of other accounts only are not counted here.
            perhaps_ours="bool_or(o.some_ours) IS NOT FALSE OR bool_or(o.nameless)" if shared else "true",
            held=self._held("o.key::text"),
        )

    def of_rows(self, name: str, entity: str, **places: str) -> str:
        """Return a statement on the rows `r` of an entity."""
        this = self._layout.entities[entity]
        own = of_entity("r", this)
        return self.statement(
            name,
            table=self.tree.table(entity),
            column=quoted(this.column or ""),
            of_its_own=f"AND {own}" if own else "",
            names_chat=self._names_chat(entity),
            **places,
        )

    def count_rows(self, entity: str) -> str:
        """Return the statement that counts an entity's rows of missing chats by their verdicts."""
        above, alias, name = [], "r", entity
        conditions = [of_entity("r", self._layout.entities[entity])]
        while (parent := self._layout.entities[name].parent) is not None and parent != self.tree.top:
            upper = f"{alias}_"
            key, child = self._layout.entities[parent].key or "", self._layout.entities[name].column or ""
            above.append(
                f"JOIN {self.tree.table(parent)} {upper} ON {column(upper, key)} = {column(alias, child)}"
            )
            alias, name = upper, parent
            conditions.append(of_entity(alias, self._layout.entities[name]))
        return self.statement(
            "count_rows",
            table=self.tree.table(entity),
            above=" ".join(above),
            topmost=alias,
            column=quoted(self._layout.entities[name].column or ""),
            file=self.tree.file(name, alias),
            own=" ".join(f"AND {condition}" for condition in conditions if condition),
        )

    def count_below(self, entity: str) -> str:
        """Return the statement that counts an entity's rows whose parent, which is no chat, is missing."""
        parent = self._layout.entities[entity].parent or ""
        places = {
            "parent": self.tree.table(parent),
            "parent_key": quoted(self._layout.entities[parent].key or ""),
        }
        return self.of_rows("count_below", entity, **places)

    def count_unlinked(self, entity: str, below: str | None = None) -> str:
        """Return the statement that counts an entity's rows that name no chat, or the rows below them of another entity."""
        return self.of_rows(
            "count_unlinked",
            entity,
            below=self._join(below, entity)[0] if below else "",
            names_no_chat=self._names_no_chat(entity),
            unlinked_verdict=self._unlinked_verdict(entity),
            file=self.tree.file(entity),
            perhaps_ours=f"({self._ours(entity)}) IS NOT FALSE",
        )

    def unlinked(self, entity: str, *, files_stay: bool) -> str:
        """Return the condition for a due row that names no chat; the deletion tests it again."""
        own = of_entity("r", self._layout.entities[entity])
        conditions = [self._names_no_chat(entity), f"({self._unlinked_verdict(entity)}) = 'due'", own]
        if self._layout.root.account_column is not None:
            conditions.append(self._ours(entity))
        if files_stay:
            conditions.append(f"({self.tree.file(entity)}) IS NOT TRUE")
        return " AND ".join(condition for condition in conditions if condition)

    def below_keys(self, entity: str, ancestor: str, alias: str = "r") -> str:
        """Return the condition for an entity's rows below the rows of an ancestor with the keys $above."""
        this = self._layout.entities[entity]
        parent = this.parent or ""
        name, own = column(alias, this.column or ""), of_entity(alias, this)
        if parent == ancestor:
            condition = f"{name} = ANY($above::{self.tree.key_type(ancestor)}[])"
        else:
            upper = f"{alias}_"
            key = column(upper, self._layout.entities[parent].key or "")
            inner = self.below_keys(parent, ancestor, upper)
            condition = f"{name} IN (SELECT {key} FROM {self.tree.table(parent)} {upper} WHERE {inner})"
        return f"{condition} AND {own}" if own else condition

    def _join(self, entity: str, ancestor: str) -> tuple[str, str]:
        """Return the joins from rows `r` of an ancestor down to an entity, and the alias of the latter."""
        this = self._layout.entities[entity]
        parent = this.parent or ""
        joins, upper = ("", "r") if parent == ancestor else self._join(parent, ancestor)
        alias, key = f"{upper}_", self._layout.entities[parent].key or ""
        condition = f"{column(alias, this.column or '')} = {column(upper, key)}"
        own = of_entity(alias, this)
        tests = f"{condition} AND {own}" if own else condition
        return f"{joins} JOIN {self.tree.table(entity)} {alias} ON {tests}".strip(), alias

    def descendants(self, ancestor: str) -> list[str]:
        """Return the entities below another, in the order of deletion."""
        found: list[str] = []
        for entity in reversed(self.below):
            if self._layout.entities[entity].parent in (ancestor, *found):
                found.append(entity)
        return found[::-1]

    def chats_without_id(self) -> str:
        """Return the statement that lists the chats with an ID that usually means no chat."""
        return self.statement("chats_without_id", no_chat=_no_chat(self._key_type))

    def _direct_of(self, entity: str) -> str:
        """Return the entity, on the way up from this one, whose rows name a chat."""
        parent = self._layout.entities[entity].parent
        return entity if parent is None or parent == self.tree.top else self._direct_of(parent)

    def _source(self, entity: str, *, by_key: bool) -> str:
        this = self._layout.entities[entity]
        tests = date_tests(this)
        return self.of_rows(
            "source",
            entity,
            dated=str(self.dated(entity)).lower(),
            newer=tests["newer"],
            undated=tests["undated"],
            ours=self._ours(entity),
            nameless=f"{column('r', this.account_column)} IS NULL" if this.account_column else "false",
            among=f"AND {column('r', this.column or '')} {self.among}" if by_key else "",
        )

    def _ours(self, entity: str) -> str:
        """Return the condition for rows of the account; NULL if the table has no account column."""
        if self._layout.root.account_column is None:
            return "true"
        name = self._layout.entities[entity].account_column
        if name is None:
            return "NULL::boolean"
        return f"{column('r', name)} = $account::text::{self.tree.catalogue.types[entity][name]}"

    def _unlinked_verdict(self, entity: str) -> str:
        tests = date_tests(self._layout.entities[entity])
        if not self.dated(entity):
            tests["undated"] = "true"
        return (
            f"CASE WHEN ({self._ours(entity)}) IS NULL THEN 'no_account' WHEN {tests['undated']} THEN 'undated' "
            f"WHEN {tests['newer']} THEN 'newer' WHEN {self._held('NULL')} THEN 'hold' ELSE 'due' END"
        )

    def _held(self, key: str) -> str:
        return self.tree.fill(_SQL["held"], held_key=key) if self._holds else "false"

    def _names_chat(self, entity: str) -> str:
        name = self._layout.entities[entity].column or ""
        kind = self.tree.catalogue.types[entity][name]
        tests = [f"{column('r', name)} NOT IN ({_no_chat(kind)})"]
        if self.orphan_type == "bigint" and kind not in WHOLE_NUMBERS:
            # A fraction, or a number beyond any key, names no chat; the cast would fail, or yield another chat.
            number = column("r", name)
            tests.append(f"abs({number}) < 9223372036854775808 AND {number} = trunc({number})")
        return " AND ".join(tests)

    def _names_no_chat(self, entity: str) -> str:
        """Return the condition for a row that names no chat: NULL, or zero if no chat has that ID."""
        name = column("r", self._layout.entities[entity].column or "")
        if entity in self.guarded:
            return f"{name} IS NULL"
        key = column("t", self._layout.root.key or "")
        there = f"EXISTS (SELECT FROM {self.tree.table(self.tree.top)} t WHERE {key} = {name})"
        kind = self.tree.catalogue.types[entity][self._layout.entities[entity].column or ""]
        none = f"{name} IN ({_no_chat(kind)})"
        # A row without dates and with NULL may be without a chat on purpose.
        none = f"({name} IS NULL OR {none})" if self.dated(entity) else none
        return f"{none} AND NOT {there}"


def _no_chat(kind: str) -> str:
    """Return the values of a type that name no chat."""
    if kind in _NUMBERS:
        return "0"
    return ", ".join(map(literal, [NIL_UUID] if kind == "uuid" else NO_CHAT_TEXTS))


async def validated_tables(connection: Conn, chats: int, tables: Sequence[int]) -> set[int]:
    """Return the tables of these whose validated foreign key refers to the table of chats."""
    rows = await connection.fetch(_SQL["validated"], chats, tables)
    return {row["relation"] for row in rows}
