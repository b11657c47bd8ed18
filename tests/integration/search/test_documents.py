"""Which documents go and which stay, in a real OpenSearch and a real Elasticsearch."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from retentiond.model.check import AccountRows
from retentiond.targets.chat_database.search import portions
from retentiond.targets.chat_database.store import NIL_UUID
from tests.support.search_index import INDEX, Watching
from tests.support.search_server import on_both_servers
from tests.support.stats_table import CUTOFF
from tests.support.store_purge import Chats as Known
from tests.support.store_purge import Purge

if TYPE_CHECKING:
    from tests.support.search_index import Chats

# The first to ask for a server waits for its start.
pytestmark = pytest.mark.timeout(300)
# What both servers do alike is shown on one.
on_one_server = pytest.mark.parametrize("server", ["opensearch"], indirect=True)


async def test_an_accounts_documents_before_the_date_go_and_all_others_stay(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=100)
    await chats.add("other", first=CUTOFF - timedelta(hours=50), count=100)
    watching = Watching()
    async with chats.opened() as store:
        report = await store.purge(Purge("acme", CUTOFF), watching)
    assert (report.state, report.rows, report.error) == ("finished", 50, None)
    # Each slice of the purge has told of its part, and none twice.
    assert watching.gone == 50
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
@on_both_servers
async def test_the_boundary_is_exact_to_the_millisecond(chats: Chats, mapping: dict[str, Any]) -> None:
    await chats.make(created=mapping)
    await chats.add(first=CUTOFF - timedelta(milliseconds=2), count=5, every=timedelta(milliseconds=1))
    assert (await chats.purge()).rows == 2
    assert await chats.left() == 3


@on_one_server
@pytest.mark.parametrize(
    ("written", "after"), [("strict_date", ""), ("basic_date||uuuu-MM-dd", ""), ("yyyy-MM-dd'T'", "T")]
)
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
async def test_the_day_of_the_date_stays_where_the_field_holds_days(
    chats: Chats, written: str, after: str, zone: str
) -> None:
    await chats.make(created={"type": "date", "format": written})
    for day in (20, 21):
        await chats.add(first=CUTOFF, count=1, threadid=day, created=f"2023-08-{day}{after}")
    cutoff = datetime(2023, 8, 21, tzinfo=ZoneInfo(zone))
    assert (await chats.purge(Purge("acme", cutoff))).rows == 1
    assert await chats.chats("acme") == {21}


@on_one_server
async def test_documents_without_a_believable_date_stay_and_are_told(chats: Chats) -> None:
    await chats.make(created={"type": "date", "ignore_malformed": True})
    for written in ("yesterday", None, "1970-01-01", "2022-03-04"):
        await chats.add(first=CUTOFF, count=1, created=written)
    report = await chats.purge()
    assert report.rows == 1
    assert any("3 documents have no believable date" in text for text in report.waiting)


async def test_a_field_with_a_format_of_its_own_has_the_same_boundary(chats: Chats) -> None:
    await chats.make(created={"type": "date", "format": "epoch_second"})
    seconds = [int((CUTOFF + timedelta(seconds=offset)).timestamp()) for offset in (-1, 0)]
    for second in seconds:
        await chats.add(first=CUTOFF, count=1, created=second)
    assert (await chats.purge()).rows == 1


@on_both_servers
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
    staying = list(range(1, 201, 2))
    report = await chats.purge(Purge("acme", CUTOFF, chats=Known(staying)))
    assert (report.state, report.rows) == ("finished", 100)
    assert await chats.left() == 103
    assert any("3 documents do not name a chat" in text for text in report.waiting)
    report = await chats.purge(Purge("acme", CUTOFF, chats=Known(staying)), without_chat="purge")
    assert (report.state, report.rows) == ("finished", 3)


@pytest.mark.parametrize(
    ("kind", "no_chat", "chat"),
    [("long", [0], 7), ("keyword", ["", "0", NIL_UUID, NIL_UUID.replace("-", "")], "chat-7")],
)
async def test_a_document_of_chat_zero_names_no_chat_and_goes_only_by_the_consent_for_those(
    chats: Chats, kind: str, no_chat: list[Any], chat: Any
) -> None:
    await chats.make(threadid={"type": kind})
    old = CUTOFF - timedelta(days=9)
    for of in (*no_chat, no_chat, [no_chat[0], chat]):
        await chats.add(first=old, count=1, threadid=of)
    report = await chats.purge()
    # The last of them names a chat beside, which is gone.
    assert (report.state, report.rows) == ("finished", 1)
    left = len(no_chat) + 1
    assert any(f"{left} documents do not name a chat" in text for text in report.waiting)
    # A chat that has such an id after all keeps its documents.
    report = await chats.purge(Purge("acme", CUTOFF, chats=Known([str(no_chat[0])])), without_chat="purge")
    assert (report.rows, await chats.left()) == (left - 2, 2)
    report = await chats.purge(without_chat="purge")
    assert (report.rows, await chats.left()) == (2, 0)


@on_one_server
async def test_more_chats_than_one_query_names_are_looked_up_and_purged_a_bounded_number_at_a_time(
    chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "_MOST_CHATS", 50)
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(days=40), count=400, every=timedelta(hours=2))
    known = Known(range(1, 401, 2))
    report = await chats.purge(Purge("acme", CUTOFF, chats=known))
    assert (report.state, report.rows) == ("finished", 200)
    assert await chats.chats("acme") == set(range(1, 401, 2))
    assert sorted(chat for page in known.asked for chat in page) == list(range(1, 401))
    assert max(map(len, known.asked)) == 50


@on_one_server
async def test_a_document_of_several_chats_goes_only_when_the_database_has_none_of_them(
    chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.make()
    old = CUTOFF - timedelta(days=9)
    for of in ([1, 2], [1, 3], [4, 5]):
        await chats.add(first=old, count=1, threadid=of)
    report = await chats.purge(Purge("acme", CUTOFF, chats=Known([2], unknown=[5])))
    assert (report.state, report.rows) == ("finished", 1)
    # The two chats of a document may be looked up apart.
    monkeypatch.setattr(portions, "_MOST_CHATS", 1)
    await chats.add(first=old, count=1, threadid=[1, 9])
    await chats.purge(Purge("acme", CUTOFF, chats=Known([2, 9], unknown=[5])))
    assert await chats.left() == 3


async def test_documents_of_several_chats_of_which_one_stays_are_counted(
    chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chats.make()
    for of in ([1, 2], [1, 2, 3], [1, 4], [2, 5], [1, 3], [4]):
        await chats.add(first=CUTOFF - timedelta(days=9), count=1, threadid=of)
    known = Known([2], unknown=[5])
    for purge_id, dry_run in ((None, True), (1, False)):
        report = await chats.purge(Purge("acme", CUTOFF, purge_id, known, dry_run=dry_run))
        assert (report.rows, report.kept) == (3, {"several_chats": 2})
        assert any(text.startswith("2 documents name several chats, and are kept") for text in report.waiting)
    # Where their chats are looked up apart, a document is counted with the first of them, or at least once.
    monkeypatch.setattr(portions, "_MOST_CHATS", 1)
    report = await chats.purge(Purge("acme", CUTOFF, chats=known))
    assert (report.rows, report.kept) == (0, {"several_chats": 2})
    assert any(text.startswith("at least 2 documents name several chats") for text in report.waiting)


async def test_documents_of_chats_that_keep_only_messages_with_files_are_counted(chats: Chats) -> None:
    await chats.make()
    for month in (3, 5):
        for chat in (1, 2, 3):
            created = f"2023-0{month}-01T00:00:00Z"
            await chats.add(first=CUTOFF, count=1, threadid=chat, created=created)
    known = Known([2, 3], stripped=[2])
    for purge_id, dry_run in ((None, True), (1, False)):
        report = await chats.purge(Purge("acme", CUTOFF, purge_id, known, dry_run=dry_run))
        assert (report.rows, report.kept) == (2, {"has_file_messages": 2})
        assert any(
            "2 documents of chats that keep messages with files are kept completely" in text
            for text in report.waiting
        )


@pytest.mark.parametrize(
    ("kind", "text", "note", "file"), [("integer", 2, 10, 13), ("keyword", "operator", "note", "file")]
)
async def test_where_a_document_is_a_message_the_texts_of_chats_that_keep_only_files_go(
    chats: Chats, kind: str, text: Any, note: Any, file: Any
) -> None:
    await chats.make(kind={"type": kind})
    old = CUTOFF - timedelta(days=9)
    for of in (text, note, file, [text, file], None):
        await chats.add(first=old, count=1, threadid=2, kind=of)
    await chats.add(first=old, count=1, threadid=3, kind=text)
    await chats.add(first=old, count=1, threadid=[2, 3], kind=text)
    await chats.add(first=CUTOFF, count=1, threadid=2, kind=text)
    known = Known([2, 3], stripped=[2])
    given = {"kind_field": "kind", "text_kinds": (str(note), str(text))}
    for purge_id, dry_run in ((None, True), (1, False)):
        report = await chats.purge(Purge("acme", CUTOFF, purge_id, known, dry_run=dry_run), **given)
        assert (report.state, report.rows) == ("planned" if dry_run else "finished", 2)
        # A file, one that is both, one of no kind, and one that is of another chat, too.
        assert report.kept == {"has_file_messages": 4}
    assert await chats.left() == 6


@on_one_server
async def test_a_field_of_kinds_that_cannot_tell_texts_is_refused(chats: Chats) -> None:
    for mapping, kinds in (({"type": "text"}, ("1",)), ({"type": "long"}, ("operator",)), (None, ("1",))):
        await chats.make(kind=mapping)
        await chats.add(first=CUTOFF - timedelta(days=9), count=1)
        report = await chats.purge(kind_field="kind", text_kinds=kinds)
        assert report.refused is not None
        assert report.refused.limit == "elasticsearch_kind_field"


@on_one_server
async def test_a_document_of_two_dates_in_two_months_is_counted_once(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF, count=1, created=["2023-01-01T00:00:00Z", "2023-02-01T00:00:00Z"])
    assert (await chats.purge(Purge("acme", CUTOFF, purge_id=None, dry_run=True))).rows == 1


@on_one_server
async def test_a_field_of_chats_that_is_rewritten_by_a_normalizer_is_refused(chats: Chats) -> None:
    analysis = {"analysis": {"normalizer": {"small": {"type": "custom", "filter": ["lowercase"]}}}}
    await chats.make(settings=analysis, threadid={"type": "keyword", "normalizer": "small"})
    await chats.add(first=CUTOFF - timedelta(days=9), count=1, threadid="A")
    report = await chats.purge()
    assert report.refused is not None
    assert report.refused.limit == "elasticsearch_thread_field"


async def test_a_document_of_two_accounts_or_of_a_date_before_all_chats_stays(chats: Chats) -> None:
    await chats.make()
    old = CUTOFF - timedelta(days=9)
    await chats.add(["acme", "other"], first=old, count=1)
    await chats.add(first=old, count=1, created=0)
    await chats.add(["acme", "acme"], first=old, count=1)
    assert (await chats.purge()).rows == 1
    assert await chats.left() == 2


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
    body: list[dict[str, Any]] = [
        {"index": {}},
        {"account": "acme", "created": "2023-01-01T00:00:00Z", "threadid": 1},
    ]
    await chats.bulk(body)
    assert (await chats.purge()).rows == 1


@on_one_server
async def test_an_account_is_told_from_another_of_which_it_is_a_word_where_the_server_chose_the_fields(
    chats: Chats,
) -> None:
    # Without a mapping a string is a text, with a keyword below it.
    await chats.make(account=None)
    old = CUTOFF - timedelta(hours=50)
    for account in ("acme", "acme-Nord"):
        await chats.add(account, first=old, count=10)
    report = await chats.purge(Purge("acme-Nord", CUTOFF), account_field="account.keyword")
    assert (report.state, report.rows) == ("finished", 10)
    # The text of both has the word.
    assert await chats.left("acme") == 10


@on_one_server
async def test_an_index_of_one_account_goes_by_its_constant(chats: Chats) -> None:
    await chats.make(account={"type": "constant_keyword", "value": "acme"})
    await chats.add(first=CUTOFF - timedelta(hours=50), count=60)
    assert (await chats.purge(Purge("other", CUTOFF))).rows == 0
    assert (await chats.purge()).rows == 50
    assert await chats.left() == 10


@on_one_server
async def test_a_purge_by_an_alias_reaches_every_index_behind_it(chats: Chats) -> None:
    for number in (1, 2):
        await chats.make(f"{INDEX}-{number}")
        await chats.alias(f"{INDEX}-{number}", f"{INDEX}-both")
        await chats.add(first=CUTOFF - timedelta(hours=10), count=20, index=f"{INDEX}-{number}")
    report = await chats.purge(index=f"{INDEX}-both")
    assert (report.state, report.rows) == ("finished", 20)
    assert await chats.left(index=f"{INDEX}-both") == 20


@on_one_server
async def test_a_purge_by_a_streams_name_reaches_its_older_indices_and_the_one_that_is_written(
    chats: Chats,
) -> None:
    stream = f"{INDEX}-stream"
    template: dict[str, Any] = {
        "index_patterns": [stream],
        "data_stream": {},
        "template": {"mappings": {"properties": {"account": {"type": "keyword"}}}},
    }
    await chats.ask("PUT", f"/_index_template/{stream}", template)
    try:
        for _ in range(2):
            lines: list[dict[str, Any]] = []
            for days in (-1, 1):
                moment = (CUTOFF + timedelta(days=days)).isoformat()
                lines += [{"create": {}}, {"@timestamp": moment, "account": "acme"}]
            await chats.bulk(lines, stream)
            await chats.ask("POST", f"/{stream}/_rollover")
        await chats.bulk(lines, stream)
        report = await chats.purge(
            index=stream, date_field="@timestamp", thread_field=None, without_chat="purge"
        )
        assert (report.state, report.rows) == ("finished", 3)
        assert await chats.left(index=stream) == 3
        await chats.ask("POST", f"/.ds-{stream}-000001/_close")
        report = await chats.purge(
            index=f"{stream}*", date_field="@timestamp", thread_field=None, without_chat="purge"
        )
        assert report.refused is not None
        assert report.refused.value == f".ds-{stream}-000001"
    finally:
        await chats.remove(f"/_data_stream/{stream}")
        await chats.remove(f"/_index_template/{stream}")


async def test_a_check_shows_the_product_its_shards_and_the_documents_of_each_account(chats: Chats) -> None:
    await chats.make()
    await chats.add(first=CUTOFF - timedelta(hours=50), count=100)
    async with chats.opened() as store:
        found = await store.look(["acme", "nobody"])
    assert found.version.split()[0] in {"OpenSearch", "Elasticsearch"}
    assert dict(found.accounts) == {"acme": AccountRows(100, "2023-08-18"), "nobody": AccountRows(0, None)}
    assert found.shards is not None
    assert found.replicas is not None
    assert 1 <= found.shards <= found.replicas
