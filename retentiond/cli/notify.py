"""`notify`: a test of the configured notifications."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from retentiond.adapters.channels import Channel, NotSentError, channels_of
from retentiond.cli.options import commands, example
from retentiond.cli.session import Session, Work
from retentiond.ledger.host import host_name
from retentiond.model.errors import FAILED, UsageError
from retentiond.model.notices import Notice

app = commands("Test the notifications.")


@app.command(name="test", epilog=example("retentiond notify test"))
def test_notifications() -> Work:
    """Send a test by each channel.

    The test goes to each channel under `notify` in the configuration, and a line for each shows whether it was accepted.
    A ping URL receives the test as a success. The exit status is 1 if a channel did not accept it.
    """
    return TestNotifications()


@dataclass(frozen=True, slots=True)
class TestNotifications:
    """Send a test by each channel."""

    def __call__(self, session: Session) -> int:
        """Send, and print a line for each channel."""
        notify = session.load().notify
        if notify is None:
            raise UsageError("no `notify` in the configuration; `retentiond example-config` has an example")
        return session.run(self._send(session, channels_of(notify, host_name())))

    @staticmethod
    async def _send(session: Session, channels: list[Channel]) -> int:
        notice = Notice("test", "all targets", "notifications of retentiond arrive here", datetime.now(UTC))
        results = await asyncio.gather(
            *(channel.send(notice) for channel in channels), return_exceptions=True
        )
        status = 0
        for channel, result in zip(channels, results, strict=True):
            if result is None:
                session.line(f"{channel.name}: sent")
                continue
            if not isinstance(result, NotSentError):
                raise result
            session.error(str(result), about=channel.name)
            status = FAILED
        return status
