"""README and docs/: the generated parts are the code's, and no link leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

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
