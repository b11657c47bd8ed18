"""A role that may create in `public`, and uses it: functions and operators that fit our calls better than PostgreSQL's.

Which names our statements use is read from the statements themselves, so that a new one is covered as it is written.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    import asyncpg

    Connection = asyncpg.Connection[asyncpg.Record]

ROLE: Final = "retentiond_test_stranger"
# Keywords that call functions or operators whose names no statement shows.
_HIDDEN_OPERATORS: Final = ("=", "<>", "<", ">", "<=", ">=", "~~", "!~~", "~~*", "!~~*", "~", "||")
_HIDDEN_FUNCTIONS: Final = (
    "timezone",
    "extract",
    "date_part",
    "substring",
    "btrim",
    "ltrim",
    "rtrim",
    "overlay",
    "position",
)
_CALL: Final = re.compile(r"\b([a-z_][a-z0-9_]*)\s*\(")
_OPERATOR: Final = re.compile(r"[-+*/<>=~!@#%^&|`?]+")

# Each of these becomes a function whose arguments are one nearer to a call's own than the catalogue's, in every
# combination that the types of our parameters, columns and literals may call for; it counts its calls in a sequence,
# which no rollback takes back, and raises.
_PLANT: Final = r"""
CREATE SEQUENCE public.called;
CREATE TEMPORARY TABLE near (given oid, other oid);
INSERT INTO near SELECT g::regtype, o::regtype FROM (VALUES
    ('text', 'text'), ('text', 'varchar'), ('text', 'name'), ('text', 'bpchar'), ('text', '"char"'),
    ('name', 'text'), ('name', 'varchar'), ('bpchar', 'text'),
    ('integer', 'integer'), ('integer', 'bigint'), ('integer', 'smallint'), ('integer', 'oid'),
    ('bigint', 'integer'), ('bigint', 'bigint'), ('smallint', 'integer'), ('numeric', 'bigint'), ('numeric', 'integer'),
    ('double precision', 'bigint'), ('double precision', 'integer'), ('oid', 'integer'), ('oid', 'bigint'),
    ('oid', 'regclass'), ('regclass', 'text'), ('boolean', 'boolean'), ('bytea', 'text'), ('bytea', 'bytea'),
    ('json', 'json'), ('json', 'jsonb'), ('json', 'text'), ('jsonb', 'jsonb'), ('jsonb', 'json'), ('jsonb', 'text'),
    ('timestamptz', 'timestamptz'), ('timestamptz', 'date'), ('timestamp', 'timestamptz'), ('interval', 'interval'),
    ('uuid', 'uuid'), ('uuid', 'text'),
    ('anyelement', 'text'), ('anyelement', 'bigint'), ('anyelement', 'integer'), ('anyelement', 'jsonb'),
    ('anyelement', 'timestamptz'), ('anyelement', 'varchar'),
    ('"any"', 'text'), ('"any"', 'bigint'), ('"any"', 'integer'), ('"any"', 'varchar'),
    ('anyarray', 'text[]'), ('anyarray', 'varchar[]'), ('anyarray', 'bigint[]'), ('anyarray', 'integer[]'),
    ('anycompatible', 'text'), ('anycompatible', 'bigint'), ('anycompatiblearray', 'text[]'),
    ('anycompatiblearray', 'bigint[]'), ('text[]', 'varchar[]'), ('text[]', 'text[]'), ('text[]', 'name[]')) AS n(g, o);
CREATE FUNCTION pg_temp.nearer(given oid[]) RETURNS SETOF oid[] LANGUAGE sql AS $$
    WITH RECURSIVE nearer(types, place) AS (
        SELECT '{}'::oid[], 1
        UNION ALL
        SELECT n.types || o.type, n.place + 1
        FROM nearer n
        CROSS JOIN LATERAL (SELECT given[n.place] AS type UNION SELECT other FROM near WHERE near.given = $1[n.place]) o
        WHERE n.place <= cardinality(given))
    SELECT types FROM nearer WHERE place = cardinality(given) + 1
$$;
DO $$
DECLARE
    made record;
    body text := 'BEGIN PERFORM pg_catalog.nextval(''public.called''); RAISE EXCEPTION ''foreign NAME was called''; END';
BEGIN
    FOR made IN
        SELECT DISTINCT p.proname AS name, t.types FROM pg_proc p
        CROSS JOIN LATERAL pg_temp.nearer(string_to_array(p.proargtypes::text, ' ')::oid[]) AS t(types)
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY ({functions})
          AND p.pronargs BETWEEN 0 AND 4
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS text LANGUAGE plpgsql AS %L', made.name,
                           array_to_string(made.types::regtype[], ', '), replace(body, 'NAME', made.name));
        EXCEPTION WHEN OTHERS THEN NULL; -- a polymorphic or an internal type that no such function may take
        END;
    END LOOP;
    FOR made IN
        SELECT DISTINCT o.oprname AS name, o.oprresult::regtype AS result, t.types FROM pg_operator o
        CROSS JOIN LATERAL pg_temp.nearer(ARRAY[o.oprleft, o.oprright]) AS t(types)
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprname = ANY ({operators})
          AND o.oprleft <> 0 AND t.types && ARRAY(SELECT other FROM near)
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION public.foreign_operator(%s) RETURNS %s LANGUAGE plpgsql AS %L',
                           array_to_string(made.types::regtype[], ', '), made.result,
                           replace(body, 'NAME', made.name));
        EXCEPTION WHEN OTHERS THEN NULL; -- made for another operator
        END;
        BEGIN
            EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.foreign_operator)',
                           made.name, made.types[1]::regtype, made.types[2]::regtype);
        EXCEPTION WHEN OTHERS THEN NULL; -- two of them may be one
        END;
    END LOOP;
END
$$;
"""


async def plant(connection: Connection) -> int:
    """Let a stranger make them all in the connection's database; return how many there are."""
    functions, operators = names_in_use()
    text = _PLANT.replace("{functions}", _array(functions)).replace("{operators}", _array(operators))
    await connection.execute(
        f"DO $$ BEGIN CREATE ROLE {ROLE}; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
    # Whoever makes them calls none of them.
    await connection.execute(
        f"GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC; SET search_path TO pg_catalog, pg_temp; SET ROLE {ROLE}"
    )
    try:
        await connection.execute(text)
        return int(
            await connection.fetchval(
                "SELECT (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)"
                " + (SELECT count(*) FROM pg_operator WHERE oprnamespace = 'public'::regnamespace)"
            )
        )
    finally:
        await connection.execute("RESET ROLE; RESET search_path")


async def called(connection: Connection) -> int:
    """Return how often one of them was called."""
    return int(
        await connection.fetchval("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.called")
    )


def names_in_use() -> tuple[list[str], list[str]]:
    """Return the names before a bracket and the operators in our statements, whether they are PostgreSQL's or not."""
    texts = list(_statements(files("retentiond")))
    functions = {name for text in texts for name in _CALL.findall(text)} | set(_HIDDEN_FUNCTIONS)
    operators = {name for text in texts for name in _OPERATOR.findall(text)} | set(_HIDDEN_OPERATORS)
    return sorted(functions), sorted(operators)


def _statements(place: Traversable) -> Iterator[str]:
    for one in place.iterdir():
        if one.is_dir():
            yield from _statements(one)
        elif one.name.endswith((".sql", ".py")):
            yield one.read_text(encoding="utf-8")


def _array(names: list[str]) -> str:
    return "ARRAY[" + ", ".join("'" + name.replace("'", "''") + "'" for name in names) + "]"
