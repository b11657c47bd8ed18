"""The output of the parts of the demo; a quiet demo prints nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console


class Screen:
    """Prints the steps of a part of the demo."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet

    def head(self, text: str) -> None:
        """Print the heading of a step."""
        self.print(lambda console: console.rule(Text(text, style="bold"), align="left"))

    def line(self, text: str) -> None:
        """Print a line."""
        self.print(lambda console: console.print(Text(text)))

    def print(self, show: Callable[[Console], None]) -> None:
        """Print by a function that writes to a console."""
        if not self._quiet:
            show(self._console)
