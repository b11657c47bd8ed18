"""The completion of a shell knows the commands and their options."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("retentiond qu", "quarantine"),
        ("retentiond once --wa", "--wait"),
        ("retentiond quarantine re", "restore"),
    ],
)
def test_bash_completes_a_command_or_an_option(words: str, expected: str) -> None:
    variables = {
        "_RETENTIOND_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    completed = subprocess.check_output(
        [sys.executable, "-m", "retentiond"], env=os.environ | variables, text=True
    )
    assert expected in completed.split()
