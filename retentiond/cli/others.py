"""The commands that open no target of a configuration: the daemon, the demo and the example."""

import asyncio
from dataclasses import dataclass

from retentiond.cli.outcome import may_show_bars
from retentiond.cli.session import Session
from retentiond.config.example import example_config
from retentiond.config.schema import KINDS
from retentiond.demo.options import DemoOptions
from retentiond.model.errors import UsageError
from retentiond.model.text import printable


def run(session: Session) -> int:
    """Be the daemon; it has its own ways with signals and logs."""
    environment, options = session.environment, session.options
    return asyncio.run(
        environment.run_daemon(
            session.config_path, environment.variables, quiet=options.quiet, debug=options.debug
        )
    )


@dataclass(frozen=True, slots=True)
class PrintExample:
    """Print the commented example for a kind of target."""

    kind: str

    def __call__(self, session: Session) -> int:
        """Print it; raise UsageError for an unknown kind."""
        if self.kind not in KINDS:
            raise UsageError(f"there is no kind `{printable(self.kind, 64)}`; write {' or '.join(KINDS)}")
        session.out.put(example_config(self.kind))
        return 0


@dataclass(frozen=True, slots=True)
class Demo:
    """Show the main job on a made-up store."""

    order: DemoOptions

    def __call__(self, session: Session) -> int:
        """Run it, with nothing of the user's own touched."""
        console = session.out
        # What was asked for by --json is printed, however quiet.
        console.quiet = session.options.quiet and not self.order.as_json
        screen = session.err if may_show_bars(session) and not self.order.as_json else None
        return session.run(session.environment.run_demo(self.order, console, screen))
