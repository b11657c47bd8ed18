"""`once`: one pass now."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from retentiond.adapters.clock import SystemClock
from retentiond.adapters.logging import get_logger
from retentiond.cli.options import Days, DendriteConfig, Json, Local, Targets, Wait, commands, example
from retentiond.cli.outcome import may_show_bars, print_outcome
from retentiond.cli.plan import Plan
from retentiond.cli.session import Scope, Session, Work, patience_of
from retentiond.config.schema import TargetConfig
from retentiond.daemon.notices import Notices
from retentiond.engine.capabilities import HasSamples
from retentiond.engine.target import PATIENCE, PassOptions, Progress, Stop, StoppedError, Target
from retentiond.model.errors import BusyError, RefusedError, RetentiondError
from retentiond.terminal.progress import watched

_LAST_NOTICES: Final = 30.0
"""Seconds that notices have after the last pass."""

_SAMPLE_WITHIN: Final = 600.0
"""Seconds that a sample may add to a run; the next run, or a daemon, tries again."""

app = commands()


@app.command(
    epilog=example(
        "retentiond once media",
        "retentiond once media --yes",
        "retentiond once --dendrite-config /etc/dendrite/dendrite.yaml --days 90",
    ),
)
def once(
    targets: Targets = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Same as `plan`.")] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Override max_share, max_items and max_missing_files for this pass; all other checks remain.",
        ),
    ] = False,
    wait: Wait = None,
    as_json: Json = False,
    dendrite_config: DendriteConfig = None,
    days: Days = None,
    local: Local = False,
) -> Work:
    """Run one pass now.

    Deleted items go to quarantine, and `quarantine restore` brings them back. Without TARGET it runs on all targets.
    """
    scope = Scope(tuple(targets or ()), dendrite_config, days, local)
    return Plan(scope, as_json=as_json) if dry_run else Once(scope, yes, as_json, patience_of(wait))


@dataclass(frozen=True, slots=True)
class Once:
    """Run one pass now."""

    scope: Scope
    over_limits: bool = False
    as_json: bool = False
    patience: float = PATIENCE

    def __call__(self, session: Session) -> int:
        """Run a pass on one target after another."""
        targets = session.targets(self.scope)
        passes: list[dict[str, Any]] = []
        stop = Stop()

        notices = Notices(SystemClock(), at_once=True)

        async def on_target(target: Target, config: TargetConfig) -> int:
            if session.notify is not None:
                notices.opened(target.name, await target.status())
            notices.begun(target.name)
            with watched(session.err, bars=may_show_bars(session)) as progress:
                options = PassOptions(
                    "once",
                    over_limits=self.over_limits,
                    patience=self.patience,
                    keep_records=session.keep_records,
                    progress=progress,
                    stop=stop,
                )
                report = await target.run_pass(options)
                if report.state != "interrupted":
                    await _take_sample(target, progress, stop)
            notices.ended(target.name, report, stopped=stop.asked, scheduled=True)
            passes.append(report.as_json())
            await print_outcome(session, target, config, report, self.scope, shown=not self.as_json)
            return report.exit_status

        def failed(name: str, error: RetentiondError) -> None:
            if not isinstance(error, BusyError):
                notices.failed(name, str(error), refused=isinstance(error, RefusedError))

        async def all_passes() -> int:
            notices.adopt(session.notify)
            try:
                return await session.for_each(targets, on_target, stop, failed)
            finally:
                await notices.close(_LAST_NOTICES)

        try:
            return session.run(all_passes(), stop)
        finally:
            if self.as_json:
                session.document({"passes": passes})


async def _take_sample(target: Target, progress: Progress, stop: Stop) -> None:
    """Take the sample of today for stores without a daemon; an error is a warning, since the pass is done."""
    if not isinstance(target, HasSamples):
        return
    try:
        async with asyncio.timeout(_SAMPLE_WITHIN):
            await stop.unless_asked(target.take_sample("once", progress))
    except StoppedError:
        return
    except (RetentiondError, TimeoutError) as error:
        get_logger(target=target.name).warning(
            "sample_not_taken", error=str(error) or f"not done within {_SAMPLE_WITHIN:.0f} s"
        )
