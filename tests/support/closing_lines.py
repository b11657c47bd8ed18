"""What a run says in its closing lines: which server it was on, what it left out for want of one, and how that is run."""

from __future__ import annotations

import pytest

_CLOSING = pytest.StashKey[dict[str, None]]()
_SENT: str = "retentiond_closing_lines"


def say_at_the_end(config: pytest.Config, line: str) -> None:
    """Add a closing line; the same one is said once."""
    config.stash.setdefault(_CLOSING, {})[line] = None


def not_run(config: pytest.Config, what: str, how: str) -> None:
    """Note that tests of something are left out, and how they are run."""
    say_at_the_end(config, f"NOT RUN: {what}; {how}")


def closing_lines(config: pytest.Config) -> list[str]:
    """Return the closing lines."""
    said: dict[str, None] = config.stash.get(_CLOSING, {})
    return sorted(said)


def send_closing_lines(config: pytest.Config) -> None:
    """Send them to the process that prints, where the tests run in several."""
    if hasattr(config, "workeroutput"):
        config.workeroutput[_SENT] = closing_lines(config)


def receive_closing_lines(config: pytest.Config, output: dict[str, object]) -> None:
    """Take what another process has sent."""
    lines = output.get(_SENT)
    for line in lines if isinstance(lines, list) else ():
        say_at_the_end(config, str(line))
