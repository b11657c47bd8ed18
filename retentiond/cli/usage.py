"""`usage`: the space of a store, divided by a property of its items."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from retentiond.cli.options import Json, Targets, commands, example
from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import HasUsage
from retentiond.model.errors import UsageError
from retentiond.model.text import printable
from retentiond.model.usage import (
    DEFAULT_ROWS,
    DIVISIONS,
    LONGEST_KEY,
    MOST_ROWS,
    UsageBy,
    UsageRow,
    usage_document,
)
from retentiond.terminal.frames import table
from retentiond.terminal.progress import watched
from retentiond.terminal.words import size_in_words

app = commands()


@app.command(
    epilog=example(
        "retentiond usage media", "retentiond usage media --by user --top 5", "retentiond usage --json"
    )
)
def usage(
    targets: Targets = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(DIVISIONS),
            help="The property by which the store is divided; default: server for media and rooms, account for chats. `file` lists "
            "the largest files.",
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=MOST_ROWS, help="Largest keys to name; the rest is one row."),
    ] = DEFAULT_ROWS,
    as_json: Json = False,
) -> Work:
    """Show the used space by server, room, user, type or age.

    Room and user of media of other servers come from the events that show them; those of encrypted rooms are not known.
    A file that several uploads share counts once, for the oldest of them: the sums are those of the store.
    """
    return Usage(Scope(tuple(targets or ())), _division(by), top, as_json)


def _division(by: str | None) -> UsageBy | None:
    if by is None:
        return None
    for division in DIVISIONS:
        if by == division:
            return division
    raise UsageError(f"--by `{printable(by, 64)}` is not known; write one of {', '.join(DIVISIONS)}")


@dataclass(frozen=True, slots=True)
class Usage:
    """Divide the stores of all targets that can be divided so."""

    scope: Scope
    by: UsageBy | None = None
    top: int = DEFAULT_ROWS
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Read one target after another, and print what was read."""
        targets = session.capable(
            self.scope, HasUsage, "no usage to show; name a target that has it", anywhere=True
        )
        found: list[tuple[str, UsageBy, list[UsageRow]]] = []
        without: list[str] = []

        async def on_target(target: HasUsage, _config: TargetConfig) -> int:
            by = self.by or target.divisions[0]
            if by not in target.divisions:
                if target.name in self.scope.names:
                    raise UsageError(
                        f"no division by {by}; --by is one of {', '.join(target.divisions)} here"
                    )
                without.append(target.name)
                return 0
            with watched(session.err, bars=may_show_bars(session)) as progress:
                rows = await target.usage(by, self.top, progress)
            found.append((target.name, by, rows))
            if not self.as_json:
                session.out.print(_table(target.name, by, rows))
            return 0

        status = session.run(session.for_each(targets, on_target))
        if without and not found:
            raise UsageError(f"{printable(', '.join(without))}: no division by {self.by}; leave --by out")
        if self.as_json:
            session.document(usage_document(found))
        return status


def _table(target: str, by: UsageBy, rows: list[UsageRow]) -> Table:
    shown = table(printable(target))
    shown.add_column(by, overflow="fold")
    for heading in ("items", "size", "share"):
        shown.add_column(heading, justify="right")
    items, size = sum(row.items for row in rows), sum(row.bytes for row in rows)
    for row in rows:
        # Chats have no size: the share is one of items.
        share = row.bytes / size if size else row.items / max(items, 1)
        shown.add_row(
            Text(printable(row.key, LONGEST_KEY)), f"{row.items:,}", size_in_words(row.bytes), f"{share:.0%}"
        )
    shown.add_section()
    shown.add_row("total", f"{items:,}", size_in_words(size), "")
    return shown
