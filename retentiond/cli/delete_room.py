"""`delete --room … --and-purge`: the room's media first, then the room itself, after one plan and one question."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from collections.abc import Mapping
from dataclasses import dataclass, field

from retentiond.cli.outcome import may_show_bars, print_outcome
from retentiond.cli.session import Scope, Session, agreed, refuse_unasked
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import PurgesRooms, TakesRequests
from retentiond.engine.target import PATIENCE, PassOptions, Stop, Target
from retentiond.model.errors import RefusedError, UsageError
from retentiond.model.report import PassReport
from retentiond.model.request import Request
from retentiond.model.text import printable
from retentiond.targets import registry
from retentiond.terminal.account import show_pass
from retentiond.terminal.progress import watched
from retentiond.terminal.words import count_in_words

_ANSWER = "a purge of a room cannot be undone: the plan needs confirmation"


@dataclass(frozen=True, slots=True)
class DeleteRoom:
    """Plan both, ask once, delete the media, and purge the room; a failure of the first leaves the room alone."""

    scope: Scope
    request: Request
    yes: bool = False
    dry_run: bool = False
    as_json: bool = False
    patience: float = PATIENCE
    reports: list[PassReport] = field(default_factory=list)

    def __call__(self, session: Session) -> int:
        """Work, and print the plans, or the passes once they ran, as JSON."""
        targets = session.targets(self.scope)
        rooms = {name: config for name, config in targets.items() if registry.has(config, PurgesRooms)}
        media = {name: config for name, config in targets.items() if registry.has(config, TakesRequests)}
        if not rooms:
            raise UsageError(
                "--and-purge needs a target of kind dendrite_rooms; add one to the configuration"
            )
        if not (self.yes or self.dry_run):
            refuse_unasked(session, _ANSWER)
        try:
            return self._work(session, media, rooms)
        finally:
            if self.as_json:
                session.document({"passes": [report.as_json() for report in self.reports]})

    def _work(
        self, session: Session, media: Mapping[str, TargetConfig], rooms: Mapping[str, TargetConfig]
    ) -> int:
        status = session.run(self._plan(session, media, rooms))
        if status or self.dry_run:
            return status
        plans = list(self.reports)
        if held := [plan.target for plan in plans if plan.kept["hold"]]:
            session.error(
                f"nothing was changed: {', '.join(held)} has a hold on it; `retentiond hold list` shows the holds"
            )
            return RefusedError.exit_status
        wanted = {plan.target for plan in plans if plan.removed}
        if not wanted & set(rooms):
            session.error("nothing was changed: the room cannot be purged; the plan says why")
            return RefusedError.exit_status
        if not self.yes and not agreed(session, self._question(plans, rooms)):
            session.note("nothing was deleted")
            return 0
        self.reports.clear()
        status = self._carry_out(session, {name: one for name, one in media.items() if name in wanted})
        if status:
            session.error(
                "the room was not purged, since its media were not all deleted; run it again to go on"
            )
            return status
        return self._carry_out(session, {name: one for name, one in rooms.items() if name in wanted})

    async def _plan(
        self, session: Session, media: Mapping[str, TargetConfig], rooms: Mapping[str, TargetConfig]
    ) -> int:
        async def on_target(target: Target, _config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                if isinstance(target, PurgesRooms):
                    report = await target.plan_room(self.request.name)
                else:
                    assert isinstance(target, TakesRequests)  # noqa: S101 - `__call__` has chosen them
                    report = await target.plan(None, progress, self.request)
            self.reports.append(report)
            if not (session.options.quiet and self.yes):
                # With --json standard output holds the document only.
                show_pass(session.err if self.as_json else session.out, report, ())
            return report.exit_status

        return await session.for_each({**media, **rooms}, on_target)

    def _carry_out(self, session: Session, targets: Mapping[str, TargetConfig]) -> int:
        stop = Stop()

        async def on_target(target: Target, config: TargetConfig) -> int:
            with watched(session.err, bars=may_show_bars(session)) as progress:
                options = PassOptions(
                    "delete",
                    request=self.request,
                    patience=self.patience,
                    keep_records=session.keep_records,
                    progress=progress,
                    stop=stop,
                )
                if isinstance(target, PurgesRooms):
                    report = await target.purge_room(self.request.name, options)
                else:
                    report = await target.run_pass(options)
            self.reports.append(report)
            await print_outcome(session, target, config, report, self.scope, shown=not self.as_json)
            return report.exit_status

        return session.run(session.for_each(targets, on_target, stop), stop)

    def _question(self, plans: list[PassReport], rooms: Mapping[str, TargetConfig]) -> str:
        items = sum(plan.removed_items for plan in plans if plan.target not in rooms)
        return f"Delete {count_in_words(items, 'media item')}, and purge the room {printable(self.request.name)} for good?"
