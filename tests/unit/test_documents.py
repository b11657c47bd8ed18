"""README and docs/: the generated parts are the code's, and no link leads nowhere."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from retentiond.targets.dendrite_media.quarantine.entry_table import CHANGES
from tools.documents import PAGES, generated

ROOT = Path(__file__).parents[2]
# The site's generator checks the links between the pages of docs/.
OUTSIDE_THE_SITE = [*ROOT.glob("*.md"), *ROOT.glob(".github/**/*.md")]


@pytest.mark.parametrize("page", PAGES)
def test_a_generated_page_is_as_the_code_is(page: str) -> None:
    written = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert written == generated(page), "run `.venv/bin/python tools/documents.py`, and commit the page"


@pytest.mark.parametrize("page", OUTSIDE_THE_SITE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_of_a_page_outside_the_site_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_readme_is_short_enough_to_be_read() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200


def test_each_dependency_has_its_reason_in_the_documents() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    # An extra may ask for another one of this project's own.
    needed = {re.split(r"[\[<>=!~;]", requirement)[0].strip().lower() for requirement in requirements} - {
        project["name"]
    }
    page = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").partition("## Decided against")[0]
    first_cells = re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)
    told = {name.partition(" ")[0].lower() for cell in first_cells for name in cell.split(", ")}
    assert told - {"package", "---"} == needed


def test_the_documents_have_the_states_of_an_entry_and_their_changes() -> None:
    page = (ROOT / "docs/how-it-deletes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", page, re.MULTILINE)
    told = {state: set(re.findall(r"`(\w+)`", after)) for state, after in rows}
    assert told == {state: after - {None} for state, after in CHANGES.items() if state}


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/dependencies.md", "CONTRIBUTING.md"])
def test_a_file_that_the_documents_name_is_there(page: str) -> None:
    package = ROOT / "retentiond"
    media = package / "targets/dendrite_media"
    folders = (ROOT, package, *(package / "targets").iterdir(), media / "references")
    named = re.findall(r"`([\w./]+(?:/|\.py|\.sql|\.yaml))`", (ROOT / page).read_text(encoding="utf-8"))
    # The recipes' own examples are not there.
    told = [name for name in named if not re.search(r"pinned|old_files|migration_N|cli/targets\.py", name)]
    assert told
    assert [name for name in told if not any((folder / name).exists() for folder in folders)] == []


def test_a_table_that_the_recipes_name_is_there() -> None:
    tables = set(re.findall(r"`(_?[A-Z][A-Z_]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("retentiond", "tests")
        for path in (ROOT / folder).rglob("*.py")
    )
    assert tables
    assert [name for name in tables if not re.search(rf"^{name}\b", code, re.MULTILINE)] == []


def test_contributors_and_ci_run_the_same_checks() -> None:
    told = {
        "CONTRIBUTING.md": "```sh\ntools/check\n```",
        ".ci/run": "/tools/check",
        ".github/workflows/ci.yml": "run: .ci/run",
        "tools/check": "<!-- tests -->",
    }
    assert [name for name, command in told.items() if command not in (ROOT / name).read_text()] == []
    assert "<!-- tests -->\n```sh\npython3 -m venv" in (ROOT / "README.md").read_text()
