"""Code that other roles put into the database is never run: functions, operators, and objects in a schema of our name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

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
from tests.support.foreign_functions import ROLE, called, plant

if TYPE_CHECKING:
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

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
