"""The benchmark itself, on a store so small that its figures mean nothing: it has to work when somebody needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmark.__main__ import main
from tests.benchmark.frame import Line, write

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_DOCUMENT = """# Benchmarks

<!-- figures -->
<!-- end of figures -->

## Findings
"""


def test_the_benchmark_measures_rows_and_writes_them_into_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(_DOCUMENT)
    lines = main(["audit", "startup", "--media", "10", "--runs", "1", "--write"], document)
    assert [line.row for line in lines] == ["audit"] * 2 + ["startup"] * 3
    written, printed = document.read_text(), capsys.readouterr().out
    assert all(str(line) in written and str(line) in printed for line in lines)
    assert written.startswith("# Benchmarks\n")
    assert written.endswith("<!-- end of figures -->\n\n## Findings\n")


def test_figures_replace_those_of_the_same_row_and_of_other_machines(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text(_DOCUMENT)

    def rows(*written: str, where: str) -> list[str]:
        write(document, [Line(row, ("figure",)) for row in written], where)
        table = document.read_text().partition("| --- |\n")[2].partition("<!--")[0]
        return table.splitlines()

    assert rows("audit", "growth", where="here") == ["| audit | figure |", "| growth | figure |"]
    assert rows("audit", where="here") == ["| growth | figure |", "| audit | figure |"]
    assert rows("chats", where="elsewhere") == ["| chats | figure |"]
