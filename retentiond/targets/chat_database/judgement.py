"""The verdict on a chat, in SQL: the conditions on its row, on the rows below it, and on holds."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

from retentiond.adapters.postgres import named_queries
from retentiond.targets.chat_database.statements import column, of_entity, quoted

if TYPE_CHECKING:
    from collections.abc import Callable

    from retentiond.targets.chat_database.layout import Entity, Layout

_HOLDS_SQL: Final = named_queries(__package__, "holds.sql")

# A moment in the form of the layout's dates.
_MOMENT: Final = {
    "timestamptz": "{moment}",
    "timestamp": "({moment} AT TIME ZONE '{zone}')",
    "seconds": "extract(epoch FROM {moment})::bigint",
    "milliseconds": "(extract(epoch FROM {moment}) * 1000)::bigint",
}
# A date of the layout as a moment.
_AS_MOMENT: Final = {
    "timestamptz": "{date}",
    "timestamp": "({date} AT TIME ZONE '{zone}')",
    "seconds": "to_timestamp({date})",
    "milliseconds": "to_timestamp({date} / 1000.0)",
}
Holds = Literal["no_ledger", "undated", "dated"]
"""Whether there can be holds, and whether one of an account begins on a day."""


class Judgement:
    """The parts of statements that judge the top rows `t` of a tree; `table` returns an entity's table.

    `numbers`: the kinds of messages are numbers.
    """

    def __init__(
        self, layout: Layout, top: str, holds: Holds, table: Callable[[str], str], *, numbers: bool
    ) -> None:
        self._layout = layout
        self._top = top
        self._root = layout.entities[top]
        self._holds = holds
        self._table = table
        self._numbers = numbers

    def places(self) -> dict[str, str]:
        """Return the parts by the names of their places."""
        dates = [column("t", date) for date in self._root.dates]
        return {
            "cutoff": self._moment("$cutoff::timestamptz"),
            "earliest": self._moment("$earliest::timestamptz"),
            "until": self._moment("$until::timestamptz"),
            "began": f"({dates[0]} < {{cutoff}} OR {dates[0]} IS NULL)",
            "first_as_moment": self._as_moment(dates[0]),
            "last_as_moment": self._as_moment(f"greatest({', '.join(dates)})"),
            "verdict": self._verdict(dates),
            "counted": "".join(f", {self._look(child)}.items" for child in self.looked_at),
            "all_child_rows": " ".join(self._join_child_rows(all_at_once=True)),
            "child_rows_by_chat": " ".join(self._join_child_rows(all_at_once=False)),
            **self._holding(dates),
        }

    @cached_property
    def looked_at(self) -> tuple[str, ...]:
        """The entities whose rows refer to a chat and can keep it: those with dates or files."""
        return tuple(
            child
            for child in self._layout.children(self._top)
            if self._layout.entities[child].dates or self._layout.entities[child].files
        )

    def _holding(self, dates: list[str]) -> dict[str, str]:
        """Return the parts of the statements on holds."""
        newest = [
            f"{self._look(child)}.newest" for child in self.looked_at if self._layout.entities[child].dates
        ]
        of_whom = [_HOLDS_SQL["of_chat" if self._top == self._layout.chat else "of_all"]]
        if self._root.visitor is not None:
            of_whom.append(_HOLDS_SQL["of_visitor"])
        return {
            "held": "false" if self._holds == "no_ledger" else _HOLDS_SQL["held"],
            "covers": _HOLDS_SQL["covers"],
            "of_whom": " AND ".join(of_whom),
            "visitor": quoted(self._root.visitor) if self._root.visitor else "",
            "first": dates[0],
            "last": f"greatest({', '.join(dates + newest)})",
            "hold_from": self._moment(_HOLDS_SQL["day"].replace("{end}", "from")),
            "hold_before": self._moment(_HOLDS_SQL["day"].replace("{end}", "before")),
        }

    def _as_moment(self, date: str) -> str:
        dates = self._layout.dates
        return _AS_MOMENT[dates.type].replace("{date}", date).replace("{zone}", dates.timezone or "UTC")

    def _moment(self, moment: str) -> str:
        dates = self._layout.dates
        return _MOMENT[dates.type].replace("{moment}", moment).replace("{zone}", dates.timezone or "UTC")

    def _verdict(self, dates: list[str]) -> str:
        looks = [self._look(child) for child in self.looked_at]
        state = self._root.state
        cases = {
            "open": [f"({column('t', state.column)}::text = ANY($over::text[])) IS NOT TRUE"]
            if state
            else [],
            "undated": [f"{date} IS NULL OR {date} < {{earliest}}" for date in dates],
            "newer": [f"{date} >= {{cutoff}}" for date in dates] + [f"{look}.newer" for look in looks],
        }
        whens = [f"WHEN {' OR '.join(tests)} THEN '{verdict}'" for verdict, tests in cases.items() if tests]
        whens += [f"WHEN {look}.undated THEN 'undated'" for look in looks]
        whens.append("WHEN {held} THEN 'hold'")
        whens += [
            f"WHEN $files_stay::boolean AND {self._look(child)}.has_files THEN 'has_file_messages'"
            for child in self.looked_at
            if self._layout.entities[child].files is not None
        ]
        return f"CASE {' '.join(whens)} ELSE 'due' END"

    def _look(self, child: str) -> str:
        return f"look{self.looked_at.index(child)}"

    def _join_child_rows(self, *, all_at_once: bool) -> list[str]:
        key = column("t", self._layout.entities[self._top].key or "")
        joins: list[str] = []
        for child in self.looked_at:
            parent = column("r", self._layout.entities[child].column or "")
            tests = self._tests(child)
            columns = [f"bool_or({test}) AS {name}" for name, test in tests.items()]
            dates = [column("r", date) for date in self._layout.entities[child].dates]
            columns += [f"max(greatest({', '.join(dates)})) AS newest"] if dates else []
            table, look = self._table(child), self._look(child)
            if all_at_once:
                # Few rows keep their chat, so read only those; a dated hold needs the newest date of each chat.
                condition = "true" if self._holds == "dated" else " OR ".join(tests.values())
                rows = f"SELECT {parent} AS parent, {', '.join(columns)} FROM {table} r WHERE {condition} GROUP BY 1"
                joins.append(f"LEFT JOIN ({rows}) {look} ON {look}.parent = {key}")
            else:
                columns.append("count(*) AS items")
                rows = f"SELECT {', '.join(columns)} FROM {table} r WHERE {parent} = {key}"
                joins.append(f"LEFT JOIN LATERAL ({rows}) {look} ON true")
        return joins

    def _tests(self, child: str) -> dict[str, str]:
        """Return the conditions under which a row of an entity keeps its chat, by reason."""
        entity = self._layout.entities[child]
        tests = date_tests(entity)
        if entity.files is not None:
            tests["has_files"] = has_files(self._layout, child, "r", self._table, numbers=self._numbers)
        return tests


def date_tests(entity: Entity) -> dict[str, str]:
    """Return the conditions for a row `r` of an entity that is not older than the date, or has no believable date."""
    dates = [column("r", date) for date in entity.dates]
    return {
        "newer": " OR ".join(f"{date} >= {{cutoff}}" for date in dates) or "false",
        "undated": " OR ".join(f"{date} IS NULL OR {date} < {{earliest}}" for date in dates) or "false",
    }


def has_files(layout: Layout, entity: str, alias: str, table: Callable[[str], str], *, numbers: bool) -> str:
    """Return the condition for a row with a file: by its kind, which may be a number, or by a row in the files' own table."""
    this = layout.entities[entity]
    if this.files is None:
        return "false"
    if this.files.entity is not None:
        of_file = layout.entities[this.files.entity]
        same = f"{column('f', of_file.column or '')} = {column(alias, this.key or '')}"
        words = " AND ".join(filter(None, (same, of_entity("f", of_file))))
        return f"EXISTS (SELECT FROM {table(this.files.entity)} f WHERE {words})"
    # Casting a million numbers to text takes longer than reading them.
    kind = column(alias, this.files.column or "")
    return f"{kind} = ANY($kinds::bigint[])" if numbers else f"{kind}::text = ANY($kinds::text[])"
