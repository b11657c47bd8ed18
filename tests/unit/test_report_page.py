"""The page is whole by itself, and no name in it can be anything but text."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retentiond.model.errors import UnreachableError, UsageError
from retentiond.model.report import Tally
from retentiond.model.statistics import AgeCurve, Freed, Slice, StoreStatistics
from retentiond.report.page import day_axis, render, write_page
from tests.support.command_line import CommandLine
from tests.support.fake_target import FakeTarget

if TYPE_CHECKING:
    from pathlib import Path

_NOW = datetime(2026, 3, 1, tzinfo=UTC)
_HOSTILE = (
    "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">\u202e{{7*7}}"
)
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def _statistics(name: str = "remote") -> StoreStatistics:
    curve = AgeCurve(name, 30)
    curve.add(10, 2, 2048)
    curve.add(40, 3, 3 * 2**20)
    slices = (Slice(name, 5, 100), Slice("other", 1, 0))
    return StoreStatistics(
        "media",
        "dendrite_media",
        _NOW,
        Tally(6, 100),
        by_origin=slices,
        by_type=slices,
        by_age=slices,
        curves=(curve,),
        freed=(Freed(date(2026, 2, 1), 3, 900), Freed(date(2026, 2, 2), 0, 0)),
        kept={"not_due": 4, name: 1},
        findings={"missing_file": 2, name: 1},
        quarantine=Tally(3, 900),
    )


def _lost(error: str) -> StoreStatistics:
    return StoreStatistics("lost", "dendrite_media", _NOW, Tally(), error=error)


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
    found = _elements(render([_statistics()], _NOW, "1.0"))
    assert found.links == []
    assert "link" not in found.tags


def test_a_hostile_name_is_text_and_nothing_else() -> None:
    page = render([_statistics(_HOSTILE), _lost(_HOSTILE)], _NOW, "1.0")
    plain, hostile = _elements(render([_statistics(), _lost("lost")], _NOW, "1.0")), _elements(page)
    assert hostile.tags == plain.tags
    assert hostile.handlers == []
    assert "\u202e" not in page
    assert "49" not in re.findall(r"\{\{.*?\}\}|49", page)


def test_the_page_lets_run_no_script_but_its_own() -> None:
    page = render([_statistics()], _NOW, "1.0")
    assert "default-src 'none'" in page
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", page)
    assert "script-src 'unsafe-inline'" not in page


def test_the_sliders_data_cannot_end_its_block() -> None:
    page = render([_statistics(_HOSTILE)], _NOW, "1.0")
    block = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(block) == [[{"days": [[10, 2, 2048], [40, 3, 3 * 2**20]]}]]


def test_a_slider_reaches_as_far_as_its_policy_keeps() -> None:
    picture = StoreStatistics("media", "dendrite_media", _NOW, Tally(), curves=(AgeCurve("old", 1095),))
    assert 'max="1095" value="1095"' in render([picture], _NOW, "1.0")


def test_a_store_that_no_pass_has_seen_has_a_page_too() -> None:
    page = render([StoreStatistics("media", "dendrite_media", _NOW, Tally())], _NOW, "1.0")
    assert "No pass has run yet." in page
    assert "Nothing in the last 120 days." in page


def test_a_day_without_a_pass_is_a_gap_of_its_own_width() -> None:
    days = [date(2026, 2, 1), date(2026, 2, 2), date(2026, 2, 20)]
    axis = day_axis([Freed(day, 1, 10) for day in days], date(2026, 3, 2))
    assert (axis.first, axis.last) == (date(2026, 2, 1), date(2026, 3, 2))
    day = 100 / 30
    assert [bar.x for bar in axis.bars] == pytest.approx([0.1 * day, 1.1 * day, 19.1 * day])
    assert all(bar.x + bar.width <= 100 for bar in axis.bars)


def test_passes_that_stopped_leave_the_end_of_the_axis_empty() -> None:
    axis = day_axis([Freed(date(2026, 1, 1), 1, 10)], date(2026, 4, 10))
    assert (axis.first, axis.last) == (date(2026, 1, 1), date(2026, 4, 10))
    assert axis.bars[0].x + axis.bars[0].width <= 1
    assert axis.ticks[-1].day == date(2026, 4, 10)


@given(st.lists(st.integers(0, 119), min_size=1, max_size=120, unique=True))
def test_every_day_has_its_place_and_few_are_labelled(ages: list[int]) -> None:
    today = date(2026, 3, 1)
    freed = [Freed(today - timedelta(days=age), 1, age) for age in sorted(ages, reverse=True)]
    axis = day_axis(freed, today)
    width = 100 / ((axis.last - axis.first).days + 1)
    assert [round((bar.x / width) - 0.1) for bar in axis.bars] == [
        (part.day - axis.first).days for part in freed
    ]
    assert all(0 < bar.height <= 100 for bar in axis.bars)
    assert 1 <= len(axis.ticks) <= 3
    assert {later.day - tick.day for tick, later in pairwise(axis.ticks)} <= {
        timedelta(weeks=weeks) for weeks in range(1, 7)
    }


def test_what_has_no_size_is_as_high_as_its_items() -> None:
    chats = [Freed(date(2026, 2, 1), 10, 0), Freed(date(2026, 2, 8), 5, 0), Freed(date(2026, 2, 15), 0, 0)]
    assert [bar.height for bar in day_axis(chats, date(2026, 3, 1)).bars] == [100, 50, 1]


def test_a_target_that_cannot_be_read_is_on_the_page_with_its_error_and_nothing_else() -> None:
    page = render([_lost("the database cannot be reached; check <that>"), _statistics()], _NOW, "1.0")
    lost, _, whole = page.partition("</article>")
    assert "This target could not be read" in lost
    assert "the database cannot be reached; check &lt;that&gt;" in lost
    assert "No pass has run yet." not in lost
    assert 'data-target="1"' in whole


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


@pytest.mark.skipif(
    _CHROMIUM is None, reason="there is no Chromium on this machine (Debian: apt install chromium)"
)
@pytest.mark.timeout(300)
def test_in_a_browser_the_slider_tells_what_another_age_would_free_and_no_name_runs(tmp_path: Path) -> None:
    page = render([_statistics(_HOSTILE)], _NOW, "1.0")
    # The page's own policy would not let the test's script run: it stands in for the person who moves the slider.
    moved = "const s=document.querySelector('input');s.value='20';s.dispatchEvent(new Event('input'));"
    page = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", page)
    page = page.replace("</body>", f"<script>{moved}</script></body>")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    flags += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'browser'}"]
    assert _CHROMIUM is not None
    done = subprocess.run(
        [_CHROMIUM, *flags, "--dump-dom", f"file://{tmp_path / 'page.html'}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    assert ">20 days</output>" in done.stdout
    assert ">3.0 MiB in 3 items</output>" in done.stdout
    assert "<title>retentiond: the report</title>" in done.stdout
