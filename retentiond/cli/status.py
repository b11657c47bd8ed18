"""`status`: the status of each target, whether or not a daemon runs or its database answers."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from retentiond.cli.options import Json, commands, example
from retentiond.cli.session import Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import Target
from retentiond.model.errors import FAILED, Refusal, RetentiondError
from retentiond.model.report import QuarantineSummary, StoreStatus
from retentiond.model.text import printable
from retentiond.report.target_report import TargetState, reached, status_document
from retentiond.terminal.account import quarantine_in_words
from retentiond.terminal.purge import shard_lines
from retentiond.terminal.words import count_in_words, schedule_in_words, size_in_words, time_in_words

app = commands()


@app.command(epilog=example("retentiond status", "retentiond status --json"))
def status(as_json: Json = False) -> Work:
    """Show the status of each target.

    Last and next pass, backlog, quarantine, holds, running work, and whether a daemon runs.
    """
    return Status(as_json)


_TEXT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Status:
    """Show the status of all targets."""

    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Ask one target after another, and print all of them."""
        targets = session.targets(Scope(), anywhere=True)
        states: dict[str, TargetState] = {}

        async def on_target(target: Target, config: TargetConfig) -> int:
            state = reached(config, await target.status(), session.environment.now())
            states[target.name] = state
            return FAILED if state.problems else 0

        def failed(name: str, error: RetentiondError) -> None:
            config = targets[name]
            states[name] = TargetState(name, config.kind, config.schedule, error=str(error))

        status = session.run(session.for_each(targets, on_target, failed=failed))
        if self.as_json:
            session.document(status_document(states.values()))
        else:
            for state in states.values():
                session.out.print(_table(session, state))
        return status


def _table(session: Session, state: TargetState) -> Table:
    table = Table(
        title=Text(f"{state.target} ({state.kind})", style="bold"),
        title_justify="left",
        box=box.SIMPLE,
        show_header=False,
    )
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for problem in state.problems:
        table.add_row("problem", Text(printable(problem, _TEXT_LIMIT), style="red"))
    if state.status is None:
        return table
    table.add_row("last pass", Text(_last_pass(state)))
    refused = _refused(state)
    if refused:
        table.add_row("refused by", Text(refused, style="yellow"))
    if state.status.last_audit is not None:
        table.add_row("last audit", Text(_last_audit(state.status.last_audit)))
    table.add_row("next pass", Text(_next_pass(state)))
    table.add_row("backlog", Text(_backlog(state)))
    if state.quarantine is not None:
        table.add_row("quarantine", Text(_quarantine(session, state.target, state.quarantine)))
    for store in state.status.stores:
        table.add_row(store.store, Text(_store(store)))
    table.add_row("holds", Text(_holds(session, state.status.holds)))
    table.add_row("running", Text(printable(state.status.holder or "no", _TEXT_LIMIT)))
    table.add_row("daemon", Text(printable(state.status.daemon or "not running", _TEXT_LIMIT)))
    return table


def _last_pass(state: TargetState) -> str:
    last = state.last_pass
    if last is None:
        return "none yet"
    words = f"{printable(last.state)}, {time_in_words(last.started_at)}"
    if last.removed is not None:
        items, size = last.removed
        words += f": {count_in_words(items, 'item')} removed, {size_in_words(size)}"
    if last.not_reached is not None:
        items, size = last.not_reached
        words += (
            f"; not reached: {count_in_words(items, 'item')}, {size_in_words(size)}; the next pass continues"
        )
    return words


def _refused(state: TargetState) -> str:
    refused = state.last_pass.account.get("refused") if state.last_pass else None
    if not isinstance(refused, Mapping):
        return ""
    refusal = Refusal(**refused)
    return printable(f"{refusal.found}; {refusal.hint}", _TEXT_LIMIT)


def _last_audit(audit: Mapping[str, Any]) -> str:
    found = sum(int(tally["items"]) for tally in audit["findings"].values())
    return f"{time_in_words(audit['finished_at'])}: {count_in_words(found, 'finding')}"


def _next_pass(state: TargetState) -> str:
    schedule = schedule_in_words(state.schedule)
    if state.next_pass is None:
        return schedule
    return f"{time_in_words(state.next_pass)} ({schedule})"


def _holds(session: Session, holds: int) -> str:
    return f"{count_in_words(holds, 'hold')} in force ({session.command('hold list')})" if holds else "none"


def _backlog(state: TargetState) -> str:
    backlog = state.status.backlog if state.status else None
    if backlog is None:
        return "not known before the first survey"
    if not backlog.items:
        return f"nothing was due and left, {time_in_words(backlog.at)}"
    since = f", the oldest since {time_in_words(backlog.since)}" if backlog.since else ""
    return (
        f"{count_in_words(backlog.items, 'item')} due and not deleted, {size_in_words(backlog.bytes)}{since}"
    )


def _store(store: StoreStatus) -> str:
    since = "" if store.state == "finished" else f" since {time_in_words(store.since)}"
    lines = [f"{printable(store.account)}: {printable(store.state)}{since}", *shard_lines(store.shards)]
    return "\n".join(lines)


def _quarantine(session: Session, target: str, summary: QuarantineSummary) -> str:
    if not (summary.items or summary.blobs):
        return "empty"
    until = f", until {time_in_words(summary.until)}" if summary.until else ""
    listing = session.command(f"quarantine list {target}")
    return f"{quarantine_in_words(summary)}{until} ({listing})"
