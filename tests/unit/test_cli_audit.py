"""`audit` as it is typed: what is asked of the target, what is told, and the exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from retentiond.model.audit import AuditReport, Finding
from retentiond.model.errors import Refusal
from retentiond.model.media import MediaKey
from tests.support.command_line import CommandLine
from tests.support.fake_target import STARTED, FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

FINDINGS = (
    Finding("missing_file", "A/B/C/file", 7, "", MediaKey("[bold]id\x1b[2J", "there.test")),
    Finding("orphan_blob", "D/E/F", 1024, "its file and 1 thumbnail"),
)


@pytest.fixture
def line(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, (FakeTarget(findings=FINDINGS),))


def test_one_document_tells_of_all_audits(line: CommandLine) -> None:
    outcome = line.type("audit", "--json")
    assert outcome.status == 0
    (audit,) = outcome.document["audits"]
    assert (audit["target"], audit["rows"], audit["blobs"]) == ("media", 5, 4)
    assert audit["findings"] == {
        "missing_file": {"items": 1, "bytes": 7},
        "orphan_blob": {"items": 1, "bytes": 1024},
    }
    assert audit["repaired"] == {}


def test_a_list_is_one_line_a_finding_with_nothing_that_moves_a_cursor(line: CommandLine) -> None:
    outcome = line.type("audit", "--list")
    missing, orphan = outcome.stdout.splitlines()
    assert missing.split() == ["missing_file", "7", "B", "A/B/C/file", "mxc://there.test/[bold]id\\u{1B}[2J"]
    assert orphan.startswith("orphan_blob")
    assert "orphan_blob" in outcome.stderr  # the account, for the person beside the pipe


def test_a_list_as_json_is_one_document_a_finding(line: CommandLine) -> None:
    documents = [json.loads(text) for text in line.type("audit", "--list", "--json").stdout.splitlines()]
    assert [document["kind"] for document in documents] == ["missing_file", "orphan_blob"]
    assert documents[0]["media"] == FINDINGS[0].media
    assert documents[1]["media"] is None


def test_the_account_says_what_each_kind_means(line: CommandLine) -> None:
    told = line.type("audit").stdout
    assert "file missing: downloads return 404" in told
    assert "audit media --list" in told


def test_findings_fail_only_where_that_is_asked_for(line: CommandLine) -> None:
    assert line.type("audit", "--fail-on-findings", "--json").status == 1
    line.factory.targets["media"].findings = ()
    assert line.type("audit", "--fail-on-findings").status == 0


def test_contents_are_read_at_the_rate_that_is_said(line: CommandLine) -> None:
    line.type("audit", "--verify-content", "--rate", "2MiB")
    (order,) = line.factory.targets["media"].audit_orders
    assert (order.verify_content, order.read_rate) == (True, 2 << 20)
    for rate in ("0B", "fast"):
        assert line.type("audit", "--verify-content", "--rate", rate).status == 2
    # Without contents to read it would be ignored.
    assert line.type("audit", "--rate", "2MiB").status == 2


def test_an_audit_that_was_cut_short_is_no_success(line: CommandLine) -> None:
    target = line.factory.targets["media"]
    target.audited = AuditReport("media", STARTED, STARTED, error="it was asked to stop")
    outcome = line.type("audit", "--json")
    assert outcome.status == 4
    assert "cut short" in outcome.stderr


def test_a_repair_is_asked_for_by_name_and_damaged_media_only_with_it(line: CommandLine) -> None:
    assert line.type("audit", "--drop-damaged-remote").status == 2
    line.type("audit", "--repair", "--drop-damaged-remote")
    (order,) = line.factory.targets["media"].audit_orders
    assert (order.command, order.repair, order.drop_damaged_remote) == ("audit --repair", True, True)


def test_a_repair_says_what_it_mended_and_what_it_left_and_why(line: CommandLine) -> None:
    report = AuditReport("media", STARTED, STARTED, pass_id=8)
    report.repair("missing_file", 1)
    report.leave("orphan_blob", "young")
    line.factory.targets["media"].audited = report
    outcome = line.type("audit", "--repair")
    assert "changed within the last day" in outcome.stdout
    assert "quarantine restore media --pass 8" in outcome.stdout
    assert outcome.status == 0


def test_after_a_repair_only_what_is_left_fails(line: CommandLine) -> None:
    target = line.factory.targets["media"]
    target.audited = AuditReport("media", STARTED, STARTED)
    target.audited.repair("missing_file", 1)
    assert line.type("audit", "--repair", "--fail-on-findings", "--json").status == 1
    target.audited = AuditReport("media", STARTED, STARTED)
    target.audited.repair("missing_file", 1)
    target.audited.repair("orphan_blob", 1)
    assert line.type("audit", "--repair", "--fail-on-findings", "--json").status == 0


def test_a_refused_repair_exits_with_its_own_status_and_says_why(line: CommandLine) -> None:
    refusal = Refusal("max_share", 0.75, 0.5, "check the database")
    line.factory.targets["media"].audited = AuditReport("media", STARTED, STARTED, refused=refusal)
    outcome = line.type("audit", "--repair", "--json")
    assert outcome.status == 3
    assert outcome.document["audits"][0]["refused"]["limit"] == "max_share"
    assert "refused by max_share" in outcome.stderr
