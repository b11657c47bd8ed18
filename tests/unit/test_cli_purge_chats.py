"""`purge-chats` as it is typed: which target it is for, what it is told, and what it says."""

from __future__ import annotations

import io
import re
from collections import Counter
from contextlib import asynccontextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.engine.target import Erasure, PurgeRequest
from retentiond.model.errors import BusyError, Refusal, RefusedError, StoreLimit, UnreachableError
from retentiond.model.orphans import OrphanReport, Orphans
from retentiond.model.purge import (
    MOST_SHARDS,
    ErasureReport,
    PurgeReport,
    ReplicaReport,
    ShardReport,
    StoreReport,
)
from tests.support.command_line import CommandLine, Outcome
from tests.support.fake_target import FakeTarget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from retentiond.config.schema import TargetConfig
    from retentiond.engine.target import PassOptions
    from retentiond.model.errors import RetentiondError

CHATS = """\
  {name}:
    kind: chat_database
    database: postgresql://webim@localhost/webim
    accounts:
      testcom: {{schema: pro}}
      {other}: {{schema: other}}
"""
WORDS = ("purge-chats", "--account", "testcom", "--to-date", "2023-08-21")
WISH = PurgeRequest("testcom", date(2023, 8, 21))


class FakeChats(FakeTarget):
    """A target of chats in memory."""

    def __init__(self, name: str, purged: PurgeReport) -> None:
        super().__init__(name, "chat_database")
        self.purged = purged
        self.wishes: list[tuple[PurgeRequest, bool]] = []
        self.erasures: list[tuple[Erasure, bool]] = []

    async def purge_chats(self, wish: PurgeRequest, order: PassOptions, *, dry_run: bool) -> PurgeReport:
        """Remember what was wished for, and return the report."""
        assert order.command == "purge-chats"
        self.wishes.append((wish, dry_run))
        return self.purged

    async def erase(self, erasure: Erasure, order: PassOptions, *, dry_run: bool) -> PurgeReport:
        """Remember which visitor was to be erased, and return the report."""
        assert order.command == "purge-chats"
        self.erasures.append((erasure, dry_run))
        return self.purged


class Prompt:
    """A configuration with a target of media and targets of chats."""

    def __init__(self, directory: Path, *names: str, **report: Any) -> None:
        purged = PurgeReport("testcom", date(2023, 8, 21), False, **{"state": "finished"} | report)
        purged.entities.update(chatthread=10, chatmessage=100)
        self.targets = {name: FakeChats(name, purged) for name in names or ("chats",)}
        self.line = CommandLine(directory)
        extra = "".join(CHATS.format(name=name, other=f"only-{name}") for name in self.targets)
        self.line.config.write_text(self.line.text() + extra)

    def type(self, *words: str) -> Outcome:
        """Run a command."""

        @asynccontextmanager
        async def opened(name: str, _config: TargetConfig) -> AsyncIterator[FakeChats]:
            yield self.targets[name]

        self.line.factory.open = opened  # type: ignore[method-assign, assignment]
        return self.line.type(*words, stdin=io.StringIO())


def test_the_example_of_the_tool_it_stands_in_for_works_as_written(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path)
    outcome = prompt.type(*WORDS, "--delete-file-messages")
    assert outcome.status == 0
    assert prompt.targets["chats"].wishes == [
        (PurgeRequest("testcom", WISH.to_date, file_messages=True), False)
    ]
    assert "chatmessage" in outcome.stdout


def test_a_dry_run_is_one_and_the_other_flags_arrive(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path)
    prompt.type(*WORDS, "--dry-run", "--purge-stats")
    assert prompt.targets["chats"].wishes == [(PurgeRequest("testcom", WISH.to_date, stats=True), True)]


def test_orphans_are_asked_for_by_a_flag_which_a_visitor_cannot_have(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path)
    prompt.type(*WORDS, "--purge-orphans")
    assert prompt.targets["chats"].wishes == [(PurgeRequest("testcom", WISH.to_date, orphans=True), False)]
    outcome = prompt.type("purge-chats", "--account", "testcom", "--visitor", "7", "--purge-orphans")
    assert (outcome.status, len(prompt.targets["chats"].wishes)) == (2, 1)
    assert "--purge-orphans cannot be combined with --visitor" in outcome.stderr


def test_no_empty_table_of_orphans_is_printed_where_there_are_none(tmp_path: Path) -> None:
    orphans = OrphanReport(requested=True, found=Orphans(), left=Orphans())
    assert "rows whose chat is missing" not in Prompt(tmp_path, orphans=orphans).type(*WORDS).stdout


def test_a_visitor_without_chats_is_not_reported_as_an_account_without_chats(tmp_path: Path) -> None:
    erasure = ErasureReport(1, None, "a" * 60, even_under_floor=False, reason="")
    prompt = Prompt(tmp_path, erasure=erasure)
    prompt.targets["chats"].purged.entities = Counter({"chatthread": 0})
    shown = prompt.type(*ERASE).stdout
    assert "The visitor has no chats in this account." in shown
    assert "The account has no chats." not in shown
    assert "--even-under-floor" not in shown


def test_orphans_are_shown_with_what_was_deleted_and_why_others_stay(tmp_path: Path) -> None:
    found = Orphans(1, Counter(chatmessage=12), Counter(chatmessage=5), Counter(newer=7))
    left = Orphans(0, Counter(chatmessage=7))
    orphans = OrphanReport(requested=True, found=found, removed=Counter(chatmessage=5), left=left)
    shown = Prompt(tmp_path, orphans=orphans, remarks=["the files are not deleted"]).type(*WORDS).stdout
    assert re.search(r"chatmessage +12 +5 +5", shown)
    assert "7 orphan rows kept, newer: a row of the missing chat is not older than the date." in shown
    assert "7 orphan rows left after the purge." in shown
    assert "The files are not deleted." in shown


def test_what_a_lost_store_is_known_to_be_rid_of_is_told_as_the_least(tmp_path: Path) -> None:
    store = StoreReport("interrupted", 1500, error="the search was lost", at_least=True)
    prompt = Prompt(tmp_path, stores={"elasticsearch": store})
    assert "elasticsearch: interrupted, at least 1,500 rows" in prompt.type(*WORDS).stdout
    told = prompt.type(*WORDS, "--json").document["stores"]["elasticsearch"]
    assert (told["rows"], told["at_least"]) == (1500, True)


def test_as_json_it_prints_the_interfaces_document_and_nothing_else(tmp_path: Path) -> None:
    outcome = Prompt(tmp_path).type(*WORDS, "--json")
    assert outcome.document == {
        "account": "testcom",
        "to_date": "2023-08-21",
        "dry_run": False,
        "state": "finished",
        "chats": 0,
        "entities": {"chatthread": 10, "chatmessage": 100},
        "kept": {"open": 0, "newer": 0, "has_file_messages": 0, "hold": 0},
        "stores": {},
    }


def test_each_shard_and_replica_of_a_store_is_shown_with_its_state_and_rows(tmp_path: Path) -> None:
    dead = ReplicaReport("n2:9000", "unreachable", error="connection refused")
    shards = (
        ShardReport("1", "unreachable", 40, 0, replicas=(ReplicaReport("n1:9000", "finished", 0), dead)),
        ShardReport("2", "finished", 2, 0, replicas=(ReplicaReport("n3:9000", "finished", 0),)),
    )
    prompt = Prompt(tmp_path, stores={"clickhouse": StoreReport("interrupted", 42, shards=shards)})
    words = prompt.type(*WORDS).stdout
    assert "shard 1: unreachable, 40 rows deleted, 0 rows left" in words
    assert "replica n2:9000: unreachable: connection refused" in words
    told = prompt.type(*WORDS, "--json").document["stores"]["clickhouse"]
    assert told["shards"][0] == {
        "name": "1",
        "state": "unreachable",
        "rows": 40,
        "left": 0,
        "replicas": [
            {"name": "n1:9000", "state": "finished", "left": 0},
            {"name": "n2:9000", "state": "unreachable", "error": "connection refused"},
        ],
    }


def test_of_very_many_shards_those_that_are_not_finished_are_listed_first_and_the_rest_is_counted() -> None:
    shards = [ShardReport(str(number), "finished") for number in range(MOST_SHARDS + 50)]
    shards.append(ShardReport("last", "failed", error="no disk"))
    told = StoreReport("finished_with_failures", shards=tuple(shards)).as_json()
    assert (len(told["shards"]), told["more_shards"]) == (MOST_SHARDS, 51)
    assert told["shards"][0]["name"] == "last"


REFUSAL = Refusal("floor", "2026-01-01", "2025-01-01", "the latest allowed date is 2025-01-01")


@pytest.mark.parametrize(
    ("report", "status"),
    [
        ({"state": "finished_with_failures"}, 1),
        ({"state": "refused", "refused": REFUSAL}, 3),
        ({"state": "interrupted", "error": "the database was lost"}, 4),
        ({"stores": {"clickhouse": StoreReport("refused", refused=REFUSAL)}}, 3),
        (
            {
                "stores": {
                    "clickhouse": StoreReport("refused", refused=REFUSAL),
                    "elasticsearch": StoreReport("interrupted"),
                }
            },
            4,
        ),
    ],
)
def test_the_exit_status_is_the_worst_of_the_databases_and_the_stores(
    tmp_path: Path, report: dict[str, Any], status: int
) -> None:
    prompt = Prompt(tmp_path, **report)
    assert prompt.type(*WORDS).status == prompt.type(*WORDS, "--json").status == status


def test_a_refusal_says_which_date_would_do_however_it_is_asked(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path, state="refused", refused=REFUSAL)
    assert "the latest allowed date is 2025-01-01" in prompt.type(*WORDS).stdout
    assert "the latest allowed date is 2025-01-01" in prompt.type(*WORDS, "--json").stderr


def test_a_refusal_of_what_no_value_would_do_for_names_none(tmp_path: Path) -> None:
    refused = Refusal(StoreLimit("clickhouse_table"), "no such table", None, "correct `table`")
    prompt = Prompt(tmp_path, stores={"clickhouse": StoreReport("refused", refused=refused)})
    told = "clickhouse: refused by clickhouse_table: no such table; correct `table`"
    assert prompt.type(*WORDS, "--json").stderr == f"retentiond: testcom: {told}\n"


@pytest.mark.parametrize("day", ["2023-8-21", "21.08.2023", "2023-02-30", "", "yesterday", "20230821"])
def test_what_is_no_day_is_wrong_usage(tmp_path: Path, day: str) -> None:
    prompt = Prompt(tmp_path)
    outcome = prompt.type("purge-chats", "--account", "testcom", "--to-date", day)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "is not a valid date; write it as" in outcome.stderr
    assert prompt.targets["chats"].wishes == []


def test_an_account_that_no_target_has_is_wrong_usage_and_those_there_are_are_named(tmp_path: Path) -> None:
    outcome = Prompt(tmp_path).type("purge-chats", "--account", "testcon", "--to-date", "2023-08-21")
    assert outcome.status == 2
    assert "no target has the account `testcon`; there are: only-chats, testcom" in outcome.stderr


def test_where_several_targets_have_the_account_one_must_be_named(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path, "moscow", "berlin")
    outcome = prompt.type(*WORDS)
    assert outcome.status == 2
    assert "add --target, one of: moscow, berlin" in outcome.stderr
    assert prompt.type(*WORDS, "--target", "berlin").status == 0
    assert (prompt.targets["berlin"].wishes, prompt.targets["moscow"].wishes) == ([(WISH, False)], [])
    # Where only one has it, it need not be named.
    assert prompt.type("purge-chats", "--account", "only-moscow", "--to-date", "2023-08-21").status == 0


@pytest.mark.parametrize(
    ("target", "said"), [("media", "`media` is no target of chats"), ("nobody", "`nobody` is no target")]
)
def test_a_target_that_has_no_chats_is_wrong_usage(tmp_path: Path, target: str, said: str) -> None:
    outcome = Prompt(tmp_path).type(*WORDS, "--target", target)
    assert outcome.status == 2
    assert f"{said}; there are: chats" in outcome.stderr


@pytest.mark.parametrize(
    ("error", "status", "state"),
    [
        (UnreachableError("the database cannot be reached; try again"), 4, "interrupted"),
        (BusyError("another retentiond is at work on this store; try again"), 5, "refused"),
        (RefusedError(Refusal("standby", "a standby", "the primary", "point to the primary")), 3, "refused"),
    ],
)
def test_as_json_a_purge_that_did_not_come_to_a_report_has_a_document_that_says_why(
    tmp_path: Path, error: RetentiondError, status: int, state: str
) -> None:
    prompt = Prompt(tmp_path)

    async def fail(*_: Any, **__: Any) -> PurgeReport:
        raise error

    prompt.targets["chats"].purge_chats = fail  # type: ignore[method-assign]
    outcome = prompt.type(*WORDS, "--json", "--dry-run")
    assert outcome.status == status
    told = outcome.document
    assert (told["account"], told["to_date"], told["dry_run"]) == ("testcom", "2023-08-21", True)
    assert (told["state"], told["error"]) == (state, str(error))
    assert outcome.stderr.count(str(error)) == 1
    assert prompt.type(*WORDS).stdout == ""


ERASE = ("purge-chats", "--account", "testcom", "--visitor", "4711")


def test_the_erasure_of_a_visitor_needs_no_date_and_its_flags_arrive(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path)
    assert prompt.type(*ERASE, "--dry-run").status == 0
    prompt.type(*ERASE, "--even-under-floor", "--reason", "request 2027-001")
    assert prompt.targets["chats"].erasures == [
        (Erasure("testcom", "4711"), True),
        (Erasure("testcom", "4711", even_under_floor=True, reason="request 2027-001"), False),
    ]
    assert prompt.targets["chats"].wishes == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*ERASE, "--to-date", "2023-08-21"), "cannot be combined with --visitor"),
        ((*ERASE, "--purge-stats"), "cannot be combined with --visitor"),
        ((*WORDS, "--even-under-floor"), "only for --visitor"),
        ((*WORDS, "--reason", "asked"), "only for --visitor"),
        (WORDS[:3], "name --to-date, the first day that stays, or --visitor"),
    ],
)
def test_a_date_and_a_visitor_do_not_go_together_and_one_of_them_is_named(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    prompt = Prompt(tmp_path)
    outcome = prompt.type(*words)
    assert (outcome.status, said in outcome.stderr) == (2, True)
    assert (prompt.targets["chats"].erasures, prompt.targets["chats"].wishes) == ([], [])


def test_what_stays_of_a_visitor_is_said_and_the_id_is_not_printed(tmp_path: Path) -> None:
    erasure = ErasureReport(
        3,
        None,
        "abcdef" * 10,
        even_under_floor=False,
        reason="",
        remaining=2,
        left={"visitor.visitorid": 1, "log.who": None},
    )
    prompt = Prompt(tmp_path, erasure=erasure)
    told = prompt.type(*ERASE).stdout
    for line in (
        "testcom, one visitor: purge finished",
        "Kept chats of this visitor: 2.",
        "Kept rows of this visitor in visitor.visitorid, outside of chats: 1.",
        "Rows of this visitor in log.who are kept; this role lacks the right to count them.",
        "Erasure request 3 is not finished.",
        "The records name this visitor abcdefabcdef…, a keyed hash of the ID.",
    ):
        assert line in told
    document = prompt.type(*ERASE, "--json").document["erasure"]
    assert (document["done"], document["remaining"], document["visitor"]) == (
        False,
        2,
        {"hmac_sha256": "abcdef" * 10},
    )
    assert "4711" not in told


def test_in_russian_people_read_russian_and_programs_read_english(tmp_path: Path) -> None:
    prompt = Prompt(tmp_path, state="refused", refused=REFUSAL, kept=Counter(open=2))
    english = prompt.type(*WORDS, "--json").document
    prompt.line.environment = {"LANG": "ru_RU.UTF-8"}
    told = prompt.type(*WORDS).stdout
    assert "testcom, до 2023-08-21: очистка отклонена, ничего не изменено" in told
    assert "чат ещё открыт" in told
    as_json = prompt.type(*WORDS, "--json")
    assert as_json.document == english
    assert "отклонено: floor" in as_json.stderr
    assert "--to-date (первый день, который остаётся)" in prompt.type(*WORDS[:3]).stderr
    prompt.line.environment = {"LC_ALL": "C", "LANG": "ru_RU.UTF-8"}
    assert "purge refused; nothing was changed" in prompt.type(*WORDS).stdout


def test_the_help_is_in_the_language_of_the_user(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = CommandLine(tmp_path, environment={"LC_MESSAGES": "ru_RU.UTF-8"})
    assert line.type("purge-chats", "--help").status == 0
    told = capsys.readouterr().out
    assert "Удалить чаты аккаунта до указанной даты." in told
    assert "Параметры:" in told
    assert "Options:" not in told
    line.environment = {}
    line.type("purge-chats", "--help")
    assert "Delete an account's chats up to a date." in capsys.readouterr().out
