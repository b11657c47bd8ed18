"""The manual page is that of the program as it is, and a formatter understands all of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from retentiond.cli.app import VERBS
from tools.manual import FILE, manual

PAGE = Path(__file__).parents[2] / FILE


def test_the_manual_page_is_that_of_the_command_line() -> None:
    text = manual()
    assert PAGE.read_text(encoding="utf-8") == text, "run `.venv/bin/python tools/documents.py`"
    assert all(f".SS {verb}".replace("-", "\\-") in text for verb in VERBS)


@pytest.mark.skipif(
    shutil.which("groff") is None, reason="there is no groff here (Debian: apt install groff-base)"
)
def test_a_formatter_has_nothing_to_say_about_the_manual_page() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", PAGE], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "RETENTIOND(1)" in done.stdout
