"""The live catalogue compared with the layout, and the indexes that a purge needs.

A mismatch is refused before anything is deleted. Without an index each batch would read a whole child table.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from retentiond.adapters.logging import get_logger
from retentiond.adapters.postgres import named_queries
from retentiond.model.errors import Refusal, RefusedError
from retentiond.model.text import printable
from retentiond.targets.chat_database.kinds import kind_problems
from retentiond.targets.chat_database.refused_tables import ensure_rights, refuse_unsupported, system_columns
from retentiond.targets.chat_database.statements import quoted, relation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.targets.chat_database.layout import Entity, Layout


_SQL: Final = named_queries(__package__, "catalogue.sql")
_ORDINARY: Final = frozenset({"r", "p"})
WHOLE_NUMBERS: Final = frozenset({"smallint", "integer", "bigint"})
_DATE_TYPES: Final = {
    "timestamptz": frozenset({"timestamp with time zone"}),
    "timestamp": frozenset({"timestamp without time zone"}),
    "seconds": WHOLE_NUMBERS,
    "milliseconds": WHOLE_NUMBERS,
}
_NAME_LIMIT: Final = 120

_DATES: Final = frozenset({"date", "timestamp with time zone", "timestamp without time zone"})
LARGE: Final = 8 * 2**20
"""Bytes from which a table is too large to be read for each batch."""
_TIMEOUT: Final = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Reference:
    """A column of one entity that holds the key of another."""

    child: str
    column: str
    parent: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The layout's tables as they are: their numbers, their columns' types, and which references a foreign key guards.

    `unproven` are the entities whose key no index makes unique. `deletes_run_code`: a trigger or a rule runs on deletions
    from one of the tables, and may keep rows.
    """

    relations: Mapping[str, int]
    types: Mapping[str, Mapping[str, str]]
    guarded: frozenset[Reference]
    unproven: tuple[str, ...]
    deletes_run_code: bool


def references(layout: Layout) -> Iterator[Reference]:
    """Yield every reference that the layout knows."""
    for name, entity in layout.entities.items():
        if entity.parent is not None and entity.column is not None:
            yield Reference(name, entity.column, entity.parent)
        if entity.shared_by is not None:
            yield Reference(layout.chat, entity.shared_by, name)


async def read_catalogue(connection: Conn, layout: Layout, schema: str) -> Catalogue:
    """Read the catalogue, and raise RefusedError that names every difference from the layout.

    Raises MissingRightError with a GRANT for each right that this role lacks.
    """
    names = {layout.table(entity): entity for entity in layout.entities}
    await refuse_unsupported(connection, schema, list(names))
    found = await connection.fetch(_SQL["relations"], schema, list(names))
    relations = {names[row["name"]]: row["relation"] for row in found if row["kind"] in _ORDINARY}
    problems = [
        f"{printable(schema)}.{printable(layout.table(entity))} is missing, or is not a table"
        for entity in layout.entities
        if entity not in relations
    ]
    types: dict[str, dict[str, str]] = {entity: {} for entity in layout.entities}
    by_number = {number: entity for entity, number in relations.items()}
    for row in await connection.fetch(_SQL["columns"], list(by_number)):
        types[by_number[row["relation"]]][row["name"]] = row["type"]
    for entity in relations:
        problems += _column_problems(layout, entity, types[entity])
    guarded: set[Reference] = set()
    for row in await connection.fetch(_SQL["foreign_keys"], list(by_number)):
        reference = _known(layout, by_number, row)
        if reference is None:
            problems.append(_unknown_key(by_number, row))
        elif row["whole"] and len(row["child_columns"]) == 1:
            guarded.add(reference)
    problems += await kind_problems(connection, layout, types)
    problems += await _hidden_rows(connection, by_number)
    beside = await _beside_keys(connection, layout, by_number, types)
    # Where accounts share tables, a key that is unique only with another column may be that of two accounts.
    if layout.root.account_column is not None:
        problems += [_ambiguous(layout, name, others) for name, others in beside.items() if others]
    if problems:
        raise _misfit(problems)
    read = {
        name: sorted(_needed(layout, name) & types[name].keys()) + system_columns(layout, name)
        for name in relations
    }
    await ensure_rights(connection, layout, schema, relations, read)
    return Catalogue(
        relations, types, frozenset(guarded), tuple(beside), await deletes_run_code(connection, relations)
    )


async def kind_of_column(connection: Conn, schema: str, table: str, column: str | None) -> str | None:
    """Return the type of a column; None if the table does not have it."""
    kind: str | None = await connection.fetchval(_SQL["column"], schema, table, column)
    return kind


async def deletes_run_code(connection: Conn, relations: Mapping[str, int]) -> bool:
    """Return whether a trigger or a rule runs on deletions from one of the tables."""
    found: bool = await connection.fetchval(_SQL["deletes_run_code"], list(relations.values()))
    return found


async def _beside_keys(
    connection: Conn,
    layout: Layout,
    by_number: Mapping[int, str],
    types: Mapping[str, Mapping[str, str]],
) -> dict[str, frozenset[str]]:
    """Return the entities whose key has no unique index, each with the other columns of a unique index that has the key."""
    unique: dict[str, list[frozenset[str]]] = defaultdict(list)
    for row in await connection.fetch(_SQL["unique_indexes"], list(by_number)):
        unique[by_number[row["relation"]]].append(frozenset(row["columns"]))
    beside = {
        name: beside_key(key, layout.entities[name].dates, types[name], unique[name])
        for name, key in naming_keys(layout)
    }
    return {name: others or frozenset() for name, others in beside.items() if others != frozenset()}


def _ambiguous(layout: Layout, name: str, others: frozenset[str]) -> str:
    key = layout.entities[name].key or ""
    return (
        f"{printable(layout.table(name))}.{printable(key)} identifies a row only together with "
        f"{', '.join(map(printable, sorted(others)))}, and a purge uses the key alone"
    )


def _column_problems(layout: Layout, name: str, types: Mapping[str, str]) -> Iterator[str]:
    entity = layout.entities[name]
    missing = sorted(_needed(layout, name) - types.keys())
    if missing:
        yield f"{printable(layout.table(name))} lacks {', '.join(map(printable, missing))}"
    for date in entity.dates:
        if date in types and types[date] not in _DATE_TYPES[layout.dates.type]:
            yield (
                f"{printable(layout.table(name))}.{printable(date)} is {types[date]}, "
                f"and the layout says {layout.dates.type}"
            )


def _needed(layout: Layout, name: str) -> set[str]:
    """Return the columns that a purge reads of an entity."""
    needed = set(_columns(layout.entities[name]))
    if name == layout.chat:
        needed |= {shared for one in layout.shared if (shared := layout.entities[one].shared_by)}
    return needed


def _columns(entity: Entity) -> Iterator[str]:
    single = (entity.key, entity.column, entity.visitor, entity.account_column)
    yield from (column for column in single if column is not None)
    yield from entity.dates
    if entity.state is not None:
        yield entity.state.column
    if entity.files is not None and entity.files.column is not None:
        yield entity.files.column
    if entity.rows is not None:
        yield entity.rows.column


def _known(layout: Layout, by_number: Mapping[int, str], row: Record) -> Reference | None:
    """Return the reference that a foreign key guards; None if the layout does not name it."""
    child, parent = by_number.get(row["child"]), by_number[row["parent"]]
    pairs = set(zip(row["child_columns"], row["parent_columns"], strict=True))
    for reference in references(layout):
        if (reference.child, reference.parent) == (child, parent):
            key = layout.entities[parent].key
            if (reference.column, key) in pairs:
                return reference
    return None


def _unknown_key(by_number: Mapping[int, str], row: Record) -> str:
    columns = ", ".join(map(printable, row["child_columns"]))
    child = f"{printable(row['child_schema'])}.{printable(row['child_name'])}"
    return (
        f"{child} ({columns}) refers to {printable(by_number[row['parent']])} by the foreign key "
        f"{printable(row['name'])}, which the layout does not name"
    )


async def _hidden_rows(connection: Conn, by_number: Mapping[int, str]) -> list[str]:
    rows = await connection.fetch(_SQL["row_security"], list(by_number))
    names = ", ".join(printable(by_number[row["relation"]]) for row in rows)
    return [f"row-level security hides rows of {names} from this role"] if rows else []


def _misfit(problems: list[str]) -> RefusedError:
    return RefusedError(
        Refusal(
            "layout",
            "; ".join(problems),
            "the tables of the layout, and no others that refer to them",
            "correct the layout (copy the one that ships, and name the copy as `layout`); where row-level security hides "
            "rows, run as a superuser ALTER ROLE … BYPASSRLS for this role",
        )
    )


def naming_keys(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield the entities whose rows are found by their key, each with that key's column."""
    for name, entity in layout.entities.items():
        if entity.key is not None and (entity.parent is None or layout.children(name)):
            yield name, entity.key


def beside_key(
    key: str, dates: Sequence[str], types: Mapping[str, str], unique: Sequence[frozenset[str]]
) -> frozenset[str] | None:
    """Return the columns that identify a row together with the key by a unique index; None without one.

    A date does not count: where a table is partitioned by one, no index is unique without it.
    """
    others = sorted((columns - {key} for columns in unique if key in columns), key=len)
    if frozenset() in others:
        return frozenset()
    dated = {name for name in types if types[name] in _DATES} | set(dates)
    return next((left for other in others if (left := other - dated)), None)


@dataclass(frozen=True, slots=True)
class MissingIndex:
    """An index that a large table lacks."""

    table: int
    relation: str
    column: str

    @property
    def name(self) -> str:
        """The name of the index, by which one of ours is recognised."""
        return f"retentiond_{self.table}_{self.column}".encode()[:60].decode(errors="ignore")

    @property
    def statement(self) -> str:
        """The statement that creates it without blocking writers."""
        return f"CREATE INDEX CONCURRENTLY {quoted(self.name)} ON {self.relation} ({quoted(self.column)})"


async def missing_indexes(connection: Conn, layout: Layout, catalogue: Catalogue) -> list[MissingIndex]:
    """Return the indexes that are missing on large tables of an account."""
    wanted = {(one.child, one.column) for one in references(layout)}
    # The key of an entity without children is never searched for.
    wanted |= set(naming_keys(layout))
    missing: list[MissingIndex] = []
    for entity, column in sorted(wanted):
        apart = layout.entities[entity].rows
        rows = await connection.fetch(
            _SQL["unindexed"], catalogue.relations[entity], column, apart.column if apart else None
        )
        missing += [
            MissingIndex(row["relation"], relation(row["schema"], row["name"]), column)
            for row in rows
            if row["bytes"] > LARGE
        ]
    return missing


async def make_indexes(connection: Conn, missing: list[MissingIndex]) -> None:
    """Create the indexes one after another, outside a transaction. A remnant of an earlier try is dropped first."""
    log = get_logger()
    for index in missing:
        schema = index.relation.partition(".")[0]
        log.info("index_making", index=index.name, table=index.relation)
        await connection.execute(f"DROP INDEX IF EXISTS {schema}.{quoted(index.name)}", timeout=_TIMEOUT)
        await connection.execute(index.statement, timeout=_TIMEOUT)
        log.info("index_made", index=index.name, table=index.relation)


def refuse(missing: list[MissingIndex]) -> RefusedError:
    """Return the refusal that names the missing indexes, and the statements that create them."""
    return RefusedError(
        Refusal(
            "missing_index",
            ", ".join(f"{index.relation} ({index.column})" for index in missing),
            "an index on each column that joins large tables",
            "each batch would read the whole table: set `create_index: true`, or run: "
            + "; ".join(index.statement for index in missing),
        )
    )
