"""A purge in a real OpenSearch and a real Elasticsearch: what goes, what stays, and what it believes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.request import Request, urlopen

import pytest

from retentiond.config.chat_stores import ElasticsearchStore
from retentiond.demo.chats import ACCOUNT
from retentiond.engine.target import Silence, Stop
from retentiond.model.errors import UnreachableError
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database import beside
from retentiond.targets.chat_database.patience import Patience
from retentiond.targets.chat_database.search.client import ServerError, ask_for, open_search
from retentiond.targets.chat_database.search.store import Elasticsearch, open_elasticsearch
from retentiond.targets.chat_database.stores import open_store
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import OLD, ChatStore
from tests.support.closing_lines import not_run
from tests.support.search_server import NotToBeHadError, Product, SearchServer
from tests.support.stats_table import Stats
from tests.support.store_purge import Notes, Purge, Staying

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    import asyncpg

    from retentiond.config.chats import ChatTarget
    from retentiond.model.purge import StoreReport
    from retentiond.targets.chat_database.store import ChatStore as ChatStoreBeside
    from retentiond.targets.chat_database.store import StoreName
    from tests.support.clickhouse_server import ClickHouseServer

CUTOFF = datetime(2023, 8, 21, tzinfo=UTC)
# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)
# What both servers do alike, and takes its time, is shown on one.
on_one_server = pytest.mark.parametrize("server", ["opensearch"], indirect=True)
QUICK = Patience(between=0.05, stalled=20)
_RATE = 50_000
_INDEX = "retentiond-test"
_MAPPING = {
    "account": {"type": "keyword"},
    "created": {"type": "date"},
    "threadid": {"type": "long"},
    "text": {"type": "text"},
}


@pytest.fixture(scope="module", params=get_args(Product))
def server(request: pytest.FixtureRequest) -> Iterator[SearchServer | str]:
    """The server of these tests, one product after the other; the URL where one is named, which nobody kills."""
    product: Product = request.param
    named = os.environ.get(f"RETENTIOND_TEST_{product.upper()}_URL")
    if named:
        yield named
        return
    # The server runs as another user where root runs the tests, and reads every directory on its way.
    directory = Path(tempfile.mkdtemp(prefix="retentiond-test-"))
    directory.chmod(0o755)
    try:
        started = SearchServer(directory, product)
    except NotToBeHadError as error:
        how = f"set RETENTIOND_TEST_{product.upper()}_URL to a server to test on"
        not_run(request.config, f"{product} ({error})", how)
        pytest.skip(f"{error}; {how}")
    started.start()
    try:
        yield started
    finally:
        started.kill()
        shutil.rmtree(directory)


class Chats:
    """An index of chats, made anew for each test."""

    def __init__(self, url: str) -> None:
        self.config = ElasticsearchStore(url=url, index=_INDEX, thread_field="threadid")

    async def ask(self, method: str, path: str, body: Any = None, **parameters: str) -> Any:
        """Ask the server something."""
        async with open_search(self.config) as search:
            return await search.ask(method, path, body, **parameters)

    async def make(self, index: str = _INDEX, **changes: dict[str, Any]) -> None:
        """Make an index, empty; a change is a field's mapping in place of the usual one."""
        async with open_search(self.config) as search:
            await ask_for(search, "DELETE", f"/{index}")
            settings = {"number_of_shards": 2, "number_of_replicas": 0}
            body = {"settings": settings, "mappings": {"properties": _MAPPING | changes}}
            await search.ask("PUT", f"/{index}", body)

    async def add(
        self,
        account: str | list[str] = "acme",
        *,
        first: datetime,
        count: int,
        every: timedelta = timedelta(hours=1),
        index: str = _INDEX,
        **fields: Any,
    ) -> None:
        """Add documents, one every so often; their chats are numbered from 0."""
        lines: list[dict[str, Any]] = []
        for number in range(count):
            moment = (first + number * every).isoformat().replace("+00:00", "Z")
            document = {"account": account, "created": moment, "threadid": number, "text": "x" * 20} | fields
            lines += [{"index": {}}, {key: value for key, value in document.items() if value is not None}]
        await self.bulk(lines, index, "?refresh=true")

    async def bulk(self, lines: list[dict[str, Any]], index: str = _INDEX, parameters: str = "") -> None:
        """Send lines of a bulk; what the server says of a line is in its answer."""
        body = "".join(json.dumps(line) + "\n" for line in lines).encode()
        headers = {"Content-Type": "application/x-ndjson"}
        request = Request(f"{self.config.url}/{index}/_bulk{parameters}", body, headers)

        def send() -> Any:
            with urlopen(request, timeout=60) as answer:
                return json.load(answer)

        answer = await asyncio.to_thread(send)
        assert not answer["errors"], answer

    async def chats(self, account: str) -> set[int]:
        """Return the chats of an account that are there."""
        query = {"query": {"term": {"account": account}}, "size": 1000, "_source": ["threadid"]}
        answer = await self.ask("POST", f"/{_INDEX}/_search", query)
        return {hit["_source"]["threadid"] for hit in answer["hits"]["hits"]}

    async def left(self, account: str = "acme", index: str = _INDEX) -> int:
        """Count an account's documents."""
        await self.ask("POST", f"/{index}/_refresh")
        answer = await self.ask("POST", f"/{index}/_count", {"query": {"term": {"account": account}}})
        return int(answer["count"])

    @asynccontextmanager
    async def opened(self, rate: int = _RATE, **changes: Any) -> AsyncIterator[Elasticsearch]:
        """Open the store."""
        async with open_elasticsearch(self.config.model_copy(update=changes), rate, QUICK) as store:
            yield store

    async def purge(self, purge: Purge | None = None, **changes: Any) -> StoreReport:
        """Purge."""
        async with self.opened(**changes) as store:
            return await store.purge(purge or Purge("acme", CUTOFF), Silence())

    async def tasks(self) -> list[dict[str, Any]]:
        """Return the purges that run."""
        answer = await self.ask("GET", "/_tasks", actions="*/delete/byquery", detailed="true")
        return [
            task
            for node in answer.get("nodes", {}).values()
            for task in node["tasks"].values()
            if "parent_task_id" not in task
        ]

    async def until_running(self) -> None:
        """Wait until a purge runs."""
        while not await self.tasks():
            await asyncio.sleep(0.02)


class DiedError(BaseException):
    """What a power cut is to the daemon."""


def dying_in(
    which: StoreName,
) -> Callable[[StoreName, ChatTarget], AbstractAsyncContextManager[ChatStoreBeside]]:
    """Return a way to open stores that dies when it comes to one of them."""

    def opening(name: StoreName, config: ChatTarget) -> AbstractAsyncContextManager[ChatStoreBeside]:
        if name == which:
            raise DiedError
        return open_store(name, config)

    return opening


@pytest.fixture
def chats(server: SearchServer | str) -> Chats:
    return Chats(server if isinstance(server, str) else server.url)


async def test_an_accounts_documents_before_the_date_go_and_all_others_stay(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await chats.add("other", first=CUTOFF - timedelta(hours=50), count=100)
    report = await chats.purge()
    assert (report.state, report.rows, report.error) == ("finished", 50, None)
    assert await chats.left() == 50
    assert await chats.left("other") == 100
    assert any("are in segments on the disk" in text for text in report.waiting)


async def test_a_dry_run_counts_and_changes_nothing(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=100)
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=None, dry_run=True))
    assert (report.state, report.rows) == ("planned", 50)
    assert await chats.left() == 100


@pytest.mark.parametrize("mapping", [{"type": "date"}, {"type": "date_nanos"}])
async def test_the_boundary_is_exact_to_the_millisecond(chats: Chats, mapping: dict[str, Any]) -> None:
    await chats.make(created=mapping)
    await chats.add(first=CUTOFF - timedelta(milliseconds=2), count=5, every=timedelta(milliseconds=1))
    assert (await chats.purge()).rows == 2
    assert await chats.left() == 3


async def test_a_field_with_a_format_of_its_own_has_the_same_boundary(chats: Chats) -> None:
    await chats.make(created={"type": "date", "format": "epoch_second"})
    seconds = [int((CUTOFF + timedelta(seconds=offset)).timestamp()) for offset in (-1, 0)]
    for second in seconds:
        await chats.add(first=CUTOFF, count=1, created=second)
    assert (await chats.purge()).rows == 1


async def test_a_document_of_two_dates_goes_only_when_both_are_old_and_one_without_a_date_never(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF, count=1, created=["2023-01-01T00:00:00Z", "2024-01-01T00:00:00Z"])
    await chats.add(first=CUTOFF, count=1, created=["2023-01-01T00:00:00Z", "2023-02-01T00:00:00Z"])
    await chats.add(first=CUTOFF, count=1, created=None)
    assert (await chats.purge()).rows == 1
    assert await chats.left() == 2


async def test_chats_that_stay_are_left_out_and_documents_that_say_of_none_stay_too(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=100), count=200)
    await chats.add(first=CUTOFF - timedelta(days=100), count=3, threadid=None)
    staying = [*range(0, 200, 2), *range(10_000, 35_000)]
    report = await chats.purge(Purge("acme", CUTOFF, excluded=Staying(staying)))
    assert (report.state, report.rows) == ("finished", 100)
    assert await chats.left() == 103
    assert any("3 documents say of no chat" in text for text in report.waiting)


async def test_a_document_of_two_accounts_or_of_a_date_before_all_chats_stays(chats: Chats) -> None:
    await chats.make()
    old = CUTOFF - timedelta(days=9)
    await chats.add(["acme", "other"], first=old, count=1)
    await chats.add(first=old, count=1, created=0)
    await chats.add(["acme", "acme"], first=old, count=1)
    assert (await chats.purge()).rows == 1
    assert await chats.left() == 2


@on_one_server
async def test_an_index_that_takes_accounts_for_each_other_is_refused(chats: Chats) -> None:
    alias = {"type": "alias", "path": "account"}
    await chats.make(account={"type": "keyword", "normalizer": "lowercase"}, tenant=alias)
    await chats.add("ACME", first=CUTOFF - timedelta(days=9), count=1)
    for field in ("account", "tenant"):
        report = await chats.purge(account_field=field)
        assert report.refused is not None
        assert report.refused.limit == "elasticsearch_account_field"
    assert await chats.left() == 1


@on_one_server
async def test_a_misspelt_field_of_chats_is_told_before_any_chat_stays(chats: Chats) -> None:
    await chats.make()
    async with chats.opened(thread_field="thredid") as store:
        (problem,) = await store.check()
    assert "thredid" in problem


@on_one_server
async def test_chats_that_stay_refuse_an_index_that_does_not_tell_them(chats: Chats) -> None:
    await chats.make()
    report = await chats.purge(Purge("acme", CUTOFF, excluded=Staying([1])), thread_field=None)
    assert report.state == "refused"


@on_one_server
@pytest.mark.parametrize(
    "change",
    [
        {"index": "retentiond-tset"},
        {"account_field": "acount"},
        {"account_field": "text"},
        {"account_field": "account*"},
        {"date_field": "creatd"},
        {"date_field": "threadid"},
    ],
)
async def test_what_is_misspelt_or_of_another_type_is_refused_and_matches_nothing_and_not_everything(
    chats: Chats, change: dict[str, Any]
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    report = await chats.purge(**change)
    assert report.state == "refused"
    assert await chats.left() == 10


async def test_a_field_that_one_of_several_indices_lacks_is_refused(chats: Chats) -> None:
    await chats.make("retentiond-test-1")
    await chats.make("retentiond-test-2", account={"type": "text"})
    try:
        report = await chats.purge(index="retentiond-test-*")
        assert report.refused is not None
        assert "keyword, text" in str(report.refused.value)
    finally:
        for number in (1, 2):
            await chats.ask("DELETE", f"/retentiond-test-{number}")


@on_one_server
async def test_a_hostile_account_matches_nothing_but_itself(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    for account in ("*", "acme*", 'a" OR "', "", "ACME"):
        assert (await chats.purge(Purge(account, CUTOFF))).rows == 0
    assert await chats.left() == 10


@on_one_server
async def test_what_is_not_visible_yet_is_counted_and_goes(chats: Chats) -> None:
    await chats.make()
    await chats.ask("PUT", f"/{_INDEX}/_settings", {"index": {"refresh_interval": "-1"}})
    body: list[dict[str, Any]] = [
        {"index": {}},
        {"account": "acme", "created": "2023-01-01T00:00:00Z", "threadid": 1},
    ]
    await chats.bulk(body)
    assert (await chats.purge()).rows == 1


@on_one_server
async def test_documents_that_others_change_meanwhile_are_not_called_gone_before_they_are(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=3000)
    stop = asyncio.Event()

    async def change() -> None:
        update = {"query": {"range": {"threadid": {"lt": 200}}}}
        while not stop.is_set():
            try:
                await chats.ask(
                    "POST", f"/{_INDEX}/_update_by_query", update, conflicts="proceed", refresh="true"
                )
            except ServerError:
                await asyncio.sleep(0.01)

    writer = asyncio.create_task(change())
    await asyncio.sleep(0.05)
    try:
        report = await chats.purge()
    finally:
        stop.set()
        await writer
    # What is changed at each look conflicts at each; nothing is called done that is not.
    left = await chats.left()
    assert report.rows == 3000 - left
    assert report.state == ("finished_with_failures" if left else "finished")
    assert (await chats.purge()).state == "finished"
    assert await chats.left() == 0


@pytest.mark.parametrize("block", ["write", "read_only", "read_only_allow_delete"])
async def test_a_block_is_named_before_anything_is_tried(chats: Chats, block: str) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    await chats.ask("PUT", f"/{_INDEX}/_settings", {"index": {"blocks": {block: True}}})
    try:
        report = await chats.purge()
        assert report.refused is not None
        assert f"`{block}`" in report.refused.hint
    finally:
        await chats.ask("PUT", f"/{_INDEX}/_settings", {"index": {"blocks": {block: None}}})


async def test_a_closed_index_behind_a_pattern_is_named_and_not_passed_over(chats: Chats) -> None:
    await chats.make("retentiond-test-1")
    await chats.make("retentiond-test-2")
    try:
        await chats.ask("POST", "/retentiond-test-2/_close")
        report = await chats.purge(index="retentiond-test-*")
        assert report.refused is not None
        assert "retentiond-test-2" in str(report.refused.value)
    finally:
        for number in (1, 2):
            await chats.ask("DELETE", f"/retentiond-test-{number}")


@on_one_server
async def test_what_the_daemons_death_left_running_is_followed_and_not_started_beside_it(
    chats: Chats,
) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=4000)
    notes = Notes()
    async with chats.opened(rate=1000) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), Silence()))
        await chats.until_running()
        while "task" not in await notes.read():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(await chats.tasks()) == 1
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert report.state == "finished"
    assert await chats.left() == 0
    # Only the first was ever started.
    assert len({note["mark"] for note in notes.written if note}) == 1


@on_one_server
async def test_asked_to_stop_it_leaves_the_purge_to_the_server_and_the_next_finds_it(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=4000)
    stop, notes = Stop(), Notes()
    async with chats.opened(rate=1000) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes, stop=stop), Silence()))
        await chats.until_running()
        stop.ask()
        assert (await task).state == "interrupted"
    assert (await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))).state == "finished"
    assert await chats.left() == 0


@on_one_server
async def test_a_purge_that_somebody_cancels_is_a_failure_that_says_so(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=6000)
    async with chats.opened(rate=500) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF), Silence()))
        await chats.until_running()
        await chats.ask("POST", "/_tasks/_cancel", actions="*/delete/byquery")
        report = await task
    assert report.state == "finished_with_failures"
    assert "cancelled" in (report.error or "")


@on_one_server
async def test_another_purges_result_under_the_same_number_is_not_believed(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    notes = Notes()
    # It ended long ago, and its number has come up again since.
    await notes.write({"mark": "retentiond:somebody's", "task": "node:1"})
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert (report.state, report.rows) == ("finished", 10)


async def test_the_results_of_purges_do_not_pile_up_on_the_server(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=10)
    notes = Notes()
    await chats.purge(Purge("acme", CUTOFF, notes=notes))
    tasks = [note["task"] for note in notes.written if "task" in note]
    assert tasks
    async with open_search(chats.config) as search:
        assert await ask_for(search, "GET", f"/_tasks/{tasks[-1]}") is None


@on_one_server
async def test_two_purges_at_once_both_end_well(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=2000)
    reports = await asyncio.gather(chats.purge(), chats.purge(Purge("acme", CUTOFF, purge_id=2)))
    assert [report.state for report in reports] == ["finished", "finished"]
    assert await chats.left() == 0


async def test_a_server_that_is_not_there_is_unreachable(unused_tcp_port: int) -> None:
    config = ElasticsearchStore(url=f"http://127.0.0.1:{unused_tcp_port}", index="x")
    with pytest.raises(UnreachableError, match="cannot be reached"):
        async with open_search(config):
            pass


@on_one_server
@pytest.mark.timeout(400)  # it starts twice, and takes its time
async def test_a_server_killed_in_the_middle_is_unreachable_and_the_next_purge_ends_what_it_began(
    chats: Chats, server: SearchServer | str
) -> None:
    if isinstance(server, str):
        pytest.skip("a server that was named is not ours to kill")
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=200), count=4000)
    notes = Notes()
    async with chats.opened(rate=500) as store:
        task = asyncio.create_task(store.purge(Purge("acme", CUTOFF, notes=notes), Silence()))
        await chats.until_running()
        server.kill()
        with pytest.raises(UnreachableError):
            await task
    await asyncio.to_thread(server.start)
    # It died with the server, and is not among its tasks any more.
    report = await chats.purge(Purge("acme", CUTOFF, purge_id=2, notes=notes))
    assert report.state == "finished"
    assert await chats.left() == 0


@pytest.mark.parametrize("way", ["by hand, after a death between the stores", "by schedule"])
async def test_one_purge_takes_a_chat_from_every_store_and_leaves_those_that_stay_in_every_store(
    chats: Chats,
    clickhouse_server: ClickHouseServer | None,
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    store = ChatStore(database, connection)
    await store.make()
    recent = datetime.now(UTC) - timedelta(days=30)
    due = {await store.chat(), await store.chat()}
    held = await store.chat()
    stay = {
        held,
        await store.chat(state="chatting"),
        await store.chat(messages=(OLD, recent)),
        await store.chat(files=1),
    }
    newer = await store.chat(created=recent, modified=recent, messages=(recent,))
    stats = Stats(
        clickhouse_server.url if clickhouse_server else os.environ["RETENTIOND_TEST_CLICKHOUSE_URL"]
    )
    await stats.make()
    await chats.make()
    lines: list[dict[str, Any]] = []
    for account in (ACCOUNT, "other"):
        for chat in due | stay | {newer}:
            created = recent if chat == newer else OLD
            await stats.row(account, created, chat)
            lines += [
                {"index": {}},
                {"account": account, "created": created.isoformat(), "threadid": chat},
            ]
    await chats.bulk(lines, parameters="?refresh=true")
    config: dict[str, Any] = {
        "clickhouse": stats.config.model_dump(),
        "elasticsearch": chats.config.model_dump(),
    }
    both: tuple[StoreName, ...] = ("clickhouse", "elasticsearch")
    async with open_chat_database("chats", store.config()) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", ACCOUNT, Narrowing(chat=str(held)))))
    if way == "by schedule":
        scheduled = {"schema": store.schema, "keep": "400d", "clickhouse": True, "elasticsearch": True}
        (report,) = (await store.run_pass(accounts={ACCOUNT: scheduled}, **config)).purges
    else:
        with monkeypatch.context() as patched:
            patched.setattr(beside, "open_store", dying_in("elasticsearch"))
            with pytest.raises(DiedError):
                await store.purge(wish={"stores": both}, **config)
        report = await store.purge(wish={"stores": both}, **config)
    assert (report.state, report.exit_status) == ("finished", 0)
    assert await store.chats() == stay | {newer}
    assert await stats.chats(ACCOUNT) == await chats.chats(ACCOUNT) == stay | {newer}
    assert await stats.chats("other") == await chats.chats("other") == due | stay | {newer}
