"""The rights that chats need in PostgreSQL: exactly those that are named, each named where it is missing."""

from __future__ import annotations

import re
import secrets
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from retentiond.config.chat_stores import ClickHouseStore
from retentiond.engine.target import NullProgress, PassOptions
from retentiond.model.errors import MissingRightError, UnreachableError
from retentiond.targets.chat_database.clickhouse.table import privileges
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import OLD, ChatStore
from tests.support.chatwoot import Chatwoot

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.config.chats import ChatTarget
    from retentiond.model.check import Check
    from retentiond.model.report import PassReport

_DOCUMENT = Path(__file__).parents[2] / "docs/chats.md"
_LEDGER = re.compile(r"GRANT CREATE ON DATABASE .*;")


class Guest:
    """A role of its own without any right but to connect, and a target that it looks after."""

    def __init__(self, store: ChatStore | Chatwoot, role: str) -> None:
        self._store = store
        self.role = role
        self.granted: list[str] = []

    def config(self, **account: Any) -> ChatTarget:
        """Return the configuration of a target on the store, with this role."""
        config = self._store.config()
        url = urlsplit(config.database.get_secret_value())
        host = url.netloc.rpartition("@")[2]
        accounts = {
            name: one.model_dump(by_alias=True, exclude_unset=True) | account
            for name, one in config.accounts.items()
        }
        changes = {"database": url._replace(netloc=f"{self.role}:x@{host}").geturl(), "accounts": accounts}
        return self._store.config(**changes)

    async def grant(self, statements: list[str]) -> None:
        """Grant what was named, as the owner of the tables."""
        for statement in statements:
            await self._store.connection.execute(statement)
        self.granted += statements

    @asynccontextmanager
    async def without(self, statement: str) -> AsyncIterator[None]:
        """Take one right away for a block."""
        await self._store.connection.execute(
            statement.replace("GRANT", "REVOKE", 1).replace(f" TO {self.role}", f" FROM {self.role}")
        )
        yield
        await self._store.connection.execute(statement)

    async def check(self) -> Check:
        """Try what a pass needs."""
        async with open_chat_database("chats", self.config()) as target:
            return await target.check()

    async def plan(self) -> PassReport:
        """Say what a pass would do."""
        async with open_chat_database("chats", self.config(keep="400d")) as target:
            return await target.plan(None, NullProgress())

    async def run_pass(self, **account: Any) -> PassReport:
        """Do a pass."""
        async with open_chat_database("chats", self.config(keep="400d", **account)) as target:
            return await target.run_pass(PassOptions("once", over_limits=True))

    async def missing(self) -> list[str]:
        """Return the statements that a check names."""
        found: list[str] = []
        for problem in (await self.check()).problems:
            assert isinstance(problem, UnreachableError), problem
            told = (
                problem.statements
                if isinstance(problem, MissingRightError)
                else _LEDGER.findall(str(problem))
            )
            assert told, problem
            found += told
        return found


@pytest.fixture(params=["webim", "chatwoot"])
async def store(
    request: pytest.FixtureRequest, database: str, connection: asyncpg.Connection[asyncpg.Record]
) -> ChatStore | Chatwoot:
    made = ChatStore(database, connection) if request.param == "webim" else Chatwoot(database, connection)
    await made.make()
    if isinstance(made, ChatStore):
        await made.chat(session=await made.session(), files=1)
        await made.chat(session=await made.session())
    else:
        await made.file(await made.message(await made.conversation()), 0)
        await made.conversation()
    return made


@pytest.fixture
async def guest(store: ChatStore | Chatwoot) -> AsyncIterator[Guest]:
    role = f"retentiond_guest_{secrets.token_hex(4)}"
    database = await store.connection.fetchval("SELECT quote_ident(current_database())")
    await store.connection.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'; REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"
    )
    try:
        yield Guest(store, role)
    finally:
        await store.connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


async def test_a_role_with_exactly_the_named_rights_can_check_plan_and_purge(
    guest: Guest, store: ChatStore | Chatwoot
) -> None:
    await guest.grant(await guest.missing())
    assert not (await guest.check()).problems
    plan = await guest.plan()
    assert (plan.state, plan.removed_items) == ("planned", 1)
    report = await guest.run_pass()
    assert (report.state, report.removed_items, report.kept["has_file_messages"]) == ("finished", 1, 1)
    assert not await guest.missing()
    config = guest.config()
    text = "pro.chatmessage" if isinstance(store, ChatStore) else "chatwoot.messages"
    own = await asyncpg.connect(config.database.get_secret_value())
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await own.fetch(f"SELECT * FROM {text}")
    finally:
        await own.close()


async def test_a_role_with_exactly_the_named_rights_sees_the_usage_but_by_department(
    guest: Guest, store: ChatStore | Chatwoot
) -> None:
    await guest.grant(await guest.missing())
    if isinstance(store, Chatwoot):
        await store.connection.execute("ALTER TABLE chatwoot.conversations ADD team_id bigint")
    table = "pro.chatthread" if isinstance(store, ChatStore) else "chatwoot.conversations"
    column = "departmentid" if isinstance(store, ChatStore) else "team_id"
    async with open_chat_database("chats", guest.config()) as target:
        for by in ("account", "month"):
            assert sum(row.items for row in await target.usage(by, 9, NullProgress())) == 2
        with pytest.raises(
            UnreachableError, match=f"{column}, is missing, or this role may not read it; let"
        ):
            await target.usage("department", 9, NullProgress())
        await store.connection.execute(f"GRANT SELECT ({column}) ON {table} TO {guest.role}")
        assert sum(row.items for row in await target.usage("department", 9, NullProgress())) == 2


async def test_a_role_with_exactly_the_named_rights_can_purge_orphans(
    guest: Guest, store: ChatStore | Chatwoot
) -> None:
    await guest.grant(await guest.missing())
    if isinstance(store, ChatStore):
        await store.connection.execute(
            "ALTER TABLE pro.chatmessage DROP CONSTRAINT chatmessage_threadid_fkey"
        )
        for chat in (0, 4711):
            await store.message(chat, OLD)
        table, column = "pro.chatmessage", "threadid"
    else:
        for chat in (0, 4711):
            message = await store.message(await store.conversation())
            await store.connection.execute(
                "UPDATE chatwoot.messages SET conversation_id = $2 WHERE id = $1", message, chat
            )
            await store.file(message, 0)
        table, column = "chatwoot.messages", "conversation_id"
    report = await guest.run_pass(purge_orphans=True, delete_file_messages=True)
    assert (report.state, report.error) == ("finished", None)
    assert not await store.connection.fetchval(f"SELECT count(*) FROM {table} WHERE {column} IN (0, 4711)")


async def test_each_right_that_is_missing_is_named_by_check_plan_and_pass(guest: Guest) -> None:
    await guest.grant(await guest.missing())
    assert len(guest.granted) > 10
    for statement in guest.granted:
        async with guest.without(statement):
            assert await guest.missing() == [statement]
            if _LEDGER.fullmatch(statement):
                # A plan writes nothing, not even its ledger.
                assert (await guest.plan()).state == "planned"
                with pytest.raises(UnreachableError, match=re.escape(statement)):
                    await guest.run_pass()
                continue
            with pytest.raises(MissingRightError, match=re.escape(statement)):
                await guest.plan()
    for statement in guest.granted:
        if _LEDGER.fullmatch(statement):
            continue
        async with guest.without(statement):
            report = await guest.run_pass()
            assert report.state == "interrupted"
            assert statement in str(report.error)


async def test_one_missing_column_is_named_alone(guest: Guest, store: ChatStore | Chatwoot) -> None:
    await guest.grant(await guest.missing())
    table, column = (
        ("pro.chatmessage", "kind") if isinstance(store, ChatStore) else ("chatwoot.messages", "updated_at")
    )
    await store.connection.execute(f"REVOKE SELECT ({column}) ON {table} FROM {guest.role}")
    assert await guest.missing() == [f"GRANT SELECT ({column}) ON {table} TO {guest.role};"]


async def test_rights_on_whole_tables_do_as_well(guest: Guest, store: ChatStore | Chatwoot) -> None:
    schema = "pro" if isinstance(store, ChatStore) else "chatwoot"
    database = await store.connection.fetchval("SELECT quote_ident(current_database())")
    await store.connection.execute(
        f"GRANT USAGE ON SCHEMA {schema} TO {guest.role}; GRANT CREATE, TEMPORARY ON DATABASE {database} TO {guest.role};"
        f"GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {guest.role}"
    )
    assert not await guest.missing()


def documented(name: str) -> list[str]:
    """Return the statements of a block of the document."""
    found = re.search(rf"<!-- grants: {name} -->\n```sql\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1].splitlines()


@pytest.mark.parametrize("store", ["webim"], indirect=True)
async def test_the_document_has_the_statements_for_webim(guest: Guest, store: ChatStore) -> None:
    database = await store.connection.fetchval("SELECT quote_ident(current_database())")
    await store.connection.execute(f"GRANT TEMPORARY ON DATABASE {database} TO PUBLIC")
    told = [
        statement.replace(guest.role, "retentiond").replace(f"DATABASE {database}", "DATABASE webim")
        for statement in await guest.missing()
    ]
    assert sorted(told) == sorted(documented("webim"))


def test_the_document_has_the_statements_for_clickhouse() -> None:
    config = ClickHouseStore.model_validate({"url": "http://localhost:8123", "thread_column": "threadid"})
    alone = [f"GRANT {privilege} TO retentiond;" for privilege in privileges(config)]
    assert documented("clickhouse") == alone
    on_cluster = privileges(config.model_copy(update={"cluster": "main"}))
    assert [f"GRANT {one} TO retentiond;" for one in on_cluster] == alone + documented("clickhouse cluster")
