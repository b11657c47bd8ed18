"""The daemon: passes by schedule, sweeps beside them, reload and shutdown. It decides nothing about media itself."""

from retentiond.daemon.run import run_daemon

__all__ = ["run_daemon"]
