"""`status`: the status of each target, whether or not a daemon runs or its database answers."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from retentiond.cli.options import Json, commands, example
from retentiond.cli.session import Scope, Session, Work
from retentiond.config.schedule import Schedule
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import Target
from retentiond.model.errors import FAILED, Refusal, RetentiondError
from retentiond.model.report import QuarantineSummary, StoreStatus, TargetStatus
from retentiond.model.text import instant, printable
from retentiond.terminal.account import quarantine_in_words
from retentiond.terminal.purge import shard_lines
from retentiond.terminal.words import count_in_words, schedule_in_words, size_in_words, time_in_words


@dataclass(frozen=True, slots=True)
class LastPass:
    """The newest pass that the ledger knows; without a report it is still running, or it died."""

    state: str
    started_at: datetime
    account: Mapping[str, Any]

    @property
    def removed(self) -> tuple[int, int] | None:
        """Items and bytes that it took, where its report says so."""
        return self._tally("removed")

    @property
    def not_reached(self) -> tuple[int, int] | None:
        """Items and bytes that it found due and did not reach; None without such items."""
        tally = self._tally("not_reached")
        return tally if tally and tally[0] else None

    def _tally(self, name: str) -> tuple[int, int] | None:
        tally = self.account.get(name)
        return (int(tally["items"]), int(tally["bytes"])) if isinstance(tally, Mapping) else None


@dataclass(frozen=True, slots=True)
class TargetState:
    """The state of a target from its ledger, or the error that hides it."""

    target: str
    kind: str
    schedule: Schedule | None
    status: TargetStatus | None = None
    next_pass: datetime | None = None
    error: str | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """The problems that keep the target from working."""
        return self.status.problems if self.status else (self.error or "cannot be reached",)

    @property
    def last_pass(self) -> LastPass | None:
        """The newest pass, if there was one."""
        row = self.status.last_pass if self.status else None
        return None if row is None else _read(row)

    @property
    def quarantine(self) -> QuarantineSummary | None:
        """The contents of the quarantine, if they are known."""
        return self.status.quarantine if self.status else None

    def as_json(self) -> dict[str, Any]:
        """Return the whole state; unknown values are null."""
        last_pass, quarantine = self.last_pass, self.quarantine
        return {
            "target": self.target,
            "kind": self.kind,
            "ledger": self.status.ledger if self.status else None,
            "last_pass": dict(last_pass.account) if last_pass else None,
            "next_pass": instant(self.next_pass) if self.next_pass else None,
            "backlog": self.status.backlog.as_json() if self.status and self.status.backlog else None,
            "quarantine": quarantine.as_json() if quarantine else None,
            "holds": self.status.holds if self.status else None,
            "holder": self.status.holder if self.status else None,
            "daemon": self.status.daemon if self.status else None,
            **self._stores(),
            "problems": list(self.problems),
            "error": self.error,
        }

    def _stores(self) -> dict[str, Any]:
        """Return the key `stores`, of a target that has some beside its database."""
        stores = self.status.stores if self.status else ()
        return {"stores": [store.as_json() for store in stores]} if stores else {}


def reached(config: TargetConfig, status: TargetStatus, now: datetime) -> TargetState:
    """Return the state of a target that answered."""
    # The daemon's package brings its scheduler with it, which no other command needs.
    from retentiond.daemon.schedule import next_run  # noqa: PLC0415

    state = TargetState(status.target, status.kind, config.schedule, status)
    if config.schedule is None:
        return state
    last = state.last_pass
    due = next_run(config.schedule, last.started_at if last else None, now)
    return TargetState(status.target, status.kind, config.schedule, status, due)


def _read(row: Mapping[str, Any]) -> LastPass:
    """Join the ledger's row of a pass with the report in it."""
    report = row.get("report")
    report = json.loads(report) if isinstance(report, str) else report or {}
    columns = {
        name: instant(value) if isinstance(value, datetime) else value
        for name, value in row.items()
        if name != "report"
    }
    return LastPass(str(row["state"]), _moment(row["started_at"]), {**report, **columns})


def _moment(value: datetime | str) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


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
            session.document({"targets": [state.as_json() for state in states.values()]})
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
