"""What a run leaves out for want of a server: told in its closing lines, with how to run it."""

from __future__ import annotations

import pytest

_NOT_RUN = pytest.StashKey[dict[str, str]]()


def not_run(config: pytest.Config, what: str, how: str) -> None:
    """Note that tests of something are left out, and how they are run."""
    config.stash.setdefault(_NOT_RUN, {})[what] = how


def told_not_run(config: pytest.Config) -> list[str]:
    """Return the closing lines."""
    return [f"NOT RUN: {what}; {how}" for what, how in config.stash.get(_NOT_RUN, {}).items()]
