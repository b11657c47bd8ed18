"""What `status` and `check-config` tell of each target."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from retentiond.config.load import load_config
from retentiond.model.check import AccountRows, StoreOverview
from retentiond.model.errors import UnreachableError
from retentiond.model.report import QuarantineSummary, StoreStatus, Tally, TargetStatus
from tests.support.command_line import CommandLine
from tests.support.fake_target import STARTED, FakeTarget, make_report

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

DOWN = UnreachableError("the database does not answer; start it")


def working(**others: Any) -> FakeTarget:
    row = {
        "pass_id": 7,
        "state": "finished",
        "command": "once",
        "started_at": STARTED,
        "finished_at": STARTED,
    }
    told: dict[str, Any] = {
        "last_pass": row | {"report": make_report().as_json()},
        "quarantine": QuarantineSummary(3, {"quarantined": Tally(2, 2048)}, STARTED),
        "holder": "once on host a, process 7, since 03:04",
        "daemon": "host b, process 8",
    } | others
    return FakeTarget(standing=TargetStatus("media", "dendrite_media", ledger=True, **told))


def shown(line: CommandLine) -> str:
    return " ".join(line.type("status").stdout.split())


def test_status_shows_the_last_pass_the_quarantine_who_works_and_the_daemon(tmp_path: Path) -> None:
    words = shown(CommandLine(tmp_path, (working(),)))
    assert "last pass finished, " in words
    assert "3 items removed, 3.0 MiB" in words
    assert "3 items can be restored; quarantined: 2 files, 2.0 KiB" in words
    assert "running once on host a, process 7, since 03:04" in words
    assert "daemon host b, process 8" in words


def test_status_shows_what_an_interrupted_pass_did_not_reach(tmp_path: Path) -> None:
    report = make_report(state="interrupted")
    report.await_turn(5, 2048)
    standing = TargetStatus(
        "media",
        "dendrite_media",
        ledger=True,
        last_pass={"state": "interrupted", "started_at": STARTED, "report": report.as_json()},
    )
    words = shown(CommandLine(tmp_path, (FakeTarget(standing=standing),)))
    assert "not reached: 5 items, 2.0 KiB; the next pass continues" in words


def test_status_shows_each_store_of_chats_with_its_shards(tmp_path: Path) -> None:
    shards = {"shards": [{"name": "2", "state": "running", "left": 5}]}
    store = StoreStatus("testcom", "clickhouse", "running", STARTED, STARTED, shards=shards)
    line = CommandLine(tmp_path, (working(stores=(store,)),))
    assert "clickhouse testcom: running since" in shown(line)
    assert "shard 2: running, 5 rows left" in shown(line)
    (told,) = line.type("status", "--json").document["targets"][0]["stores"]
    assert (told["account"], told["shards"]) == ("testcom", shards["shards"])


def test_status_shows_what_the_last_audit_found(tmp_path: Path) -> None:
    audit = {"findings": {"orphan_blob": {"items": 2, "bytes": 9}}, "finished_at": STARTED}
    assert "2 findings" in shown(CommandLine(tmp_path, (working(last_audit=audit),)))


def test_status_in_json_is_one_document(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (working(),)).type("status", "--json")
    assert outcome.status == 0
    (target,) = outcome.document["targets"]
    assert target["last_pass"]["pass_id"] == 7
    assert target["last_pass"]["started_at"] == "2026-01-02T03:04:05Z"
    assert target["last_pass"]["removed"]["items"] == 3
    assert target["quarantine"]["items"] == 3
    assert target["next_pass"] == "2026-01-02T03:30:00Z"
    assert target["problems"] == []


def test_the_ledgers_report_may_be_text(tmp_path: Path) -> None:
    row = {"pass_id": 7, "state": "interrupted", "started_at": "2026-01-02T03:04:05Z", "finished_at": None}
    target = working(last_pass=row | {"report": json.dumps(make_report().as_json())})
    words = shown(CommandLine(tmp_path, (target,)))
    assert "last pass interrupted, " in words
    assert "3 items removed" in words


def test_a_pass_that_is_running_has_no_account_yet(tmp_path: Path) -> None:
    row = {"pass_id": 8, "state": "running", "started_at": STARTED, "finished_at": None, "report": None}
    words = shown(CommandLine(tmp_path, (working(last_pass=row),)))
    assert "last pass running, " in words
    assert "removed" not in words


def test_a_target_without_a_pass_says_so(tmp_path: Path) -> None:
    words = shown(CommandLine(tmp_path))
    assert "last pass none yet" in words
    assert "quarantine" not in words
    assert "running no" in words
    assert "daemon not running" in words


def test_a_target_without_a_schedule_has_no_next_pass(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    line.config.write_text(line.text().replace('    schedule: {cron: "30 3 * * *", timezone: UTC}\n', ""))
    assert line.type("status", "--json").document["targets"][0]["next_pass"] is None
    assert "next pass only by hand" in shown(line)


def test_a_database_that_is_down_has_its_row_and_the_others_theirs(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, (FakeTarget("media", unreachable=DOWN), FakeTarget("pictures")))
    outcome = line.type("status")
    assert outcome.status == 4
    words = " ".join(outcome.stdout.split())
    assert "media (dendrite_media) problem the database does not answer; start it" in words
    assert "pictures (dendrite_media) last pass none yet" in words


def test_a_database_that_is_down_is_an_error_in_the_json(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (FakeTarget(unreachable=DOWN),)).type("status", "--json")
    assert outcome.status == 4
    (target,) = outcome.document["targets"]
    assert (target["error"], target["ledger"]) == ("the database does not answer; start it", None)


def test_problems_that_a_target_tells_are_shown_and_exit_1(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (working(problems=("3 blobs: [not] permitted",)),)).type("status")
    assert outcome.status == 1
    assert "3 blobs: [not] permitted" in outcome.stdout


def test_check_config_says_what_each_target_does_without_its_password(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("check-config")
    assert outcome.status == 0
    assert "remote: media of other servers: deleted when older than 30 days" in outcome.stdout
    assert "postgresql://dendrite@localhost" in outcome.stdout
    assert "/srv/media" in outcome.stdout
    assert "hunter2" not in outcome.stdout + outcome.stderr


def test_check_config_tells_every_problem_with_its_place(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, tail="nonsense: 1\nlogging: {level: loud}\n")
    outcome = line.type("check-config")
    assert outcome.status == 2
    lines = outcome.stderr.splitlines()
    assert len(lines) == 2
    assert all(text.startswith(f"{line.config}:1") for text in lines)
    assert outcome.stdout == ""


def test_check_config_reads_dendrites_files_of_all_targets(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    line.config.write_text(
        "targets:\n"
        f"  one: {{kind: dendrite_media, dendrite_config: {tmp_path}/one.yaml}}\n"
        f"  two: {{kind: dendrite_media, dendrite_config: {tmp_path}/two.yaml}}\n"
    )
    outcome = line.type("check-config")
    assert outcome.status == 2
    assert f"{tmp_path}/one.yaml: " in outcome.stderr
    assert f"{tmp_path}/two.yaml: " in outcome.stderr


def test_check_config_tells_a_missing_extra_where_the_configuration_alone_shows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = CommandLine(tmp_path)
    line.config.write_text(
        """targets:
  chats:
    kind: chat_database
    database: postgresql://webim@localhost/webim
    accounts: {testcom: {schema: pro, keep: 400d, clickhouse: true}}
    clickhouse: {url: "http://localhost:8123"}
"""
    )
    assert line.type("check-config").status == 0
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    outcome = line.type("check-config")
    assert outcome.status == 2
    assert "targets.chats.clickhouse: needs clickhouse_connect, which is not installed" in outcome.stderr
    assert "; pip install 'retentiond[clickhouse]'" in outcome.stderr


def test_check_config_opens_no_target_unless_told_to_connect(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    line.type("check-config")
    assert not line.factory.configs


def test_check_config_connects_to_each_target_and_tells_its_findings(tmp_path: Path) -> None:
    line = CommandLine(
        tmp_path,
        (FakeTarget("media", problems=("the table is not ours; run as its owner",)), FakeTarget("pictures")),
    )
    outcome = line.type("check-config", "--connect")
    assert outcome.status == 4
    assert "retentiond: media: the table is not ours; run as its owner\n" in outcome.stderr
    assert "retentiond: pictures: reached" in outcome.stderr


def test_check_config_prints_each_missing_right_as_a_line_to_copy(tmp_path: Path) -> None:
    grants = ("GRANT SELECT (a, b), DELETE ON pro.chat TO guest;", "GRANT USAGE ON SCHEMA pro TO guest;")
    line = CommandLine(tmp_path, (FakeTarget(missing_rights=grants),))
    outcome = line.type("check-config", "--connect")
    assert outcome.status == 4
    told = outcome.stderr.splitlines()
    place = told.index("retentiond: media: the role lacks rights; run:")
    assert told[place + 1 : place + 3] == [f"  {grant}" for grant in grants]
    (target,) = line.type("check-config", "--connect", "--json").document["targets"]
    assert target["rights"] == list(grants)


def test_check_config_shows_what_each_store_has(tmp_path: Path) -> None:
    found = (
        StoreOverview("postgresql", "PostgreSQL 15.18", {"testcom": AccountRows(2000, "2021-01-01")}),
        StoreOverview(
            "clickhouse", "ClickHouse 26.9", {"testcom": AccountRows(0, None)}, shards=2, replicas=4
        ),
    )
    line = CommandLine(tmp_path, (FakeTarget(stores=found),))
    shown = line.type("check-config", "--connect").stdout
    for told in (
        "    PostgreSQL 15.18\n",
        "      testcom: 2,000 chats, the oldest of 2021-01-01\n",
        "    ClickHouse 26.9, 2 shards, 4 with their replicas\n",
        "      testcom: 0 rows\n",
    ):
        assert told in shown
    (target,) = line.type("check-config", "--connect", "--json").document["targets"]
    assert target["stores"][1] == {
        "store": "clickhouse",
        "version": "ClickHouse 26.9",
        "accounts": {"testcom": {"items": 0, "oldest": None}},
        "shards": 2,
        "replicas": 4,
    }


def test_check_config_of_a_target_that_works_exits_0(tmp_path: Path) -> None:
    assert CommandLine(tmp_path).type("check-config", "--connect").status == 0


def test_check_config_exits_4_where_a_database_cannot_be_reached(tmp_path: Path) -> None:
    assert (
        CommandLine(tmp_path, (FakeTarget(unreachable=DOWN),)).type("check-config", "--connect").status == 4
    )


def test_the_configuration_of_these_tests_is_one(tmp_path: Path) -> None:
    line = CommandLine(tmp_path)
    assert list(load_config(line.config, {}).targets) == ["media"]
