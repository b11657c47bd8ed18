"""The log of a command: plain lines on the console of its bars, and findings counted on a terminal."""

from collections import Counter
from contextlib import suppress
from typing import Final

from rich.console import Console
from rich.text import Text

from retentiond.adapters.log_entries import Entry

_FINDINGS: Final = frozenset({"inconsistency", "item_failed"})
"""Events about single items: thousands of them would scroll the summary off the screen."""
_IN_THE_ACCOUNT: Final = frozenset({
    "access_log_tells_nothing",
    "access_times_missing",
    "pass_refused",
    "quota_stopped",
    "repair_refused",
    "unexpected_error",
})  # fmt: skip
"""Events whose text the summary, or the error printed instead, repeats."""
_STYLES: Final = {"warning": "yellow", "error": "red", "critical": "bold red"}


class CommandLog:
    """The output of a command's log; `everything` lists entries that are otherwise counted or left out.

    The console is the one that draws the bars, so a line goes above them.
    """

    def __init__(self, console: Console, *, everything: bool) -> None:
        self._console = console
        self._everything = everything
        self.warnings: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def write(self, entry: Entry) -> None:
        """Count a finding on a terminal; print every other entry."""
        if not self._everything:
            if entry.event in _IN_THE_ACCOUNT:
                return
            if self._console.is_terminal and entry.event in _FINDINGS:
                counts = self.warnings if entry.level == "warning" else self.errors
                counts[entry.kind or entry.event] += entry.items
                return
        text = Text.from_ansi(entry.line) if self._everything else Text(entry.line)
        text.style = "" if self._everything else _STYLES.get(entry.level, "")
        # A write within a write, from the garbage collector, or a closed stream: there is no other place to report it.
        with suppress(OSError, ValueError, RuntimeError):
            self._console.print(text, soft_wrap=True)

    debug = info = warning = error = critical = write
