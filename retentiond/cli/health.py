"""`health`: whether a daemon of this host works, for the health check of a container and for monitoring; cheap."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
from dataclasses import dataclass

from retentiond.adapters.postgres import connection_to, translate_errors
from retentiond.cli.options import commands, example
from retentiond.cli.session import Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.ledger.host import host_name
from retentiond.ledger.leadership import daemons_of, is_daemon_of
from retentiond.ledger.ledger import Ledger
from retentiond.model.errors import FAILED, RetentiondError, worst
from retentiond.model.text import printable
from retentiond.targets.settings import resolve_target

app = commands()


@app.command(epilog=example("retentiond health", "retentiond --quiet health"))
def health() -> Work:
    """Check that a daemon of this host works.

    The command reads the daemon's heartbeat, one a minute, from the database of each target, and prints a sentence for each. The
    exit status is 1 if there was none within three minutes. `status` shows what the daemon does.
    """
    return Health()


@dataclass(frozen=True, slots=True)
class Health:
    """Look for a heartbeat of this host in each target's database."""

    def __call__(self, session: Session) -> int:
        """Ask one database after another, and print a sentence for each target."""
        return session.run(_ask_all(session, session.targets(Scope())))


async def _ask_all(session: Session, targets: dict[str, TargetConfig]) -> int:
    statuses = []
    for name, config in targets.items():
        try:
            statuses.append(await _ask(session, name, config))
        except RetentiondError as error:
            statuses.append(session.fail(error, about=name))
    return worst(statuses)


async def _ask(session: Session, name: str, config: TargetConfig) -> int:
    async with connection_to(resolve_target(config).database) as connection:
        with translate_errors("the database"):
            ledger = await Ledger().exists(connection)
            daemons = await daemons_of(connection, name, ledger=ledger)
    host = host_name()
    if any(is_daemon_of(daemon, host) for daemon in daemons):
        if not session.options.quiet:
            session.line(f"{name}: the daemon works on this host, {printable(host)}")
        return 0
    others = f"the daemon that works on it is on {', '.join(daemons)}" if daemons else "no daemon works on it"
    session.error(
        f"no heartbeat of a daemon on this host, {printable(host)}, within three minutes; {printable(others, 1000)}; "
        "see the daemon's log, and start it if it does not run",
        about=name,
    )
    return FAILED
