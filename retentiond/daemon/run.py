"""The daemon: its parts, and its start, reload and stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from retentiond import __version__
from retentiond.adapters.clock import SystemClock
from retentiond.adapters.logging import configure_logging, get_logger
from retentiond.adapters.metrics import Metrics
from retentiond.adapters.systemd import Notifier, keep_alive
from retentiond.config.problems import ConfigError
from retentiond.config.schema import Logging, left_alone_on
from retentiond.daemon.http import HttpServers
from retentiond.daemon.notices import Notices
from retentiond.daemon.pages import Pages
from retentiond.daemon.quiet import QuietTimes
from retentiond.daemon.settings import policies_as_fields, read_settings
from retentiond.daemon.states import TargetStates
from retentiond.daemon.status import StatusReporter
from retentiond.daemon.target_set import TargetSet
from retentiond.daemon.tasks import Tasks
from retentiond.daemon.timetable import Timetable
from retentiond.ledger.host import host_name
from retentiond.model.errors import UsageError
from retentiond.targets.registry import import_kinds
from retentiond.targets.registry import open_target as open_registered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import TextIO

    from retentiond.adapters.clock import Clock
    from retentiond.daemon.policies import OpenTarget
    from retentiond.daemon.settings import Settings


PATIENCE: Final = 30.0
"""Seconds that a running batch has to end after a request to stop."""
LEAVE: Final = 5.0
"""Seconds that cancelled work then has to close its connections; with PATIENCE within the unit's TimeoutStopSec."""
_MINUTE: Final = 60.0

_log = get_logger()

# A kind of target with a fault stops the daemon before it begins.
import_kinds()


async def run_daemon(
    config_path: Path,
    environment: Mapping[str, str],
    *,
    open_target: OpenTarget = open_registered,
    notifier: Notifier | None = None,
    clock: Clock | None = None,
    stream: TextIO | None = None,
    quiet: bool = False,
    debug: bool = False,
) -> int:
    """Run until SIGTERM or SIGINT, and return the exit status: 0; 1 if a task died; 2 for an invalid configuration.

    SIGHUP reloads the configuration. Must run in the main thread, since it handles signals. The log goes to
    `stream`, standard output unless given.
    """
    daemon = _Daemon(
        config_path,
        environment,
        open_target,
        notifier or Notifier(environment),
        clock or SystemClock(),
        _Log(environment, stream or sys.stdout, quiet=quiet, debug=debug),
    )
    return await daemon.run()


class _Log:
    """The settings of the log that are independent of the configuration."""

    def __init__(self, environment: Mapping[str, str], stream: TextIO, *, quiet: bool, debug: bool) -> None:
        self._environment = environment
        self._stream = stream
        self._quiet = quiet
        self._debug = debug

    def configure(self, settings: Settings | None = None) -> None:
        """Set up logging by the configuration, or by its defaults without a valid one."""
        chosen = Logging() if settings is None else settings.logging
        configure_logging(
            chosen.level,
            chosen.format,
            self._stream,
            quiet=self._quiet,
            debug=self._debug,
            environment=self._environment,
        )


class _Daemon:
    def __init__(
        self,
        config_path: Path,
        environment: Mapping[str, str],
        open_target: OpenTarget,
        notifier: Notifier,
        clock: Clock,
        log: _Log,
    ) -> None:
        self._config_path = config_path
        self._environment = environment
        self._notifier = notifier
        self._clock = clock
        self._log = log
        self._signals = Signals()
        self._tasks = Tasks(self._signals.noticed.set)
        self._timetable = Timetable()
        self._metrics = Metrics()
        self._notices = Notices(clock)
        self._states = TargetStates(clock)
        quiet = QuietTimes()
        self._status = StatusReporter(
            notifier,
            self._metrics,
            clock,
            lambda: self._timetable.next_times,
            self._notices,
            self._states,
            quiet,
        )
        self._pages = Pages(open_target, clock, quiet, self._status)
        self._http = HttpServers(self._metrics, self._states, self._pages, clock, self._status.text)
        self._targets = TargetSet(open_target, clock, self._status, self._timetable, self._tasks)

    async def run(self) -> int:
        self._log.configure()
        with self._signals.handled():
            settings = await self._read()
            if settings is None:
                return UsageError.exit_status
            self._log.configure(settings)
            _log.info("daemon_started", version=__version__, targets=list(settings.targets))
            self._timetable.start()
            try:
                return await self._work(settings)
            finally:
                await self._tasks.cancel(self._clock.sleep(LEAVE))
                await self._http.close()
                await self._notices.close()
                self._timetable.shut()
                # APScheduler only asks the loop to shut it.
                await asyncio.sleep(0)

    async def _work(self, settings: Settings) -> int:
        await self._adopt(settings)
        self._tasks.start("watchdog", keep_alive(self._notifier))
        self._tasks.start("minute", self._look_at_the_clock())
        self._tasks.start("pages", self._pages.run())
        self._notifier.ready(self._status.text())
        while self._signals.stop is None and self._tasks.failed is None:
            self._signals.noticed.clear()
            if self._signals.reload:
                self._signals.reload = False
                await self._reload()
            else:
                await self._signals.noticed.wait()
        await self._leave()
        return 0 if self._tasks.failed is None else 1

    async def _read(self) -> Settings | None:
        """Read the configuration; log its problems and return None if it is invalid."""
        try:
            return await asyncio.to_thread(read_settings, self._config_path, self._environment)
        except UsageError as error:
            found = error.problems if isinstance(error, ConfigError) else (error,)
            problems = [str(problem) for problem in found]
            _log.error("config_rejected", config=str(self._config_path), problems=problems)
            return None

    async def _adopt(self, settings: Settings) -> None:
        await self._http.adopt(settings.metrics, settings.http)
        self._metrics.served = self._http.is_open
        self._notices.adopt(settings.notify)
        host = host_name()
        elsewhere = {n: t for n, t in settings.targets.items() if left_alone_on(t.config, host)}
        for name, target in elsewhere.items():
            _log.info("target_left_alone", target=name, host=host, hosts=target.config.only_on)
        here = {name: target for name, target in settings.targets.items() if name not in elsewhere}
        configs = {name: target.config for name, target in here.items()}
        self._states.adopt(configs, {name: target.config for name, target in elsewhere.items()})
        self._pages.adopt(settings.http.refresh if settings.http else None, configs)
        self._targets.adopt(here)
        policies = {name: policies_as_fields(target.config) for name, target in settings.targets.items()}
        _log.info("config_loaded", config=str(self._config_path), targets=policies)
        for warning in settings.warnings:
            _log.warning("config_warning", problem=str(warning))

    async def _reload(self) -> None:
        self._notifier.reloading()
        settings = await self._read()
        if settings is not None:
            self._log.configure(settings)
            await self._adopt(settings)
        # After a refused configuration the daemon is as ready as before.
        self._notifier.ready(self._status.text())

    async def _look_at_the_clock(self) -> None:
        while True:
            await self._clock.sleep(_MINUTE)
            self._timetable.wake()
            self._notices.look_for_overdue(self._timetable.next_times)
            self._status.refresh()

    async def _leave(self) -> None:
        """Let running batches end; cancel those that do not end in time, which the protocol survives."""
        reason = self._signals.stop or f"{self._tasks.failed} died"
        self._notifier.stopping(self._status.stopping())
        _log.info("daemon_stopping", reason=reason)
        self._targets.stop()
        at_work = self._targets.at_work
        if not at_work:
            return
        ends = {
            asyncio.ensure_future(asyncio.wait(at_work.values())),
            asyncio.ensure_future(self._signals.hurry.wait()),
            asyncio.ensure_future(self._clock.sleep(PATIENCE)),
        }
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        if self._targets.at_work:
            _log.warning("shutdown_cut_short", targets=list(self._targets.at_work))


_STOP: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The requests made by signals. Each signal sets `noticed`, which others may set, too.

    `stop` is the signal that asked for the end, and `hurry` is set when there came another.
    """

    def __init__(self) -> None:
        self.noticed = asyncio.Event()
        self.hurry = asyncio.Event()
        self.reload = False
        self.stop: str | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Take the signals, until the end of the block."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._ask_reload)
        for number in _STOP:
            loop.add_signal_handler(number, self._ask_stop, number)
        try:
            yield
        finally:
            for number in (signal.SIGHUP, *_STOP):
                loop.remove_signal_handler(number)

    def _ask_reload(self) -> None:
        self.reload = True
        self.noticed.set()

    def _ask_stop(self, number: signal.Signals) -> None:
        if self.stop is not None:
            self.hurry.set()
        self.stop = self.stop or number.name
        self.noticed.set()
