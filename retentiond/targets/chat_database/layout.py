"""A layout: the tables of chats, their references, and so the order in which their rows can be deleted."""

from collections.abc import Iterator
from datetime import date
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from importlib import resources
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError

from retentiond.config.chat_stores import Name
from retentiond.config.chats import SHIPPED_LAYOUTS
from retentiond.config.document import Document, read_document
from retentiond.config.problems import ConfigError
from retentiond.config.section import Conflict, Section
from retentiond.config.values import Day, Timezone
from retentiond.config.wording import describe

DataClass = Literal["messages", "facts"]
DateType = Literal["timestamptz", "timestamp", "seconds", "milliseconds"]
_MISSING: Final = "correct `layout`, or write that file"


def as_text(value: object) -> object:
    """Return a number as text: kinds, states and IDs may be numbers, and are compared as text."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Values = Annotated[tuple[Annotated[str, BeforeValidator(as_text)], ...], Field(min_length=1)]
Columns = Annotated[tuple[Name, ...], Field(min_length=1)]


class Dates(Section):
    """How the tables hold dates."""

    type: DateType = Field(default="timestamptz", description="The type of the columns, or what they count.")
    timezone: Timezone | None = Field(default=None, description="The time zone of a `timestamp`.")


class State(Section):
    """The column of the state of a chat, and the values of finished chats."""

    column: Name = Field(description="The column of its state.")
    over: Values = Field(description="The states of a finished chat.")


class Files(Section):
    """The messages with files: messages of some kinds, or messages with a row in a table of files."""

    column: Name | None = Field(default=None, description="The column of their kind.")
    values: Values | None = Field(default=None, description="The kinds that have files.")
    entity: Name | None = Field(
        default=None,
        description="Instead of these: the child entity whose rows are files of messages.",
    )


class Rows(Section):
    """The rows of an entity in a table that several entities share."""

    column: Name = Field(description="The column that distinguishes them, for example `record_type`.")
    values: Values = Field(description="Its values in rows of the entity.")


class Entity(Section):
    """One table, and the tables that it references."""

    table: Name | None = Field(default=None, description="The table; without it, the entity's name.")
    class_: DataClass = Field(alias="class", description="The class of its data, which sets the floor.")
    key: Name | None = Field(default=None, description="The column that identifies a row.")
    parent: Name | None = Field(default=None, description="The entity that its rows belong to.")
    column: Name | None = Field(default=None, description="The column that holds the parent's key.")
    shared_by: Name | None = Field(
        default=None, description="The column of the chat that refers to a row of it."
    )
    dates: tuple[Name, ...] = Field(default=(), description="Its dates; of a chat, the first is its begin.")
    state: State | None = Field(default=None, description="Of a chat: the states in which it is finished.")
    visitor: Name | None = Field(default=None, description="Of a chat: the column of its visitor.")
    department: Name | None = Field(
        default=None, description="Of a chat: the column of its department or team, for `usage` alone."
    )
    files: Files | None = Field(default=None, description="Of messages: which have files.")
    rows: Rows | None = Field(
        default=None, description="The rows of the entity in the table; without it, all of them."
    )
    account_column: Name | None = Field(
        default=None,
        description="The column of the account; without it, an account is a schema. Where chats have one, their messages "
        "may name theirs, which is the only way to know the account of a row whose chat is missing.",
    )
    only_with: Literal["stats"] | None = Field(
        default=None, description="The option that deletes it, if it does not belong to a chat."
    )


class VisitorRows(Section):
    """A table outside of chats whose rows name a visitor."""

    table: Name = Field(description="The table.")
    column: Name = Field(description="The column of the visitor.")
    account_column: Name | None = Field(default=None, description="The column of the account, if it has one.")

    @property
    def columns(self) -> list[str]:
        """The columns that name the visitor and the account of a row."""
        return [self.column, *([self.account_column] if self.account_column else [])]


class Layout(Section):
    """All the tables of a chat product that a purge may touch; it touches no others."""

    chat: Name = Field(description="The entity that is a chat.")
    dates: Dates = Field(default=Dates(), description="How the tables hold dates.")
    earliest: Day = Field(
        default=date(2000, 1, 1), description="Rows dated before this day have no believable date."
    )
    table_schema: Name | None = Field(
        default=None, alias="schema", description="The schema of the tables of accounts without `schema`."
    )
    visitor_rows: tuple[VisitorRows, ...] = Field(
        default=(),
        description="Tables outside of chats that name visitors: an erasure counts their rows, and keeps them.",
    )
    entities: dict[Name, Entity] = Field(min_length=1, description="The tables.")

    @property
    def root(self) -> Entity:
        """The chat."""
        return self.entities[self.chat]

    def table(self, name: str) -> str:
        """Return the table of an entity."""
        return self.entities[name].table or name

    def children(self, name: str) -> list[str]:
        """Return the entities that refer to this one."""
        return [child for child, entity in self.entities.items() if entity.parent == name]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """All entities, each before those it refers to: the order of deletion. Raises CycleError."""
        graph: TopologicalSorter[str] = TopologicalSorter()
        for name, entity in self.entities.items():
            graph.add(name)
            if entity.parent is not None:
                graph.add(entity.parent, name)
            if entity.shared_by is not None:
                graph.add(name, self.chat)
        return tuple(graph.static_order())

    def top(self, name: str) -> str:
        """Return the topmost ancestor of an entity."""
        parent = self.entities[name].parent
        return name if parent is None else self.top(parent)

    def tree(self, top: str) -> tuple[str, ...]:
        """Return an entity and all its descendants, in the order of deletion."""
        return tuple(name for name in self.order if self.top(name) == top)

    @property
    def shared(self) -> tuple[str, ...]:
        """The entities that several chats may share."""
        return tuple(name for name in self.order if self.entities[name].shared_by is not None)

    @property
    def by_itself(self) -> tuple[str, ...]:
        """The entities that do not belong to chats."""
        return tuple(name for name in self.order if self.entities[name].only_with is not None)

    @property
    def with_files(self) -> str | None:
        """The entity whose rows may have files."""
        return next((name for name, entity in self.entities.items() if entity.files is not None), None)

    def classes(self, *, stats: bool) -> frozenset[DataClass]:
        """Return the classes of the rows of a purge."""
        return frozenset(
            entity.class_
            for name, entity in self.entities.items()
            if stats or self.entities[self.top(name)].only_with is None
        )

    def contradictions(self) -> Iterator[Conflict]:
        """Yield contradictions between parts that are each valid."""
        if self.chat not in self.entities:
            yield Conflict(
                ("chat",), f"is not an entity of the layout; write one of {', '.join(self.entities)}"
            )
            return
        if (self.dates.type == "timestamp") != (self.dates.timezone is not None):
            yield Conflict(
                ("dates",), "needs `timezone` with the type timestamp, and only then; add it, or leave it out"
            )
        if self.visitor_rows and self.root.visitor is None:
            yield Conflict(("visitor_rows",), f"needs `visitor` of {self.chat}; add it, or leave this out")
        yield from self._references()
        tables: dict[str, str] = {}
        for name, entity in self.entities.items():
            for where, message in self._entity(name, entity):
                yield Conflict(("entities", name, *where), message)
            first = tables.setdefault(self.table(name), name)
            if first != name:
                yield Conflict(("entities", name), f"has the table of {first}, too; keep one of them")
        if sum(entity.files is not None for entity in self.entities.values()) > 1:
            yield Conflict(("entities",), "more than one entity has `files`; keep one of them")

    def _references(self) -> Iterator[Conflict]:
        for name, entity in self.entities.items():
            if entity.parent is not None and entity.parent not in self.entities:
                yield Conflict(
                    ("entities", name, "parent"), "is not an entity of the layout; name one of them"
                )
        try:
            _ = self.order
        except CycleError as error:
            loop = " → ".join(error.args[1])
            yield Conflict(("entities",), f"refer to each other in a circle: {loop}; break it")

    def _entity(self, name: str, entity: Entity) -> Iterator[Conflict]:
        top = entity.parent is None and entity.shared_by is None
        is_chat = name == self.chat
        parent = self.entities.get(entity.parent or "")
        needed: dict[str, bool] = {
            "key": is_chat or entity.shared_by is not None or bool(self.children(name)) or top,
            "column": entity.parent is not None,
            "dates": top,
            "state": is_chat,
            "only_with": top and not is_chat,
            "account_column": top and self.root.account_column is not None,
        }
        for field, wanted in needed.items():
            if wanted and not getattr(entity, field):
                yield Conflict((), f"needs `{field}`; add it")
        allowed: dict[str, bool] = {
            "parent": not is_chat and entity.shared_by is None,
            "column": entity.parent is not None,
            "shared_by": not is_chat,
            "state": is_chat,
            "visitor": is_chat,
            "department": is_chat,
            "files": entity.parent == self.chat,
            "rows": entity.parent is not None,
            "only_with": top and not is_chat,
            "account_column": (top or entity.parent == self.chat) and self.root.account_column is not None,
            # Dates of deeper entities would not be used.
            "dates": top or (parent is not None and parent.parent is None and parent.shared_by is None),
        }
        for field, fits in allowed.items():
            if getattr(entity, field) and not fits:
                yield Conflict((field,), "is not allowed here; leave it out")
        if entity.files is not None:
            yield from self._files(name, entity.files)

    def _files(self, name: str, files: Files) -> Iterator[Conflict]:
        by_kind = (files.column, files.values)
        if (files.entity is None) == (None in by_kind) or (files.entity is not None and any(by_kind)):
            yield Conflict(("files",), "needs `column` and `values`, or `entity`; write one of the two")
        elif files.entity is not None and files.entity not in self.children(name):
            yield Conflict(("files", "entity"), f"is not an entity with the parent {name}; name one")


def read_layout(named: str) -> Layout:
    """Read a shipped layout by its name, or a file; raise ConfigError with all its problems."""
    path = (
        Path(str(resources.files(__package__) / "layouts" / f"{named}.yaml"))
        if named in SHIPPED_LAYOUTS
        else Path(named)
    )
    document = read_document(path, when_missing=_MISSING)
    layout = None
    try:
        layout = Layout.model_validate(document.value)
    except ValidationError as error:
        _note(document, error)
    if layout is not None:
        for where, text in layout.contradictions():
            message, _, hint = text.partition("; ")
            document.problems.append(document.problem(where, message, hint))
    if layout is None or document.problems:
        raise ConfigError(
            sorted(document.problems, key=lambda problem: (problem.line or 0, problem.column or 0))
        )
    return layout


def _note(document: Document, error: ValidationError) -> None:
    for details in error.errors(include_url=False):
        path = details["loc"]
        if not any(path[:length] in document.spoiled for length in range(len(path) + 1)):
            message, hint = describe(details, path, document.written.get(path), Layout)
            unknown = details["type"] == "extra_forbidden"
            document.problems.append(document.problem(path, message, hint, at_key=unknown))
