"""Keys that do not name one row: another account's rows, or a chat's that stays, would go for the one that is due."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.errors import UsageError
from retentiond.targets.chat_database import secondary
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import CUTOFF, ChatStore
from tests.support.secondary import STORES, Beside

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

TENANTS = """
CREATE SCHEMA shop;
CREATE TABLE shop.session (tenant text, id int, PRIMARY KEY (tenant, id));
CREATE TABLE shop.chat (tenant text, id int, created timestamptz, state text, session_id int, PRIMARY KEY (tenant, id));
CREATE TABLE shop.message (tenant text, id int, chat_id int, created timestamptz, kind text,
                           FOREIGN KEY (tenant, chat_id) REFERENCES shop.chat);
INSERT INTO shop.session VALUES ('ours', 1), ('theirs', 1);
INSERT INTO shop.chat VALUES ('ours', 1, '2022-03-04Z', 'closed', 1), ('ours', 2, '2022-03-04Z', 'closed', NULL),
                             ('theirs', 2, '2022-03-04Z', 'open', NULL);
INSERT INTO shop.message VALUES ('ours', 1, 2, '2022-03-04Z', 'text'), ('ours', 2, 2, '2022-03-04Z', 'file'),
                                ('theirs', 1, 2, '2022-03-04Z', 'text');
"""
LAYOUT = """
chat: chat
schema: shop
entities:
  chat: {class: facts, key: id, account_column: tenant, dates: [created], state: {column: state, over: [closed]}}
  message:
    {class: messages, key: id, parent: chat, column: chat_id, dates: [created], files: {column: kind, values: [file]}}
  session: {class: facts, key: id, shared_by: session_id}
"""


@pytest.mark.parametrize("dry_run", [True, False])
async def test_another_accounts_messages_and_session_go_where_each_account_numbers_its_own(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path, dry_run: bool
) -> None:
    await connection.execute(TENANTS)
    layout = tmp_path / "layout.yaml"
    layout.write_text(LAYOUT)
    store = ChatStore(database, connection, "shop")
    before = await store.counts()
    report = await store.purge(layout=str(layout), account="ours", accounts={"ours": {}}, dry_run=dry_run)
    assert report.refused is not None
    assert str(report.refused.value).split("; ") == [
        f"{table}.id identifies a row only together with tenant, and a purge uses the key alone"
        for table in ("chat", "session")
    ]
    assert await store.counts() == before


async def test_a_chat_that_stays_loses_its_messages_to_one_of_the_same_number(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    await connection.execute("ALTER TABLE pro.chatthread DROP CONSTRAINT chatthread_pkey CASCADE")
    chat = await chats.chat(files=1)
    await chats.insert("chatthread", threadid=chat, created=CUTOFF, modified=CUTOFF, state="chatting")
    report = await chats.purge()
    assert report.refused is not None
    assert "chatthread.threadid is 1 in more than one row" in str(report.refused.value)
    assert len(await chats.ids("chatmessage", "messageid")) == 3


async def test_a_key_that_a_table_shares_with_its_heir_names_two_rows(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    gone, stays = await chats.chat(), await chats.chat(state="chatting")
    await connection.execute("ALTER TABLE pro.surveyanswer DROP CONSTRAINT surveyanswer_surveylaunchid_fkey")
    await connection.execute(
        "CREATE TABLE pro.surveylaunch_old (PRIMARY KEY (surveylaunchid)) INHERITS (pro.surveylaunch)"
    )
    # The launch of the one that stays has, in the heir, the number of the other's.
    await connection.execute("DELETE FROM pro.surveylaunch WHERE surveylaunchid = $1", stays)
    await connection.execute("INSERT INTO pro.surveylaunch_old VALUES ($1, $2, 1, now())", gone, stays)
    report = await chats.purge()
    assert report.refused is not None
    assert f"surveylaunch.surveylaunchid is {gone} in more than one row" in str(report.refused.value)


async def test_a_value_that_a_domain_forbids_is_a_slip_in_the_configuration(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    await connection.execute(
        "CREATE SCHEMA shop; CREATE DOMAIN shop.name AS text CHECK (VALUE <> 'theirs');"
        "CREATE TABLE shop.chat (id int PRIMARY KEY, tenant shop.name, created timestamptz, state text)"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(LAYOUT[: LAYOUT.index("  message:")])
    chats = ChatStore(database, connection, "shop")
    with pytest.raises(UsageError, match=r"of type shop\.name cannot hold it"):
        await chats.purge(layout=str(layout), account="theirs", accounts={"theirs": {}})


async def test_a_date_in_the_index_of_a_partitioned_table_is_no_part_of_what_names_a_row(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    await connection.execute(
        "ALTER TABLE pro.chatthread DROP CONSTRAINT chatthread_pkey CASCADE;"
        "ALTER TABLE pro.chatthread ADD firm text DEFAULT 'testcom', ADD PRIMARY KEY (threadid, created)"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        files("retentiond.targets.chat_database")
        .joinpath("layouts/webim.yaml")
        .read_text()
        .replace("visitor: visitorid", "visitor: visitorid\n    account_column: firm")
        .replace("only_with: stats", "only_with: stats\n    account_column: operatorid")
    )
    await chats.chat()
    assert (await chats.purge(layout=str(layout))).chats == 1


async def test_the_chats_of_an_account_that_stays_for_ever_go_by_the_schedule_of_one_on_the_same_tables(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    chats = ChatStore(database, connection)
    await chats.make()
    chat = await chats.chat()
    with pytest.raises(UsageError, match="`kept` and `testcom` have the same chats"):
        await chats.run_pass(
            accounts={"kept": {"schema": "pro"}, "testcom": {"schema": "pro", "keep": "400d"}}
        )
    assert await chats.chats() == {chat}


async def test_the_chats_of_an_account_go_by_the_purge_of_one_whose_name_begins_with_its_own(
    database: str, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    # A cast to `character` leaves one character of a name.
    await connection.execute(
        TENANTS + "DELETE FROM shop.message; DELETE FROM shop.chat; ALTER TABLE shop.message DROP CONSTRAINT "
        "message_tenant_chat_id_fkey; ALTER TABLE shop.chat DROP CONSTRAINT chat_pkey, ADD PRIMARY KEY (id), "
        "ALTER tenant TYPE char(20); ALTER TABLE shop.session DROP CONSTRAINT session_pkey; DELETE FROM shop.session;"
        "INSERT INTO shop.chat VALUES ('ours', 1, '2022-03-04Z', 'closed'), ('o', 2, '2022-03-04Z', 'closed')"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(LAYOUT)
    store = ChatStore(database, connection, "shop")
    report = await store.purge(layout=str(layout), account="ours", accounts={"ours": {}, "o": {}})
    assert (report.state, report.chats) == ("finished", 1)
    assert await store.ids("chat", "id") == {2}


async def test_a_key_of_fixed_width_names_the_chats_that_stay_without_the_blanks_that_fill_it(
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await connection.execute(
        "CREATE SCHEMA shop;"
        "CREATE TABLE shop.chatthread (threadid char(36) PRIMARY KEY, created timestamptz, state text);"
        "INSERT INTO shop.chatthread VALUES ('gone', '2022-03-04Z', 'closed'), ('stays', '2022-03-04Z', 'open')"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        "chat: chatthread\nschema: shop\nentities:\n  chatthread:\n"
        "    {class: facts, key: threadid, dates: [created], state: {column: state, over: [closed]}}\n"
    )
    store = ChatStore(database, connection, "shop")
    stores = Beside(store)
    stores.has = ["stays", "gone"]
    monkeypatch.setattr(secondary, "open_store", stores.open)
    report = await store.purge(
        layout=str(layout), account="ours", accounts={"ours": {}}, wish={"stores": ("clickhouse",)}, **STORES
    )
    assert (report.state, report.chats) == ("finished", 1)
    assert stores.told == [("clickhouse", ["stays"])]


async def test_a_value_by_which_the_layout_tells_nothing_apart_is_refused_and_not_passed_over(
    database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    # All chats of the schema went, whosever they were.
    chats = ChatStore(database, connection)
    await chats.make()
    chat = await chats.chat()
    with pytest.raises(UsageError, match="the layout has no `account_column`"):
        await chats.purge(accounts={"testcom": {"schema": "pro", "value": "testcom"}})
    assert await chats.chats() == {chat}


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("int", "01", "would hold it as `1`"),
        ("int", "ours", "cannot hold it"),
        ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "would hold it as `a0eebc99"),
        ("public.brief", "ours", "would hold it as `our`"),
        ('"char"', "ours", "would hold it as `o`"),
    ],
)
async def test_a_value_that_the_accounts_column_holds_otherwise_is_refused_and_not_taken_for_another(
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    tmp_path: Path,
    kind: str,
    value: str,
    told: str,
) -> None:
    await connection.execute(
        "CREATE DOMAIN public.brief AS varchar(3); CREATE SCHEMA shop;"
        f"CREATE TABLE shop.chat (tenant {kind}, id int PRIMARY KEY, created timestamptz, state text)"
    )
    layout = tmp_path / "layout.yaml"
    layout.write_text(
        "chat: chat\nschema: shop\nentities:\n  chat: "
        "{class: facts, key: id, account_column: tenant, dates: [created], state: {column: state, over: [closed]}}\n"
    )
    store = ChatStore(database, connection, "shop")
    given: dict[str, Any] = {"layout": str(layout), "accounts": {"ours": {"value": value}}}
    for dry_run in (True, False):
        with pytest.raises(UsageError, match=told):
            await store.purge(account="ours", dry_run=dry_run, **given)
    async with open_chat_database("chats", store.config(**given)) as target:
        (problem,) = (await target.check()).problems
    assert told in str(problem)
