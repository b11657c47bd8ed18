"""The workers of all targets, their policies, and the schedule of their passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from retentiond.config.next_run import following, next_run
from retentiond.daemon.policies import EffectivePolicies
from retentiond.daemon.timetable import jitter
from retentiond.daemon.worker import TargetWorker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping
    from datetime import datetime

    from retentiond.adapters.clock import Clock
    from retentiond.config.schedule import Schedule
    from retentiond.daemon.policies import OpenTarget
    from retentiond.daemon.settings import TargetSettings
    from retentiond.daemon.status import StatusReporter
    from retentiond.daemon.tasks import Tasks
    from retentiond.daemon.timetable import Timetable


@dataclass(slots=True)
class _Entry:
    worker: TargetWorker
    task: asyncio.Task[None]
    # The last pass is in the ledger, which is read once the target was opened.
    reached: bool = False


class TargetSet:
    """The workers of all targets."""

    def __init__(
        self,
        open_target: OpenTarget,
        clock: Clock,
        status: StatusReporter,
        timetable: Timetable,
        tasks: Tasks,
    ) -> None:
        self._open_target = open_target
        self._clock = clock
        self._status = status
        self._timetable = timetable
        self._tasks = tasks
        self._entries: dict[str, _Entry] = {}

    @property
    def at_work(self) -> dict[str, asyncio.Task[None]]:
        """The tasks of the running workers by target name."""
        return {name: entry.task for name, entry in self._entries.items() if not entry.task.done()}

    def adopt(self, targets: Mapping[str, TargetSettings]) -> None:
        """Work on these targets only; running passes end with the policies they began with."""
        for name in self.at_work.keys() - targets.keys():
            self._entries[name].worker.adopt(None)
            self._timetable.strike(name)
        for name, settings in targets.items():
            self._status.expect(name, settings.config.rule_names)
            if name in self.at_work:
                self._reload(self._entries[name], settings)
            else:
                self._begin(name, settings)

    def stop(self) -> None:
        """Request all workers to end with their batch."""
        for entry in self._entries.values():
            entry.worker.stop()

    def _begin(self, name: str, settings: TargetSettings) -> None:
        worker = TargetWorker(
            name,
            EffectivePolicies(settings),
            self._open_target,
            self._clock,
            self._status,
            self._schedule_first,
        )
        entry = _Entry(worker, self._tasks.start(f"worker of {name}", worker.run()))
        entry.task.add_done_callback(lambda _: self._forget(name, entry))
        self._entries[name] = entry

    def _reload(self, entry: _Entry, settings: TargetSettings) -> None:
        worker, now = entry.worker, self._clock.now()
        # A worker that was ending starts anew; its running pass goes on.
        before = worker.policies or EffectivePolicies(settings)
        returned = worker.policies is None
        worker.adopt(before.reloaded(settings, now))
        schedule = settings.config.schedule
        if schedule is None:
            self._timetable.strike(worker.name)
        elif entry.reached and (returned or schedule != before.settings.config.schedule):
            # A time that was never on the timetable was not missed.
            self._schedule(worker, schedule, now if schedule.cron else worker.last_started)

    def _schedule_first(self, worker: TargetWorker) -> None:
        """Enter an opened target into the timetable, if it is not in it."""
        entry = self._entries[worker.name]
        if entry.reached or worker.policies is None:
            return
        entry.reached = True
        schedule = worker.policies.settings.config.schedule
        if schedule is not None:
            self._schedule(worker, schedule, worker.last_started)

    def _schedule(self, worker: TargetWorker, schedule: Schedule, since: datetime | None) -> None:
        now = self._clock.now()
        due = next_run(schedule, since, now)
        if due is not None and due <= now:
            worker.request_pass()
            due = following(schedule, now)
        if due is None:
            self._timetable.strike(worker.name)
        else:
            self._timetable.enter(worker.name, schedule, due + jitter(schedule), worker.request_pass)
        self._status.refresh()

    def _forget(self, name: str, entry: _Entry) -> None:
        if self._entries.get(name) is entry:
            del self._entries[name]
            self._status.forget(name)
