"""The page is whole by itself, and no name in it can be anything but text."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.errors import UnreachableError, UsageError
from retentiond.model.statistics import AgeCurve
from retentiond.report.page import UPLOT, render, write_page
from tests.support.command_line import CommandLine
from tests.support.fake_target import FakeTarget
from tests.support.made_up_report import HOSTILE, NOW, chats_report, empty_report, lost_report, media_report

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.report.target_report import TargetReport


def page_of(*reports: TargetReport) -> str:
    return render(reports, NOW, "1.0")


def plots_of(page: str) -> dict[str, dict[str, object]]:
    block = page.partition('id="data">')[2].partition("</script>")[0]
    plots: dict[str, dict[str, object]] = json.loads(block)
    return plots


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in {"src", "href", "action"}]
        self.handlers += [key for key, _ in attrs if key.startswith("on") or key == "style"]


def _elements(page: str) -> _Elements:
    parser = _Elements()
    parser.feed(page)
    return parser


def test_the_page_needs_nothing_from_anywhere() -> None:
    found = _elements(page_of(media_report(), chats_report()))
    assert [link for link in found.links if not link.startswith("#")] == []
    assert "link" not in found.tags


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    hostile = media_report(hostile=HOSTILE, policies=[AgeCurve(HOSTILE, 30)])
    page = page_of(hostile, lost_report(error=HOSTILE))
    plain = page_of(
        media_report(hostile="plain", policies=[AgeCurve("plain", 30)]), lost_report(error="lost")
    )
    found = _elements(page)
    assert found.tags == _elements(plain).tags
    assert found.handlers == []
    assert "\u202e" not in page
    assert "{{7*7}}" in page


def test_the_page_lets_run_no_script_and_apply_no_style_but_its_own() -> None:
    page = page_of(media_report())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    allowed = set(re.findall(r"'sha256-([^']*)'", policy[1]))
    parts = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", page, re.DOTALL)
    assert {base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts} == allowed
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_the_plots_data_cannot_end_their_block() -> None:
    curve = AgeCurve(HOSTILE, 30)
    curve.add(40, 2, 2048)
    plot: Any = plots_of(page_of(media_report(policies=[curve])))["target-0-ages"]
    assert plot["series"][0]["label"].startswith("</script><script>document")


def test_a_store_that_no_pass_has_seen_has_a_page_too() -> None:
    page = page_of(empty_report())
    for sentence in (
        "No pass has run yet.",
        "Nothing in the last 120 days.",
        "No samples yet: the daemon takes one each day.",
        "No policy matches anything that it may delete, at any age.",
    ):
        assert sentence in page
    assert plots_of(page) == {}


def test_a_target_that_cannot_be_read_is_on_the_page_with_its_error_and_nothing_else() -> None:
    page = page_of(lost_report(), media_report())
    lost, _, whole = page.partition("</article>")
    assert "This target could not be read" in lost
    assert "the database cannot be reached; check &lt;that&gt;" in lost
    assert "No pass has run yet." not in lost
    assert 'id="target-1-ages"' in whole
    assert {name.rpartition("-")[0] for name in plots_of(page)} == {"target-1"}


def test_chats_have_the_parts_that_they_have_and_no_other() -> None:
    page = page_of(chats_report())
    assert "98,112" in page
    assert "it is still open" in page
    assert list(plots_of(page)) == ["target-0-days"]
    for missing in ("in quarantine", "free on the disk", "other ages", "Differences between"):
        assert missing not in page, missing


def test_a_page_is_small_also_after_ten_years_and_with_many_policies_in_the_longest_names() -> None:
    """A store of 10,000,000 rows has the same page as one of 10,000: only names and days make it longer."""
    curves = []
    for number in range(100):
        curve = AgeCurve(f"{number}" + "\U0001f600" * 200, 30 + number)
        curve.add(40, 10**7, 2**62)
        curves.append(curve)
    report = media_report(days=3650, gaps=range(0, 3650, 11), hostile="\U0001f600" * 255, policies=curves)
    assert len(page_of(report).encode()) <= 300_000


def test_four_targets_are_on_one_small_page() -> None:
    reports = [media_report(f"media{number}", days=1095) for number in range(4)]
    assert len(page_of(*reports, chats_report(), lost_report()).encode()) <= 300_000


def test_the_library_of_the_plots_is_the_released_one() -> None:
    """The sums are those of the files in uplot-1.6.32.tgz of the npm registry."""
    assert UPLOT == "1.6.32"
    sums = {
        "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
        "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
        "LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    }
    folder = resources.files("retentiond.report") / "uplot"
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sums} == sums
    page = page_of(media_report())
    assert "Permission is hereby granted, free of charge" in page
    assert (folder / "uPlot.iife.min.js").read_text() in page


def test_bytes_and_items_stand_on_the_page_as_numbers_with_their_units() -> None:
    report = media_report()
    page = page_of(report)
    assert report.statistics
    total = report.statistics.total
    assert f'<data value="{total.bytes}">410.7 GiB</data>' in page
    assert f'<data value="{total.items}">{total.items:,} items</data>' in page


def test_rooms_have_their_names_beside_their_ids() -> None:
    page = page_of(media_report())
    assert 'Cats of the day</span> <small class="clip">!cats:cats.example</small>' in page
    assert '<th scope="row"><span class="clip">!q8Zf:uni.example</span></th>' in page


def test_a_limit_that_is_near_or_exceeded_says_so_in_words() -> None:
    report = media_report()
    assert report.statistics
    limits = [
        replace(limit, value=limit.allowed * part)
        for limit, part in zip(report.statistics.limits, (0.9, 1.5), strict=True)
    ]
    near = replace(report, statistics=replace(report.statistics, limits=tuple(limits)))
    page = page_of(near)
    assert '<span class="warn">near</span>' in page
    assert '<span class="bad">above</span>' in page
    assert "A pass that began now would be refused by max_items; see the limits below." in page


def test_a_report_to_a_pipe_or_a_device_leaves_it_what_it_is(tmp_path: Path) -> None:
    """`report --output /dev/null`, run by root, put a file in the place of the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_page(pipe, "whole")
        assert (pipe.is_fifo(), os.read(reader, 100)) == (True, b"whole")
    finally:
        os.close(reader)


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(path, "whole")
    assert path.read_text() == "whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(UsageError, match="name another file"):
        write_page(tmp_path / "missing" / "report.html", "x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(UsageError):
        write_page(tmp_path / "directory", "x")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "report.html"]


def test_the_command_writes_a_page_about_its_targets(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    outcome = CommandLine(tmp_path).type("report", "--html", str(page))
    assert outcome.status == 0
    assert str(page) in outcome.stderr
    assert "<h2>media " in page.read_text()


def test_the_command_exits_4_with_the_page_where_a_target_cannot_be_reached(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    lost_target = FakeTarget("lost", unreachable=UnreachableError("the database cannot be reached"))
    outcome = CommandLine(tmp_path, (lost_target, FakeTarget())).type("report", "--html", str(page))
    assert outcome.status == 4
    assert "retentiond: lost: the database cannot be reached" in outcome.stderr
    lost, _, rest = page.read_text().partition("</article>")
    assert "the database cannot be reached" in lost
    assert "<h2>media " in rest


def test_the_page_names_every_target_also_where_an_error_is_our_own(tmp_path: Path) -> None:
    page = tmp_path / "out.html"
    line = CommandLine(tmp_path, (FakeTarget(unreachable=KeyError("ours")),))
    assert line.type("report", "--html", str(page)).status == 1
    assert "an error of retentiond&#39;s own" in page.read_text()
