"""Name resolution: a connection on which only PostgreSQL's own functions, operators and types are found by name.

A role that may create objects in a schema of our search path could otherwise make a function that fits the arguments
of a call better than the catalogue's own (`lower(varchar)`, `=(text, varchar)`), and its code would run with our
rights. So the path holds `pg_catalog` alone (and the temporary schema, in which no function is looked up), and every
statement names everything else with its schema.

dendrite's tables are in the schema to which the role's own path leads. Statements name them as dendrite does, without
a schema, and the connection adds it: a new statement needs no care for any of this, and the name of a table that was
not foreseen is an error, never the table of another role.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg.cursor import CursorFactory
    from asyncpg.prepared_stmt import PreparedStatement

    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection

_CLEAN_PATH: Final = "SET search_path TO pg_catalog, pg_temp"
# Run before the path is clean: the call is qualified and its argument is a literal, so that no other function fits better.
_OWN_PATH: Final = "SELECT pg_catalog.current_schemas(false)::pg_catalog.text[]"
_ANY_BYTES: Final = "SET client_encoding TO LATIN1"
_PREFIXES: Final = "federationsender|mediaapi|roomserver|syncapi|userapi"
_FOUND: Final = rf"""
SELECT quote_ident(s.name) AS schema, ARRAY(
    SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = s.name AND c.relname ~ '^({_PREFIXES})_' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) AS tables, ARRAY(
    SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = s.name AND c.relname ~ '^({_PREFIXES})_' AND c.relkind = 'v' AND NOT pg_has_role(c.relowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = c.relowner AND r.rolsuper)) AS foreign_views
FROM unnest($1::text[]) WITH ORDINALITY AS s(name, place)
ORDER BY s.place DESC
"""
_TABLE: Final = re.compile(rf"(?<![\w.\"])(?:{_PREFIXES})_[a-z_]+\b")


@dataclass(frozen=True, slots=True)
class _Tables:
    """The schemas of dendrite's tables: those that are there, and where dendrite would make the others."""

    found: tuple[tuple[str, str], ...] = ()
    default: str = ""

    def name(self, table: str) -> str:
        schema = dict(self.found).get(table, self.default)
        return f"{schema}.{table}" if schema else table


class NamingConnection(_Connection):
    """A connection with a clean search path, which adds the schema to the names of dendrite's tables."""

    _tables = _Tables()
    _carries_bytes = False

    async def carry_bytes(self) -> None:
        """Let texts of any bytes through if the database has no encoding (SQL_ASCII), which stores any bytes.

        One text that is not UTF-8 would otherwise end each statement that returns it. Such bytes become lone surrogates,
        as in the names of files. For the server the client's encoding is one that has every byte, LATIN1; the data are
        UTF-8 all the same.
        """
        if self.get_settings().server_encoding != "SQL_ASCII":
            return
        await super().execute(_ANY_BYTES)
        for kind in ("text", "varchar", "bpchar", "name"):
            await self._set_codec(kind, _to_bytes, _from_bytes)
        await self._set_codec("json", lambda text: _to_bytes(_unescaped(text)), _from_bytes)
        # The first byte is the version of jsonb's binary form.
        await self._set_codec(
            "jsonb", lambda text: b"\1" + _to_bytes(_unescaped(text)), lambda given: _from_bytes(given[1:])
        )
        self._carries_bytes = True

    async def _set_codec(
        self, kind: str, encoder: Callable[[str], bytes], decoder: Callable[[bytes], str]
    ) -> None:
        await self.set_type_codec(
            kind, schema="pg_catalog", encoder=encoder, decoder=decoder, format="binary"
        )

    async def settle_names(self) -> None:
        """Find dendrite's tables by the role's own search path, then reduce the path to PostgreSQL's own schema."""
        schemas = await super().fetchval(_OWN_PATH)
        await super().execute(_CLEAN_PATH)
        # In a literal of a statement, as to_regclass takes, a name with a quote would end it.
        usable = [schema for schema in schemas if not {"'", "\\"} & set(schema)]
        rows = await super().fetch(_FOUND, usable)
        # The first schema of the path comes last, and wins.
        found: dict[str, str] = {}
        for row in rows:
            found |= dict.fromkeys(row["tables"], row["schema"])
            # Its functions would run with our rights; in pg_catalog the table does not exist: an error.
            found |= dict.fromkeys(row["foreign_views"], "pg_catalog")
        self._tables = _Tables(tuple(sorted(found.items())), rows[-1]["schema"] if rows else "")

    def get_reset_query(self) -> str:
        """Return the statement that a pool runs on a returned connection: the reset sets the role's own path."""
        settings = [_CLEAN_PATH, _ANY_BYTES] if self._carries_bytes else [_CLEAN_PATH]
        return "\n".join((super().get_reset_query() or "", *(f"{setting};" for setting in settings)))

    def _sent(self, statement: str) -> str:
        named = _qualified(statement, self._tables)
        return named.encode().decode("latin-1") if self._carries_bytes else named

    async def execute(self, query: str, *args: Any, **options: Any) -> str:
        """Run a statement; as in the base class."""
        return await super().execute(self._sent(query), *args, **options)

    async def executemany(self, command: str, *args: Any, **options: Any) -> None:
        """Run a statement for each set of arguments; as in the base class."""
        await super().executemany(self._sent(command), *args, **options)

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        """Return the rows of a statement; as in the base class."""
        rows: list[Any] = await super().fetch(self._sent(query), *args, **options)
        return rows

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        """Return the first row of a statement; as in the base class."""
        return await super().fetchrow(self._sent(query), *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        """Return the first value of a statement; as in the base class."""
        return await super().fetchval(self._sent(query), *args, **options)

    async def prepare(self, query: str, **options: Any) -> PreparedStatement[Any]:
        """Prepare a statement; as in the base class."""
        prepared: PreparedStatement[Any] = await super().prepare(self._sent(query), **options)
        return prepared

    def cursor(self, query: str, *args: Any, **options: Any) -> CursorFactory[Any]:
        """Open a cursor over a statement; as in the base class."""
        return super().cursor(self._sent(query), *args, **options)


@lru_cache(maxsize=2048)
def _qualified(statement: str, tables: _Tables) -> str:
    return _TABLE.sub(lambda name: tables.name(name[0]), statement)


def _to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _from_bytes(given: bytes) -> str:
    return given.decode("utf-8", "surrogateescape")


def _unescaped(text: str) -> str:
    """Write JSON without escapes of characters: a database without an encoding cannot undo them."""
    return json.dumps(json.loads(text), ensure_ascii=False)
