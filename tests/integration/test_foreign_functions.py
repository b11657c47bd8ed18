"""Code that other roles put into the database is never run: functions, operators, and objects in a schema of our name."""

from __future__ import annotations

import inspect
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import pytest

from retentiond.adapters.names import NamingConnection
from retentiond.engine.target import AuditOptions, NullProgress, PassOptions, Selection
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import UnreachableError
from retentiond.model.holds import HoldRequest, HoldSubject
from retentiond.model.request import Request
from retentiond.targets.dendrite_media.database.rows import SCHEMA
from tests.support.chats import OLD, ChatStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

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


ROOM = "!room:there.test"
EVERYTHING: dict[str, Any] = {
    "messages_in": ["joined_rooms"],
    "policies": [
        {"name": "left", "match": {"room": "no_local_members"}, "keep": "30d"},
        {"name": "unused", "match": {"unreferenced": True}, "keep": "30d"},
        {"name": "png", "match": {"origin": "remote", "content_type": "image/*"}, "keep": "30d"},
        {"name": "thumbs", "match": {"origin": "local"}, "keep": "30d", "remove": "thumbnails"},
    ],
    "quota": [{"match": {"origin": "remote"}, "max_size": "1B", "min_age": "1d"}],
    "settle": "0s",
    "grace": "1h",
}
OTHER_TYPES = """
CREATE SCHEMA other;
CREATE DOMAIN other.word AS text;
ALTER TABLE syncapi_current_room_state ALTER type TYPE other.word, ALTER sender TYPE varchar(255);
ALTER TABLE syncapi_output_room_events ALTER sender TYPE other.word, ALTER room_id TYPE varchar(255);
ALTER TABLE userapi_profiles ALTER localpart TYPE varchar(255), ALTER avatar_url TYPE other.word;
ALTER TABLE userapi_account_datas ALTER content TYPE other.word;
"""


async def fill(store: DendriteStore) -> None:
    """Give each statement something to find."""
    shown = [await store.add(thumbnails=[(32, 32, "crop")]) for _ in range(6)]
    await store.add(origin="here.test", user_id="@ann:here.test", thumbnails=[(32, 32, "crop")])
    await store.add(origin="here.test", user_id="@ann:here.test", base64hash="no hash")
    await store.add(file=False)
    await store.add_profile("ann", shown[0].uri)
    await store.add_room(ROOM, (True, 1))
    await store.add_state_event(
        ROOM, "m.room.member", "@a:there.test", {"avatar_url": shown[1].uri, "x": shown[2].uri}
    )
    await store.add_state_event(ROOM, "m.room.tombstone", "", {"replacement_room": "!other:there.test"})
    await store.add_state_event("!e:there.test", "m.room.encryption", "", {"algorithm": "x"})
    await store.add_account_data("ann", "x", {"a": f"see {shown[3].uri}\\u0000"})
    await store.add_event(ROOM, {"url": shown[4].uri}, sender="@ann:here.test")
    await store.add_event(ROOM, f"no JSON: {shown[5].uri.replace(':', '%3a')}")


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_no_foreign_function_is_called_by_any_work_on_media(
    retention: Retention, store: DendriteStore, connection: Connection, elsewhere: bool
) -> None:
    await fill(store)
    await connection.execute(OTHER_TYPES)
    assert await plant(connection) > 5000
    beside = f"{retention.database}?application_name=elsewhere"
    keys = EVERYTHING | (
        {"databases": {"sync_api": beside, "room_server": beside, "user_api": beside}} if elsewhere else {}
    )
    async with retention.opened(**keys) as target:
        for subject in (
            HoldSubject("room", ROOM),
            HoldSubject("user", "@ann:here.test"),
            HoldSubject("origin", "x.test"),
        ):
            await target.holds.add(HoldRequest(subject))
        plan = await target.plan(None, NullProgress())
        assert (plan.refused, plan.error) == (None, None)
        await target.statistics(NullProgress())
        await target.explain("mxc://there.test/media0001", NullProgress())
        await target.holds.release([1, 2, 3], None, "over")
        report = await target.run_pass(PassOptions("run", over_limits=True))
        assert (report.refused, report.error) == (None, None)
        assert report.removed_items > 0
        await target.check_quotas(PassOptions("run"))
        for request in (
            Request("user", "@ann:here.test"),
            Request("room", ROOM),
            Request("origin", "there.test"),
            Request("media", "mxc://there.test/media0001"),
        ):
            report = await target.run_pass(PassOptions("delete", over_limits=True, request=request))
            assert (report.refused, report.error) == (None, None)
        assert [one async for one in target.released()] != []
        await target.restore(Selection(pass_id=1))
        await target.forget(None)
        await target.sweep(everything=True)
        await target.end_grace()
        await target.audit(AuditOptions("audit"))
        await target.audit(AuditOptions("audit --repair", repair=True))
        assert (await target.verify_records()).records > 0
        assert (await target.status()).ledger
        await target.beat()
        await target.check()
        await target.accept(yes=True)
    assert await called(connection) == 0


async def test_no_foreign_function_is_called_by_a_purge_of_chats(
    database: str, connection: Connection
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    await connection.execute(
        "CREATE SCHEMA other; CREATE DOMAIN other.word AS text;"
        f'ALTER TABLE "{chats.schema}".chatthread ALTER state TYPE other.word'
    )
    await chats.chat(session=await chats.session(), files=1)
    await chats.statistic(OLD, OLD)
    assert await plant(connection) > 5000
    wish = {"file_messages": True, "stats": True}
    assert (await chats.purge(dry_run=True, wish=wish)).entities["chatthread"] == 1
    report = await chats.purge(wish=wish)
    assert (report.state, report.entities["chatthread"], report.entities["chatstats"]) == ("finished", 1, 1)
    assert await called(connection) == 0


async def test_a_view_that_a_role_without_our_trust_made_in_place_of_a_table_is_not_read(
    retention: Retention, store: DendriteStore, connection: Connection, database: str
) -> None:
    await store.add()
    await plant(connection)
    guest = f"guest_{database.rpartition('/')[2]}"
    await connection.execute(f"CREATE ROLE {guest} LOGIN PASSWORD 'x'")
    try:
        await connection.execute(
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {guest}; GRANT SELECT, UPDATE ON SEQUENCE called TO {guest};"
            "DROP TABLE userapi_profiles; SET search_path TO pg_catalog, pg_temp;"
            f"CREATE FUNCTION public.code() RETURNS text LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM nextval('public.called'); RETURN 'a'; END $$;"
            "CREATE VIEW public.userapi_profiles AS SELECT public.code() AS avatar_url, 'a' AS localpart, 'a' AS server_name;"
            f"ALTER VIEW public.userapi_profiles OWNER TO {ROLE}; GRANT SELECT ON public.userapi_profiles TO {guest}"
        )
        user = database.split("//")[1].split("@", maxsplit=1)[0]
        theirs = type(retention)(database.replace(user, f"{guest}:x"), retention.media_path)
        report, _ = await theirs.one_plan()
        assert report.refused is not None
        assert "userapi_profiles" in str(report.refused.value)
        assert await called(connection) == 0
    finally:
        await connection.execute(f"DROP OWNED BY {guest} CASCADE; DROP ROLE {guest}")


def test_every_way_to_send_a_statement_names_the_tables() -> None:
    taking = {
        name
        for name, method in inspect.getmembers(asyncpg.Connection, inspect.isfunction)
        if not name.startswith("_") and {"query", "command"} & set(inspect.signature(method).parameters)
    }
    # Neither is used here.
    assert taking - {"copy_from_query", "fetchmany"} == {
        name for name in taking if name in vars(NamingConnection)
    }


@pytest.mark.parametrize(
    ("made", "statement"),
    [
        ("CREATE SCHEMA retentiond AUTHORIZATION {role}", "ALTER SCHEMA retentiond OWNER TO"),
        ("ALTER TABLE retentiond.pass OWNER TO {role}", "ALTER TABLE retentiond.pass OWNER TO"),
    ],
)
async def test_a_ledger_that_another_role_owns_is_refused_with_the_statement_to_run(
    retention: Retention,
    store: DendriteStore,
    connection: Connection,
    database: str,
    made: str,
    statement: str,
) -> None:
    await store.add()
    guest = f"guest_{database.rpartition('/')[2]}"
    await connection.execute(f"CREATE ROLE {guest} LOGIN PASSWORD 'x'; CREATE ROLE {guest}_other")
    try:
        await connection.execute(
            f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {guest}', current_database()); END $$"
        )
        user = database.split("//")[1].split("@", maxsplit=1)[0]
        ours = await asyncpg.connect(database.replace(user, f"{guest}:x"), connection_class=NamingConnection)
        await ours.settle_names()
        try:
            if "SCHEMA" not in made:
                await Ledger().make(ours, SCHEMA)
            await connection.execute(made.replace("{role}", f"{guest}_other"))
            with pytest.raises(UnreachableError, match=f"{statement} {guest};"):
                await Ledger().make(ours, SCHEMA)
        finally:
            await ours.close()
    finally:
        await connection.execute(
            f"DROP OWNED BY {guest}, {guest}_other CASCADE; DROP ROLE {guest}; DROP ROLE {guest}_other"
        )
