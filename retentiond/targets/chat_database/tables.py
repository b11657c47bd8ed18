"""The tables of one account, and the statements of its purge, made from the layout."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.targets.chat_database.catalogue import Reference, references
from retentiond.targets.chat_database.judgement import Judgement, has_files
from retentiond.targets.chat_database.kinds import NUMBERS, compared_as_numbers, files_of
from retentiond.targets.chat_database.statements import column, fill, of_entity, quoted, relation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from retentiond.targets.chat_database.catalogue import Catalogue
    from retentiond.targets.chat_database.judgement import Holds
    from retentiond.targets.chat_database.layout import Layout

_SQL: Final = named_queries(__package__, "purge.sql")
BY_KEYS: Final = "= ANY($keys::{top_key_type}[])"
"""Among the chats of a batch."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a purge of one account, in the time zone of its days.

    With `visitor`, only the chats of that visitor are purged. `account_names` are the names under which holds may name the
    account; `column_value` is the value of its account column, and None where it has a schema of its own.
    """

    account_names: Sequence[str]
    column_value: str | None
    cutoff: datetime
    zone: str
    file_messages: bool
    visitor: str | None = None


class Tree:
    """The chat, or another top entity, with all entities below it, in the schema of one account."""

    def __init__(
        self,
        layout: Layout,
        schema: str,
        catalogue: Catalogue,
        top: str,
        survey: str,
        *,
        holds: Holds,
        of_visitor: bool = False,
    ) -> None:
        self.layout = layout
        self.schema = schema
        self.catalogue = catalogue
        self.counts_deletions = catalogue.deletes_run_code
        """Whether a trigger or a rule may keep rows, so that rows are counted before their deletion; a batch that finds one
        later sets this."""
        self.top = top
        self.survey = survey
        """The name of the temporary table of verdicts."""
        self.is_chat = top == layout.chat
        self.of_visitor = of_visitor
        """Whether the top rows are only those of one visitor, `$visitor`."""
        self.entities = layout.tree(top)
        self.shared = layout.shared if self.is_chat else ()
        self._judgement = Judgement(layout, top, holds, self.table, numbers=self._kinds_are_numbers)

    def values(self, terms: Terms) -> dict[str, Any]:
        """Return the parameters that all statements have in common."""
        if self.is_chat and self.of_visitor != (terms.visitor is not None):
            raise AssertionError(
                "a purge of one visitor was about to take the chats of all, or the other way round"
            )
        root = self.layout.entities[self.top]
        return {
            "cutoff": terms.cutoff,
            "earliest": datetime.combine(self.layout.earliest, time(), UTC),
            "over": list(root.state.over) if root.state else [],
            "kinds": [int(kind) for kind in self._kinds] if self._kinds_are_numbers else list(self._kinds),
            "files_stay": not terms.file_messages,
            "account": terms.column_value,
            "account_names": list(terms.account_names),
            "visitor": terms.visitor,
            "zone": terms.zone,
        }

    def fill(self, template: str, **places: str) -> str:
        """Fill a template with this tree's names."""
        return fill(template, {**self._places, **places})

    def statement(self, name: str, **places: str) -> str:
        """Return a statement on the top rows, filled with these names too."""
        return self.fill(_SQL[name], **places)

    def of_entity(self, name: str, entity: str, among: str = BY_KEYS, *, keep_files: bool = False) -> str:
        """Return a statement on an entity's rows that belong to chats; `among` says to which."""
        key = self.layout.entities[entity].key
        return self.statement(
            name,
            table=self.table(entity),
            rows=self.rows(entity, among, keep_files=keep_files),
            **({"key": quoted(key)} if key else {}),
        )

    def count_each(self, entities: Iterable[str], *, keep_files: bool) -> str:
        """Return a statement that counts, of each of these entities, the rows that belong to chats."""
        counts = (f"({self.of_entity('count', entity, keep_files=keep_files)})" for entity in entities)
        return f"SELECT {', '.join(counts)}"

    def of_shared(self, name: str, shared: str) -> str:
        """Return a statement on an entity that chats may share."""
        return self.statement(name, **self.places_of_shared(shared))

    def places_of_shared(self, shared: str) -> dict[str, str]:
        """Return the names of an entity that chats may share."""
        entity = self.layout.entities[shared]
        return {
            "shared": self.table(shared),
            "shared_key": quoted(entity.key or ""),
            "shared_type": self.key_type(shared),
            "by": quoted(entity.shared_by or ""),
        }

    def of_reference(self, name: str, reference: Reference) -> str:
        """Return a statement on the rows that refer to deleted rows."""
        return self.statement(
            name,
            table=self.table(reference.child),
            column=quoted(reference.column),
            key_type=self.key_type(reference.parent),
            of_its_own=self._of_its_own(reference.child),
        )

    def _of_its_own(self, entity: str, alias: str = "r") -> str:
        """Return the condition, to append to others, for an entity's rows in a table that it shares."""
        own = of_entity(alias, self.layout.entities[entity])
        return f"AND {own}" if own else ""

    def rows(self, entity: str, among: str = BY_KEYS, *, keep_files: bool = False, alias: str = "r") -> str:
        """Return the condition for the rows of an entity that belong to chats, and are older than the date."""
        this = self.layout.entities[entity]
        if this.parent is None:
            conditions = [f"{column(alias, this.key or '')} {among}"]
        elif this.parent == self.top:
            conditions = [f"{column(alias, this.column or '')} {among}"]
        else:
            above = f"{alias}_"
            parent_key = self.layout.entities[this.parent].key or ""
            inner = self.rows(this.parent, among, keep_files=keep_files, alias=above)
            parents = (
                f"SELECT {column(above, parent_key)} FROM {self.table(this.parent)} {above} WHERE {inner}"
            )
            conditions = [f"{column(alias, this.column or '')} IN ({parents})"]
        # Rows that were added since the survey are not older than the date, and are kept.
        conditions += [f"{column(alias, date)} < {{cutoff}}" for date in this.dates]
        if keep_files and this.files is not None:
            conditions.append(f"({self.file(entity, alias)}) IS NOT TRUE")
        return " ".join([" AND ".join(conditions), self._of_its_own(entity, alias)]).strip()

    def of_messages(self, entity: str) -> dict[str, str]:
        """Return the names of an entity of messages, whose rows may have files."""
        return {
            "table": self.table(entity),
            "column": quoted(self.layout.entities[entity].column or ""),
            "file": self.file(entity),
            "of_its_own": self._of_its_own(entity),
        }

    def file(self, entity: str, alias: str = "r") -> str:
        """Return the condition for a row with a file."""
        return has_files(self.layout, entity, alias, self.table, numbers=self._kinds_are_numbers)

    @property
    def _kinds(self) -> tuple[str, ...]:
        found = files_of(self.layout)
        return found[1].values if found else ()

    @cached_property
    def _kinds_are_numbers(self) -> bool:
        return compared_as_numbers(self.layout, self.catalogue.types)

    @property
    def counted(self) -> tuple[str, ...]:
        """The entities whose rows the second look counts for each chat, so that they are not counted again."""
        return self._judgement.looked_at

    @property
    def _sharing(self) -> tuple[str, ...]:
        return tuple(self.layout.entities[name].shared_by or "" for name in self.shared)

    @cached_property
    def unguarded(self) -> tuple[Reference, ...]:
        """The references within the tree that no foreign key guards, those of shared rows too."""
        return tuple(
            reference
            for reference in references(self.layout)
            if reference not in self.catalogue.guarded
            and (reference.child in self.entities or reference.parent in self.entities)
        )

    @property
    def two_at_once(self) -> bool:
        """Whether two batches may run at once: not if they lock whole tables, or if triggers may lock other rows."""
        return not self.unguarded and not self.counts_deletions

    def table(self, entity: str) -> str:
        """Return an entity's table."""
        return relation(self.schema, self.layout.table(entity))

    def key_type(self, entity: str) -> str:
        """Return the type of an entity's key."""
        return self.catalogue.types[entity][self.layout.entities[entity].key or ""]

    @property
    def _of_visitor(self) -> str:
        name = self.layout.entities[self.top].visitor or ""
        kind = self.catalogue.types[self.top][name]
        exactly = "" if kind in NUMBERS else f"AND {column('t', name)}::text = $visitor::text"
        return fill(_SQL["of_visitor"], {"visitor": quoted(name), "visitor_type": kind, "exactly": exactly})

    @cached_property
    def _places(self) -> dict[str, str]:
        root = self.layout.entities[self.top]
        account = root.account_column
        of_account = (
            f"{column('t', account)} = $account::text::{self.catalogue.types[self.top][account]}"
            if account
            else "true"
        )
        judged = self._judgement.places()
        if self.of_visitor:
            of_account = f"{of_account} {self._of_visitor}"
            # One visitor's chats have few rows: look them up by chat instead of reading the whole table.
            judged["all_child_rows"] = judged["child_rows_by_chat"]
        return {
            "survey": f"pg_temp.{quoted(self.survey)}",
            "top": self.table(self.top),
            "key": quoted(root.key or ""),
            "key_type": self.key_type(self.top),
            "top_key_type": self.key_type(self.top),
            "of_account": of_account,
            **judged,
            "sharing": "".join(f", {column('t', by)}" for by in self._sharing),
        }


def trees(
    layout: Layout,
    schema: str,
    catalogue: Catalogue,
    number: int,
    *,
    holds: Holds,
    of_visitor: bool = False,
) -> Mapping[str, Tree]:
    """Return the trees of an account by their top entities; `number` makes the temporary tables of several accounts distinct."""
    tops = (layout.chat, *layout.by_itself)
    return {
        top: Tree(
            layout,
            schema,
            catalogue,
            top,
            f"retentiond_survey_{number}_{context}",
            holds=holds,
            of_visitor=of_visitor and top == layout.chat,
        )
        for context, top in enumerate(tops)
    }
