"""The figures of the project's structure: the script measures this checkout."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_the_script_finds_every_figure_of_this_checkout(house: Any) -> None:
    rows = dict(sys.modules["house"].figures(house))
    assert list(rows) == [
        "modules, without `__init__`",
        "median module, in lines",
        "modules with a single importer",
        "own imports of a module",
        "deepest chain of imports",
        "imports, of lines of code",
        "functions from `once` to the DELETE",
        "files that write the quarantine's table",
        "files that write the tables of released rows, too",
        "modules that send the statements of another",
        "files that list protections",
        "tests of a kind outside targets/",
        "docstrings in paraphrase",
        "words of the README",
        "lines of Python",
        "lines of tests",
    ]
    # A function that moved is to be moved in the script's list, too.
    assert "unknown" not in rows["functions from `once` to the DELETE"]


QUARANTINE = "retentiond/targets/dendrite_media/quarantine"


@pytest.fixture(scope="module")
def house() -> Any:
    """Return the figures of this checkout, by the script as a module."""
    spec = importlib.util.spec_from_file_location("house", ROOT / "tools/house.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["house"] = module
    spec.loader.exec_module(module)
    return module.House(ROOT)


def test_each_table_of_the_ledger_is_written_by_one_sql_file(house: Any) -> None:
    """A table that several rooms write has rules that none of them can keep alone."""
    owners = {table: [str(path) for path in paths] for table, paths in house.ledger_tables().items()}
    assert owners["entry"] == [f"{QUARANTINE}/entry_table.sql"]
    for table in ("released_media", "thumbnail_release", "released_thumbnail", "restored", "shared_blob"):
        assert owners[table] == [f"{QUARANTINE}/released_rows.sql"], table
    for table, written in owners.items():
        # The demo lets time pass in the ledger of its own database.
        paths = [path for path in written if not path.startswith("retentiond/demo/")]
        assert [path for path in paths if not path.endswith(".sql")] == [], table
        assert len(paths) == 1, table
    # A relation that a statement leaves open is the ledger's table, or a plan's copy of it.
    templates = house.written_templates()
    assert set(templates) == {
        "{access}",
        "{hold_media}",
        "{hold_member}",
        "{reference}",
        "{reference}_member",
        "{released}",
    }
    for name, paths in templates.items():
        table = name.replace("{", "").replace("}", "")
        assert len({*map(str, paths), *owners.get(table, [])}) == 1, table


def test_no_other_module_sends_the_statements_of_the_quarantines_tables(house: Any) -> None:
    owners = {f"{QUARANTINE}/{name}".replace("/", ".") for name in ("entry_table", "released_rows")}
    assert [one for one, other in house.borrowed_statements() if other in owners] == []


def test_the_figures_of_a_small_package_are_what_a_reader_counts(tmp_path: Path) -> None:
    package = tmp_path / "retentiond"
    package.mkdir()
    (package / "__init__.py").write_text('"""Nobody."""\n')
    (package / "a.py").write_text('"""Whatever it is."""\n\nfrom retentiond import b\n\nX = b.Y\n')
    (package / "b.py").write_text(
        '"""Numbers."""\n\nfrom retentiond.c import Z\n\nY = Z\nK = isinstance(Y, ChatTarget)\n'
    )
    (package / "c.py").write_text('"""Words, such as these."""\n\nZ = {"room_state", "invites"}\n')
    (package / "c.sql").write_text(
        "-- name: x\nDELETE FROM retentiond.entry WHERE source IN ('room_state', 'invites')\n"
    )
    (package / "schema.sql").write_text("INSERT INTO retentiond.entry DEFAULT VALUES;\n")
    (tmp_path / "README.md").write_text("Three plain words\n")
    done = subprocess.run(
        [sys.executable, ROOT / "tools/house.py", tmp_path], capture_output=True, text=True, check=True
    )
    rows = dict(line.strip("| ").split(" | ") for line in done.stdout.splitlines())
    assert rows["modules, without `__init__`"] == "3"
    assert rows["modules with a single importer"] == "67%"
    assert rows["deepest chain of imports"] == "3"
    assert rows["files that write the quarantine's table"] == "1 in 1 folders"
    assert rows["files that list protections"] == "2"
    assert rows["tests of a kind outside targets/"] == "1 in 1 files"
    assert rows["docstrings in paraphrase"] == "50%"
    assert rows["words of the README"] == "3"
