"""Progress bars on a terminal; no output elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from retentiond.engine.target import NullProgress, Progress
from retentiond.model.text import printable
from retentiond.terminal.words import size_in_words

_NOTE_LIMIT: Final = 80


class Bars:
    """A bar for the current stage, with items, bytes and remaining time; it is removed at the end."""

    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._stage: TaskID | None = None
        self._name = ""
        self._size = 0

    def stage(self, name: str, total: int | None) -> None:
        """Begin a stage, and remove the bar of the stage before."""
        if self._stage is not None:
            self._progress.remove_task(self._stage)
        self._size = 0
        self._name = printable(name)
        self._stage = self._progress.add_task(self._name, total=total, size="")

    def advance(self, items: int, size: int = 0) -> None:
        """Advance the bar."""
        if self._stage is not None:
            self._size += size
            self._progress.update(
                self._stage, advance=items, size=size_in_words(self._size) if self._size else ""
            )

    def note(self, text: str) -> None:
        """Show the state of the stage behind its name."""
        if self._stage is not None:
            self._progress.update(self._stage, description=f"{self._name} ({printable(text, _NOTE_LIMIT)})")


@contextmanager
def watched(console: Console, *, bars: bool) -> Iterator[Progress]:
    """Show bars on the console, which the log must share, and remove them at the end."""
    if not bars:
        yield NullProgress()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[size]}", markup=False),
        TimeRemainingColumn(),
    )
    # All output goes through this console, so no stream has to be redirected.
    with RichProgress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        yield Bars(progress)
