"""`audit` as it is typed: what is asked of the target, what is told, and the exit status."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from retentiond.model.audit import AuditReport, Finding
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
    assert "a row without its file" in told
    assert "audit media --list" in told


def test_findings_fail_only_where_that_is_asked_for(line: CommandLine) -> None:
    assert line.type("audit", "--fail-on-findings", "--json").status == 1
    line.factory.targets["media"].findings = ()
    assert line.type("audit", "--fail-on-findings").status == 0


def test_contents_are_read_at_the_rate_that_is_said(line: CommandLine) -> None:
    line.type("audit", "--verify-content", "--rate", "2MiB")
    (order,) = line.factory.targets["media"].audit_orders
    assert (order.verify_content, order.read_rate) == (True, 2 << 20)
    assert line.type("audit", "--rate", "0B").status == 2
    assert line.type("audit", "--rate", "fast").status == 2


def test_an_audit_that_was_cut_short_is_no_success(line: CommandLine) -> None:
    target = line.factory.targets["media"]
    target.audited = AuditReport("media", STARTED, STARTED, error="it was asked to stop")
    outcome = line.type("audit", "--json")
    assert outcome.status == 4
    assert "cut short" in outcome.stderr
