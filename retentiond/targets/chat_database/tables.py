"""The tables of one account, and the statements that a purge of them takes, made from the layout."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from retentiond.targets.chat_database.catalogue import Reference, references
from retentiond.targets.chat_database.names import quoted, relation
from retentiond.targets.chat_database.statements import HOLDS_SQL, SQL, column, fill

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from retentiond.targets.chat_database.catalogue import Catalogue
    from retentiond.targets.chat_database.layout import Layout

# A moment as the layout's tables hold it.
_MOMENT: Final = {
    "timestamptz": "{moment}",
    "timestamp": "({moment} AT TIME ZONE '{zone}')",
    "seconds": "extract(epoch FROM {moment})::bigint",
    "milliseconds": "(extract(epoch FROM {moment}) * 1000)::bigint",
}
# And the other way round.
_AS_MOMENT: Final = {
    "timestamptz": "{date}",
    "timestamp": "({date} AT TIME ZONE '{zone}')",
    "seconds": "to_timestamp({date})",
    "milliseconds": "to_timestamp({date} / 1000.0)",
}
_DAY_OF_HOLD: Final = "((h.narrowed->>'{end}')::date::timestamp AT TIME ZONE $zone::text)"
Holds = Literal["no_ledger", "undated", "dated"]
"""Whether there can be holds, and whether one of an account is on what is newer than a day."""
BY_KEYS: Final = "= ANY($keys::{top_key_type}[])"
"""Among the chats of a batch."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a purge of one account goes by, in the time zone of its days.

    `column_value` is what the account's column holds, and None where it has a schema of its own.
    """

    account: str
    column_value: str | None
    cutoff: datetime
    zone: str
    file_messages: bool


class Tree:
    """The chat, or an entity that hangs on none, with all that hangs on it, in one account's schema."""

    def __init__(
        self, layout: Layout, schema: str, catalogue: Catalogue, top: str, survey: str, *, holds: Holds
    ) -> None:
        self.layout = layout
        self.holds = holds
        self.schema = schema
        self.catalogue = catalogue
        self.top = top
        self.survey = survey
        """The name of the session's own table of verdicts."""
        self.is_chat = top == layout.chat
        self.entities = layout.tree(top)
        self.shared = layout.shared if self.is_chat else ()

    def values(self, terms: Terms) -> dict[str, Any]:
        """Return the parameters that all statements have in common."""
        root = self.layout.entities[self.top]
        files = self.layout.with_files
        kinds = self.layout.entities[files].files if files else None
        return {
            "cutoff": terms.cutoff,
            "earliest": datetime.combine(self.layout.earliest, time(), UTC),
            "over": list(root.state.over) if root.state else [],
            "kinds": list(kinds.values) if kinds else [],
            "files_stay": not terms.file_messages,
            "account": terms.column_value,
            "account_name": terms.account,
            "zone": terms.zone,
        }

    def fill(self, template: str, **places: str) -> str:
        """Fill a template with this tree's names."""
        return fill(template, {**self._places, **places})

    def statement(self, name: str) -> str:
        """Return a statement on the top rows."""
        return self.fill(SQL[name])

    def of_entity(self, name: str, entity: str, among: str = BY_KEYS, *, keep_files: bool = False) -> str:
        """Return a statement on an entity's rows that belong to chats; `among` says to which."""
        key = self.layout.entities[entity].key
        return self.fill(
            SQL[name],
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
        return self.fill(SQL[name], **self.places_of_shared(shared))

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
        """Return a statement on the rows that refer to rows which are gone."""
        return self.fill(
            SQL[name],
            table=self.table(reference.child),
            column=quoted(reference.column),
            key_type=self.key_type(reference.parent),
        )

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
        # What came in since the look is never older, and so never taken.
        conditions += [f"{column(alias, date)} < {{cutoff}}" for date in this.dates]
        if keep_files and this.files is not None:
            conditions.append(f"({self._is_file(alias, this.files.column)}) IS NOT TRUE")
        return " AND ".join(conditions)

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

    def table(self, entity: str) -> str:
        """Return an entity's table."""
        return relation(self.schema, self.layout.table(entity))

    def key_type(self, entity: str) -> str:
        """Return the type of an entity's key."""
        return self.catalogue.types[entity][self.layout.entities[entity].key or ""]

    @cached_property
    def _places(self) -> dict[str, str]:
        root = self.layout.entities[self.top]
        account = root.account_column
        return {
            "survey": f"pg_temp.{quoted(self.survey)}",
            "kept": f"pg_temp.{quoted(self.survey + '_kept')}",
            "top": self.table(self.top),
            "key": quoted(root.key or ""),
            "key_type": self.key_type(self.top),
            "top_key_type": self.key_type(self.top),
            "cutoff": self._moment("$cutoff::timestamptz"),
            "earliest": self._moment("$earliest::timestamptz"),
            "began": f"({column('t', root.dates[0])} < {{cutoff}} OR {column('t', root.dates[0])} IS NULL)",
            "of_account": (
                f"{column('t', account)} = $account::text::{self.catalogue.types[self.top][account]}"
                if account
                else "true"
            ),
            "last_as_moment": self._as_moment(
                f"greatest({', '.join(column('t', date) for date in root.dates)})"
            ),
            "verdict": self._verdict(),
            **self._holding(),
            "sharing": "".join(f", {column('t', by)}" for by in self._sharing),
            "counted": "".join(f", {self._look(child)}.items" for child in self.counted),
            "hanging_as_a_whole": " ".join(self._hanging(as_a_whole=True)),
            "hanging_by_chat": " ".join(self._hanging(as_a_whole=False)),
        }

    def _holding(self) -> dict[str, str]:
        """Return what the statements on holds are made of."""
        root = self.layout.entities[self.top]
        dates = [column("t", date) for date in root.dates]
        dates += [
            f"{self._look(child)}.newest" for child in self._looked_at if self.layout.entities[child].dates
        ]
        of_whom = [HOLDS_SQL["of_chat"]] if self.is_chat else [HOLDS_SQL["of_all"]]
        if root.visitor is not None:
            of_whom.append(HOLDS_SQL["of_visitor"])
        return {
            "held": "false" if self.holds == "no_ledger" else HOLDS_SQL["held"],
            "covers": HOLDS_SQL["covers"],
            "of_whom": " AND ".join(of_whom),
            "visitor": quoted(root.visitor) if root.visitor else "",
            "first": dates[0],
            "last": f"greatest({', '.join(dates)})",
            "hold_from": self._moment(_DAY_OF_HOLD.replace("{end}", "from")),
            "hold_before": self._moment(_DAY_OF_HOLD.replace("{end}", "before")),
        }

    def _as_moment(self, date: str) -> str:
        dates = self.layout.dates
        return _AS_MOMENT[dates.type].replace("{date}", date).replace("{zone}", dates.timezone or "UTC")

    def _moment(self, moment: str) -> str:
        dates = self.layout.dates
        return _MOMENT[dates.type].replace("{moment}", moment).replace("{zone}", dates.timezone or "UTC")

    def _verdict(self) -> str:
        root = self.layout.entities[self.top]
        looks = [self._look(child) for child in self._looked_at]
        dates = [column("t", date) for date in root.dates]
        cases = {
            "open": [f"({column('t', root.state.column)}::text = ANY($over::text[])) IS NOT TRUE"]
            if root.state
            else [],
            "undated": [f"{date} IS NULL OR {date} < {{earliest}}" for date in dates],
            "newer": [f"{date} >= {{cutoff}}" for date in dates] + [f"{look}.newer" for look in looks],
        }
        whens = [f"WHEN {' OR '.join(tests)} THEN '{verdict}'" for verdict, tests in cases.items() if tests]
        whens += [f"WHEN {look}.undated THEN 'undated'" for look in looks]
        whens.append("WHEN {held} THEN 'hold'")
        whens += [
            f"WHEN $files_stay::boolean AND {self._look(child)}.has_files THEN 'has_file_messages'"
            for child in self._looked_at
            if self.layout.entities[child].files is not None
        ]
        return f"CASE {' '.join(whens)} ELSE 'due' END"

    @property
    def counted(self) -> tuple[str, ...]:
        """The entities whose rows the second look counts for each chat, so that they need not be read again."""
        return self._looked_at

    @cached_property
    def _looked_at(self) -> tuple[str, ...]:
        """The entities that hang on a chat directly, and have a say in whether it goes."""
        return tuple(
            child
            for child in self.layout.children(self.top)
            if self.layout.entities[child].dates or self.layout.entities[child].files
        )

    def _look(self, child: str) -> str:
        return f"look{self._looked_at.index(child)}"

    def _hanging(self, *, as_a_whole: bool) -> list[str]:
        key = column("t", self.layout.entities[self.top].key or "")
        joins: list[str] = []
        for child in self._looked_at:
            parent = column("r", self.layout.entities[child].column or "")
            tests = self._tests(child)
            told = [f"bool_or({test}) AS {name}" for name, test in tests.items()]
            dates = [column("r", date) for date in self.layout.entities[child].dates]
            told += [f"max({date}) AS newest" for date in dates[:1]]
            table, look = self.table(child), self._look(child)
            if as_a_whole:
                # Of most chats no row says anything; only a hold asks how new the newest is.
                telling = "true" if self.holds == "dated" else " OR ".join(tests.values())
                rows = (
                    f"SELECT {parent} AS parent, {', '.join(told)} FROM {table} r WHERE {telling} GROUP BY 1"
                )
                joins.append(f"LEFT JOIN ({rows}) {look} ON {look}.parent = {key}")
            else:
                told.append("count(*) AS items")
                rows = f"SELECT {', '.join(told)} FROM {table} r WHERE {parent} = {key}"
                joins.append(f"LEFT JOIN LATERAL ({rows}) {look} ON true")
        return joins

    def _tests(self, child: str) -> dict[str, str]:
        """Return what a row of an entity can say against its chat."""
        entity = self.layout.entities[child]
        dates = [column("r", date) for date in entity.dates]
        tests = {
            "newer": " OR ".join(f"{date} >= {{cutoff}}" for date in dates) or "false",
            "undated": " OR ".join(f"{date} IS NULL OR {date} < {{earliest}}" for date in dates) or "false",
        }
        if entity.files is not None:
            tests["has_files"] = self._is_file("r", entity.files.column)
        return tests

    def _is_file(self, alias: str, name: str) -> str:
        return f"{column(alias, name)}::text = ANY($kinds::text[])"


def trees(
    layout: Layout, schema: str, catalogue: Catalogue, number: int, *, holds: Holds
) -> Mapping[str, Tree]:
    """Return the trees of an account by their top entities; `number` keeps apart what several accounts survey."""
    tops = (layout.chat, *layout.by_itself)
    return {
        top: Tree(layout, schema, catalogue, top, f"retentiond_survey_{number}_{place}", holds=holds)
        for place, top in enumerate(tops)
    }
