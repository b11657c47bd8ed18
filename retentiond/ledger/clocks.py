"""Comparison of clocks: a clock that may be wrong deletes no data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.ledger.host import LARGEST_LEAP
from retentiond.model.errors import PassLimit, Refusal, RefusedError

if TYPE_CHECKING:
    from retentiond.ledger.ledger import StoreState

LARGEST_CLOCK_DIFFERENCE: Final = timedelta(minutes=1)


def next_step(target: str) -> str:
    """Name the command that continues after a permanent refusal."""
    return f"`retentiond quarantine accept {target}` shows what is known, and with --yes goes on from there"


def check_clocks(state: StoreState, leap: float, target: str) -> None:
    """Refuse a clock that is behind the ledger, far from the database's, or has leapt."""
    difference = abs(datetime.now(UTC) - state.now)
    if difference > LARGEST_CLOCK_DIFFERENCE:
        raise _clock(
            "clock_difference",
            f"{difference.total_seconds():.0f} s",
            f"{LARGEST_CLOCK_DIFFERENCE.total_seconds():.0f} s",
            "the clocks of this machine and of the database server disagree; set both right (NTP)",
        )
    if state.last_pass_at is not None and state.last_pass_at > state.now:
        raise _clock(
            "clock_behind",
            f"{state.now:%Y-%m-%d %H:%M:%S%z}",
            f"after the last pass, {state.last_pass_at:%Y-%m-%d %H:%M:%S%z}",
            f"the database server's clock is behind the ledger's last pass; set it right. If it is right already: {next_step(target)}",
        )
    check_leap(leap, target)


def check_leap(leap: float, target: str) -> None:
    """Refuse where this machine's wall clock leapt since it was last seen."""
    if abs(leap) > LARGEST_LEAP:
        raise _clock(
            "clock_leapt",
            f"{leap:.0f} s",
            f"{LARGEST_LEAP:.0f} s",
            f"this machine's wall clock leapt since retentiond last ran; check the time; if it is right: {next_step(target)}",
        )


def _clock(limit: PassLimit, value: str, allowed: str, hint: str) -> RefusedError:
    return RefusedError(Refusal(limit, value, allowed, hint))
