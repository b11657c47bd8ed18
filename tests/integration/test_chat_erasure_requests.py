"""The file of requests to erase visitors: each done once, what is wrong reported at each run with its line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database.requests import read_requests
from retentiond.targets.chat_database.target import open_chat_database
from tests.support.chats import ChatStore

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from retentiond.model.report import PassReport

YESTERDAY = datetime.now(UTC) - timedelta(days=1)


@pytest.fixture
async def chats(database: str, connection: asyncpg.Connection[asyncpg.Record]) -> ChatStore:
    store = ChatStore(database, connection)
    await store.make()
    for visitor in range(2, 8):
        await connection.execute(f"INSERT INTO pro.visitor VALUES ({visitor}, 'Vera')")
    return store


async def chat(chats: ChatStore, visitor: int, *, young: bool = False) -> int:
    day: dict[str, Any] = (
        {"created": YESTERDAY, "modified": YESTERDAY, "messages": (YESTERDAY,)} if young else {}
    )
    made = await chats.chat(**day)
    await chats.connection.execute(
        "UPDATE pro.chatthread SET visitorid = $1 WHERE threadid = $2", visitor, made
    )
    return made


def line(name: str, visitor: object, **more: object) -> str:
    return json.dumps({"request": name, "account": "testcom", "visitor": visitor, **more}) + "\n"


async def run(chats: ChatStore, path: Path, **config: Any) -> PassReport:
    return await chats.run_pass(erasure_requests=str(path), **config)


async def test_a_request_is_carried_out_by_the_next_pass_and_by_none_after_that(
    chats: ChatStore, tmp_path: Path
) -> None:
    await chat(chats, 2)
    stays = await chat(chats, 3)
    path = tmp_path / "erasures.jsonl"
    path.write_text("# by ticket\n\n" + line("2027-001", 2))
    report = await run(chats, path)
    assert (report.state, await chats.chats()) == ("finished", {stays})
    assert report.removed["testcom"].items == 1
    again = await chat(chats, 2)
    report = await run(chats, path)
    assert (report.state, report.purges, await chats.chats()) == ("finished", [], {stays, again})


async def test_a_request_whose_chats_the_floor_keeps_is_tried_at_each_pass_until_none_is_left(
    chats: ChatStore, tmp_path: Path
) -> None:
    await chat(chats, 2)
    fresh = await chat(chats, 2, young=True)
    path = tmp_path / "erasures.jsonl"
    path.write_text(line("2027-001", "2"))
    assert (await run(chats, path)).state == "finished"
    assert await chats.chats() == {fresh}
    # A year later.
    await chats.connection.execute(
        "UPDATE pro.chatthread SET created = created - interval '2 years', modified = modified - interval '2 years';"
        "UPDATE pro.chatmessage SET created = created - interval '2 years'"
    )
    report = await run(chats, path)
    assert await chats.chats() == set()
    (purge,) = report.purges
    assert purge.erasure is not None
    assert (purge.erasure.done, purge.erasure.chats) == (True, 2)


async def test_a_line_that_is_wrong_is_reported_with_its_number_at_each_pass_and_the_others_are_carried_out(
    chats: ChatStore, tmp_path: Path
) -> None:
    there = {await chat(chats, visitor) for visitor in (2, 4)}
    path = tmp_path / "erasures.jsonl"
    path.write_text(
        line("a", 2) + line("b", "03030303") + '{"request": "c", "account": "testcom", "visitor": 4'
    )
    for left in (1, 1):
        with capture_logs() as log:
            report = await run(chats, path)
        assert (report.state, report.failed["request_refused"]) == ("finished_with_failures", 2)
        told = [entry["error"] for entry in log if entry["event"] == "item_failed"]
        assert told[0].startswith(f"{path}:3: ")
        assert "`b` of testcom" in told[1]
        assert len(await chats.chats()) == left
    assert len(there) == 2


@pytest.mark.parametrize(
    "bad",
    [
        line("a\0", 4),
        line("a\ud800", 4),
        line("a", "4\0"),
        line("a", "\ud800"),
        line("a", 4, reason="x\0"),
        line("a", 4, even_under_floor=True, reason="\ud800"),
    ],
)
async def test_a_line_with_a_character_that_no_database_can_store_keeps_no_other_request(
    chats: ChatStore, tmp_path: Path, bad: str
) -> None:
    await chat(chats, 2)
    path = tmp_path / "erasures.jsonl"
    path.write_text(bad + line("b", 2))
    report = await run(chats, path)
    assert (report.state, report.failed["request_refused"]) == ("finished_with_failures", 1)
    assert await chats.chats() == set()


@pytest.mark.parametrize("end", ["\u2028", "\x0c", "\x85", "\x1e"])
async def test_only_a_line_feed_ends_a_comment(chats: ChatStore, tmp_path: Path, end: str) -> None:
    stays = await chat(chats, 3)
    path = tmp_path / "erasures.jsonl"
    path.write_text(f"# not yet: {end}" + line("a", 3))
    assert (await run(chats, path)).state == "finished"
    assert await chats.chats() == {stays}


async def test_a_file_that_every_user_may_replace_is_not_carried_out(
    chats: ChatStore, tmp_path: Path
) -> None:
    stays = await chat(chats, 2)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    path, link = open_to_all / "erasures.jsonl", tmp_path / "link"
    path.write_text(line("a", 2))
    link.symlink_to(path)
    open_to_all.chmod(0o777)
    for named in (path, link):
        report = await run(chats, named)
        assert report.failed["request_refused"] == 1
        assert "every user may replace it" in report.remarks[0]
    assert await chats.chats() == {stays}
    open_to_all.chmod(0o1777)
    assert (await run(chats, path)).state == "finished"


async def test_the_log_of_a_refused_request_has_no_id_of_a_visitor(chats: ChatStore, tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    path.write_text(line("a", "0071717171") + line("b", "x71717171"))
    with capture_logs() as log:
        report = await run(chats, path)
    assert report.failed["request_refused"] == 2
    assert "71717171" not in json.dumps([log, report.remarks], default=str)


async def test_a_request_of_another_visitor_under_a_name_that_is_done_is_refused(
    chats: ChatStore, tmp_path: Path
) -> None:
    await chat(chats, 2)
    stays = await chat(chats, 3)
    path = tmp_path / "erasures.jsonl"
    for visitor in (2, 3):
        path.write_text(line("2027-001", visitor))
        report = await run(chats, path)
    assert report.failed["request_refused"] == 1
    assert "was made for another visitor" in report.remarks[0]
    assert await chats.chats() == {stays}


async def test_a_plan_counts_the_requests_and_changes_nothing(chats: ChatStore, tmp_path: Path) -> None:
    there = {await chat(chats, 2), await chat(chats, 3)}
    path = tmp_path / "erasures.jsonl"
    path.write_text(line("2027-001", 2) + line("2027-002", 3))
    async with open_chat_database("chats", chats.config(erasure_requests=str(path))) as target:
        report = await target.plan(None, Silent())
    assert (report.state, report.removed["testcom"].items) == ("planned", 2)
    assert await chats.chats() == there
    assert await chats.connection.fetchval("SELECT to_regnamespace('retentiond')") is None


async def test_a_check_of_the_configuration_names_the_lines_with_an_error(
    chats: ChatStore, tmp_path: Path
) -> None:
    await chats.purge()
    path = tmp_path / "erasures.jsonl"
    path.write_text(line("2027-001", 2) + "testcom 3\n")
    async with open_chat_database("chats", chats.config(erasure_requests=str(path))) as target:
        problems = (await target.check()).problems
    assert [str(problem).partition(": ")[0] for problem in problems] == [f"{path}:2"]


async def test_a_held_visitor_is_reported_at_each_pass_and_keeps_no_other_request(
    chats: ChatStore, tmp_path: Path
) -> None:
    held, _ = await chat(chats, 2), await chat(chats, 3)
    async with open_chat_database("chats", chats.config()) as target:
        await target.holds.add(HoldRequest(HoldSubject("account", "testcom", Narrowing(visitor="2"))))
    path = tmp_path / "erasures.jsonl"
    path.write_text(line("2027-001", 2) + line("2027-002", 3))
    for _ in range(2):
        report = await run(chats, path)
        assert (report.state, report.exit_status) == ("finished_with_failures", 1)
        (remark,) = report.remarks
        assert "the request `2027-001` of testcom: refused by hold" in remark
        assert await chats.chats() == {held}


class Silent:
    """A watcher that hears nothing."""

    def stage(self, name: str, total: int | None) -> None: ...

    def advance(self, items: int, size: int = 0) -> None: ...

    def note(self, text: str) -> None: ...


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"request": "a", "account": "testcom"}', "`visitor`: is missing"),
        (line("a", ""), "`visitor`: is empty"),
        (line("a", True), "`visitor`: is not text"),
        (line("a", None), "`visitor`: is not text"),
        (line("a", 2, visitors=[3]), "`visitors`: is not a key of a request"),
        (
            '{"request": "a", "visitor": 2, "account": "testcom", "visitor": 3}',
            "is not one JSON object (the key `visitor` is there twice)",
        ),
        (line("a", 2, even_under_floor=True), "`even_under_floor` needs a `reason`"),
        (line("a", 2, even_under_floor="no", reason="x"), "`even_under_floor`: is not true or false"),
        ('["testcom", 2]', "is not a JSON object"),
        (line("a", 2).replace("testcom", "testcon"), "there is no account `testcon`"),
        (line("a", "9" * 5000), "has more than 4000 characters"),
        ("testcom 2", "column 1: is not one JSON object"),
        ("[" * 3000, "is not one JSON object"),
    ],
)
def test_what_is_wrong_with_a_line_is_said_without_the_id(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "erasures.jsonl"
    path.write_text(line("first", 7) + text)
    requests, problems = read_requests(path, {"testcom"})
    assert [request.visitor for request in requests] == ["7"]
    assert len(problems) == 1
    assert f"{path}:2: {said}" in str(problems[0])


def test_a_name_that_is_there_twice_is_carried_out_once(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    path.write_text(line("a", 2) + line("a", 3))
    requests, problems = read_requests(path, {"testcom"})
    assert [request.visitor for request in requests] == ["2"]
    assert "is on line 1 already" in str(problems[0])


def test_a_file_that_is_missing_too_large_or_open_to_all_erases_nothing(tmp_path: Path) -> None:
    path = tmp_path / "erasures.jsonl"
    assert "there is no such file; create an empty file" in str(read_requests(path, {"testcom"})[1][0])
    path.write_text(line("a", 2) * 10_001)
    requests, problems = read_requests(path, {"testcom"})
    assert (requests, "more than 10000 requests" in str(problems[0])) == ([], True)
    path.write_text(line("a", 2))
    path.chmod(0o666)
    requests, problems = read_requests(path, {"testcom"})
    assert (requests, "chmod o-w" in str(problems[0])) == ([], True)
