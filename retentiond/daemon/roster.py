"""Which targets are kept, by what terms, and when their passes are due."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retentiond.daemon.keeper import Keeper
from retentiond.daemon.schedule import following, next_run
from retentiond.daemon.terms import Terms
from retentiond.daemon.timetable import jitter

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from datetime import datetime

    from retentiond.config.schedule import Schedule
    from retentiond.daemon.board import Board
    from retentiond.daemon.clock import Clock
    from retentiond.daemon.foresight import OpenTarget
    from retentiond.daemon.settings import TargetSettings
    from retentiond.daemon.tasks import Tasks
    from retentiond.daemon.timetable import Timetable


@dataclass(slots=True)
class _Kept:
    keeper: Keeper
    task: asyncio.Task[None]
    # What the ledger knows of the last pass is known once the target was opened, and not before.
    reached: bool = False


class Roster:
    """The keepers of all targets."""

    def __init__(
        self, open_target: OpenTarget, clock: Clock, board: Board, timetable: Timetable, tasks: Tasks
    ) -> None:
        self._open_target = open_target
        self._clock = clock
        self._board = board
        self._timetable = timetable
        self._tasks = tasks
        self._kept: dict[str, _Kept] = {}

    @property
    def at_work(self) -> dict[str, asyncio.Task[None]]:
        """The keepers that have not ended, by their targets' names."""
        return {name: kept.task for name, kept in self._kept.items() if not kept.task.done()}

    def adopt(self, targets: Mapping[str, TargetSettings]) -> None:
        """Keep these targets and no others; passes under way end by the rules they began with."""
        for name in self.at_work.keys() - targets.keys():
            self._kept[name].keeper.adopt(None)
            self._timetable.strike(name)
        for name, settings in targets.items():
            self._board.expect(name, settings.config.rule_names)
            if name in self.at_work:
                self._reload(self._kept[name], settings)
            else:
                self._begin(name, settings)

    def stop(self) -> None:
        """Ask all to end at the end of their batch."""
        for kept in self._kept.values():
            kept.keeper.stop()

    def _begin(self, name: str, settings: TargetSettings) -> None:
        keeper = Keeper(
            name, Terms(settings), self._open_target, self._clock, self._board, self._schedule_first
        )
        kept = _Kept(keeper, self._tasks.start(f"keeper of {name}", keeper.run()))
        kept.task.add_done_callback(lambda _: self._forget(name, kept))
        self._kept[name] = kept

    def _reload(self, kept: _Kept, settings: TargetSettings) -> None:
        keeper, now = kept.keeper, self._clock.now()
        # One that was to end, and shall not any more, begins anew in all but its pass.
        before = keeper.terms or Terms(settings)
        returned = keeper.terms is None
        keeper.adopt(before.reloaded(settings, now))
        schedule = settings.config.schedule
        if schedule is None:
            self._timetable.strike(keeper.name)
        elif kept.reached and (returned or schedule != before.settings.config.schedule):
            # A time that was on no timetable was not missed either.
            self._schedule(keeper, schedule, now if schedule.cron else keeper.last_started)

    def _schedule_first(self, keeper: Keeper) -> None:
        """Put a target that was opened on the timetable, where it is not on it already."""
        kept = self._kept[keeper.name]
        if kept.reached or keeper.terms is None:
            return
        kept.reached = True
        schedule = keeper.terms.settings.config.schedule
        if schedule is not None:
            self._schedule(keeper, schedule, keeper.last_started)

    def _schedule(self, keeper: Keeper, schedule: Schedule, since: datetime | None) -> None:
        now = self._clock.now()
        due = next_run(schedule, since, now)
        if due is not None and due <= now:
            keeper.request_pass()
            due = following(schedule, now)
        if due is None:
            self._timetable.strike(keeper.name)
        else:
            self._timetable.enter(keeper.name, schedule, due + jitter(schedule), keeper.request_pass)
        self._board.refresh()

    def _forget(self, name: str, kept: _Kept) -> None:
        if self._kept.get(name) is kept:
            del self._kept[name]
            self._board.forget(name)
