"""The frame around a refusal, and the table that all commands print."""

from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from retentiond.model.errors import Refusal
from retentiond.model.text import sentence
from retentiond.terminal.translation import Translate, untranslated


def refusal_panel(refusal: Refusal, title: str, translate: Translate = untranslated) -> Panel:
    """Return a refusal with its next step, in a frame."""
    text = Text("\n".join(translate(sentence(part, 1000)) for part in (refusal.found, refusal.hint)))
    return Panel(text, title=title, title_align="left", border_style="yellow", box=box.SQUARE)


def table(title: str) -> Table:
    """Return an empty table in the common style."""
    return Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD)
