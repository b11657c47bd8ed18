"""`plan`: the deletions of a pass, without changes, with `--list`, `--what-if` and `--explain`."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from retentiond.cli.listing import write_item
from retentiond.cli.options import Days, DendriteConfig, Json, Local, Targets, commands, example
from retentiond.cli.outcome import may_show_bars, over_limit, pass_words
from retentiond.cli.session import Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.config.units import UnitError, parse_duration
from retentiond.engine.capabilities import ComparesAges, Explains
from retentiond.engine.target import Target
from retentiond.model.errors import UsageError
from retentiond.model.report import Item, PassReport
from retentiond.model.text import printable
from retentiond.terminal.account import show_pass, show_what_if
from retentiond.terminal.explanations import show_any_explanation
from retentiond.terminal.progress import watched

app = commands()


@app.command(
    epilog=example(
        "retentiond plan",
        "retentiond plan media --list --json",
        "retentiond plan media --what-if 7d,30d,90d",
        "retentiond plan --explain mxc://example.org/abc",
        "retentiond plan --dendrite-config /etc/dendrite/dendrite.yaml --days 90",
    ),
)
def plan(
    targets: Targets = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List every item with its reason, one per line.")
    ] = False,
    what_if: Annotated[
        str | None,
        typer.Option(metavar="AGES", help="Compare other ages for the policies, such as 7d,30d,90d."),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="mxc://SERVER/ID",
            help="Explain one item: each policy, and everything that keeps it. A room by its ID or an alias.",
        ),
    ] = None,
    as_json: Json = False,
    dendrite_config: DendriteConfig = None,
    days: Days = None,
    local: Local = False,
) -> Work:
    """Show what a pass would delete; change nothing.

    The plan counts items and bytes by policy, and what is kept by reason. Without TARGET it covers all targets.
    """
    scope = Scope(tuple(targets or ()), dendrite_config, days, local)
    if listed + (what_if is not None) + (explain is not None) > 1:
        raise UsageError("--list, --what-if and --explain exclude each other; use one of them")
    if explain is not None:
        return Explain(scope, explain, as_json)
    if what_if is not None:
        return WhatIf(scope, parse_ages(what_if), as_json)
    return Plan(scope, listed, as_json)


@dataclass(frozen=True, slots=True)
class Plan:
    """Show what a pass would delete; change nothing."""

    scope: Scope
    listed: bool = False
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Plan for one target after another."""
        targets = session.targets(self.scope)
        listen = self._listener(session, several=len(targets) > 1)
        passes: list[dict[str, Any]] = []

        async def on_target(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session, listed=self.listed)) as progress:
                report = await target.plan(listen, progress)
            passes.append(report.as_json())
            self._show(session, report)
            return report.exit_status

        try:
            return session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json and not self.listed:
                session.document({"passes": passes})

    def _listener(self, session: Session, *, several: bool) -> Callable[[Item], None] | None:
        if not self.listed:
            return None
        return lambda item: write_item(session.out, item, as_json=self.as_json, with_target=several)

    def _show(self, session: Session, report: PassReport) -> None:
        if not self.as_json:
            # A list may be piped to a program; the summary below it is for the terminal.
            console = session.err if self.listed else session.out
            if not (self.listed and session.options.quiet):
                show_pass(console, report, self._next_steps(session, report), session.translate)
        elif report.refused is not None:
            session.note(f"{report.target}: a pass would be refused by {report.refused.limit}")

    def _next_steps(self, session: Session, report: PassReport) -> Iterator[str]:
        yield "Nothing was changed."
        yield from over_limit(session, report, self.scope)
        if report.refused is None and report.removed_items:
            yield f"The pass itself: {session.command(pass_words('once', report.target, self.scope))}"
        if not self.listed:
            every = session.command(pass_words("plan", report.target, self.scope, "--list"))
            yield f"Every item with its reason: {every}"


_MOST: Final = 20
_SHOWN: Final = ("removed", "kept", "refused")


def parse_ages(text: str) -> dict[str, timedelta]:
    """Read `7d,30d,90d` into ages as they were written; raise UsageError."""
    written = [age.strip() for age in text.split(",", _MOST)]
    if len(written) > _MOST:
        raise UsageError(f"--what-if: {_MOST} ages at most, since each is a plan of its own")
    try:
        return {age: parse_duration(age) for age in written}
    except UnitError as error:
        raise UsageError(f"--what-if: `{printable(text, 80)}`: {error}") from None


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Plan with the policies as they are, then with each age; a policy with `keep: forever` stays as it is."""

    scope: Scope
    ages: Mapping[str, timedelta]
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Plan for one target after another, an age at a time."""
        passes: list[dict[str, Any]] = []

        async def on_target(target: ComparesAges, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                report = await target.plan(None, progress)
                supposed = {
                    age: await target.plan(None, progress, keep=keep) for age, keep in self.ages.items()
                }
            passes.append(
                report.as_json() | {"what_if": [_as_json(age, plan) for age, plan in supposed.items()]}
            )
            if not self.as_json:
                show_what_if(session.out, report, supposed)
            return report.exit_status

        targets = session.capable(
            self.scope, ComparesAges, "no policies with ages to compare; name a media target"
        )
        try:
            return session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json:
                session.document({"passes": passes})


def _as_json(age: str, plan: PassReport) -> dict[str, Any]:
    account = plan.as_json()
    return {"keep": age} | {key: account[key] for key in _SHOWN}


@dataclass(frozen=True, slots=True)
class Explain:
    """Explain one item: each policy, everything that keeps it, and the outcome."""

    scope: Scope
    item: str
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Explain it in one target after another."""
        targets = session.capable(self.scope, Explains, "no items to explain; name a media target")
        targets = {name: config for name, config in targets.items() if config.names_item(self.item)}
        if not targets:
            raise UsageError(
                f"`{printable(self.item)}` is not a media URI; write it as mxc://SERVER/ID, or a room of a target of rooms as "
                "'!ROOM:SERVER' or '#ALIAS:SERVER'"
            )
        stories: list[dict[str, Any]] = []

        async def on_target(target: Explains, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                story = await target.explain(self.item, progress)
            stories.append(story.as_json())
            if not self.as_json:
                show_any_explanation(story, session.out)
            return 0

        try:
            return session.run(session.for_each(targets, on_target))
        finally:
            if self.as_json:
                session.document({"stories": stories})
