"""Comparison of clocks: a clock that may be wrong deletes no data.

Each target notes in the ledger by how much the wall clock is ahead of the time since the boot. Within a boot a note tells
whether the wall clock was set since. Across boots no note can: the machine may have started with any time. What lies
between the last note and the boot is a gap, and counts towards no time that retentiond waits for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries
from retentiond.ledger.host import host_name, read_clock
from retentiond.model.errors import PassLimit, Refusal, RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from retentiond.adapters.postgres import Conn, Db
    from retentiond.ledger.host import HostClock
    from retentiond.ledger.ledger import StoreState

SQL: Final = named_queries(__package__, "clocks.sql")
LARGEST_CLOCK_DIFFERENCE: Final = timedelta(minutes=1)
LARGEST_LEAP: Final = timedelta(hours=1)
"""How far the wall clock may move against the time since boot before a target stops."""
LONGEST_GAP: Final = timedelta(days=32)
"""A longer gap stops a target: a pass a month is a usual schedule."""
CLOCK_REFUSALS: Final = frozenset({"clock_behind", "clock_leapt"})
"""The refusals that end when an administrator accepts the clock."""


@dataclass(frozen=True, slots=True)
class ClockNotes:
    """What the ledger has noted for one target; `now` is the database server's clock.

    `wall_ahead` is the last note of this boot, and None before the first one; `last_boot` is when the last note of
    an earlier boot was written.
    """

    now: datetime
    wall_ahead: float | None = None
    own: bool = False
    last_boot: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Time that is not known to have passed; with `began` None, all time before `ended`."""

    began: datetime | None
    ended: datetime


@dataclass(frozen=True, slots=True)
class ClockLook:
    """A look at this machine's clock for one target: by how much it leapt since the last note, and the gap before this boot."""

    target: str
    clock: HostClock
    leap: timedelta = timedelta(0)
    gap: Gap | None = None


def compare_clock(target: str, clock: HostClock, notes: ClockNotes) -> ClockLook:
    """Compare this machine's clock with the notes."""
    leap, gap = timedelta(0), None
    if notes.wall_ahead is not None:
        leap = timedelta(seconds=clock.wall_ahead - notes.wall_ahead)
    if not clock.known:
        # The same difference as noted means the same boot; any other one, that it is another, or that the clock was set.
        same = notes.own and abs(leap) <= LARGEST_CLOCK_DIFFERENCE
        return ClockLook(target, clock, gap=None if same else _gap_before(notes, notes.now))
    if leap > LARGEST_CLOCK_DIFFERENCE:
        gap = Gap(notes.now - leap, notes.now)
    if not notes.own:
        gap = _gap_before(notes, min(datetime.fromtimestamp(clock.wall_ahead, UTC), notes.now)) or gap
    return ClockLook(target, clock, leap, gap)


def _gap_before(notes: ClockNotes, boot: datetime) -> Gap | None:
    if notes.last_boot is None or notes.last_boot > notes.now + LARGEST_LEAP:
        # There is no note of the target, which may have had another name, or one of the future, which a wrong clock has
        # written: nothing is known.
        return Gap(None, notes.now)
    return Gap(notes.last_boot, boot) if notes.last_boot < boot else None


async def look_at_clock(connection: Conn | Db, target: str) -> ClockLook:
    """Compare this machine's clock with the notes of a target."""
    clock = read_clock()
    row = await connection.fetchrow(SQL["clock_notes"], clock.boot_id, target)
    assert row is not None  # noqa: S101 - the statement has one row
    return compare_clock(target, clock, ClockNotes(**dict(row)))


async def note_clock(
    connection: Conn, target: str, put_off: Callable[[Conn, Gap], Awaitable[None]] | None = None
) -> None:
    """Check this machine's clock, and note it; `put_off` puts off what the target waits for by a gap.

    The gap and the note are one transaction: a gap is put off once, whoever finds it. Raise RefusedError for a
    clock that may be wrong.
    """
    look = await look_at_clock(connection, target)
    if look.gap is None or put_off is None:
        check_leap(look)
        await save_clock(connection, look)
        return
    async with connection.transaction():
        await connection.execute(SQL["lock_clock"])
        look = await look_at_clock(connection, target)
        check_leap(look)
        if look.gap is not None:
            await put_off(connection, look.gap)
        await save_clock(connection, look)


async def save_clock(connection: Conn, look: ClockLook) -> None:
    """Note this machine's clock."""
    await connection.execute(
        SQL["save_clock"], look.target, look.clock.boot_id, host_name(), look.clock.wall_ahead
    )


def next_step(target: str) -> str:
    """Name the command that continues after a permanent refusal."""
    return f"`retentiond quarantine accept {target}` shows what is known, and with --yes goes on from there"


def check_clocks(state: StoreState, look: ClockLook) -> None:
    """Refuse a clock that is behind the ledger, far from the database's, or may have leapt."""
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
            "the database server's clock is behind the ledger's last pass; set it right. "
            f"If it is right already: {next_step(look.target)}",
        )
    check_leap(look)


def check_leap(look: ClockLook) -> None:
    """Refuse where the wall clock leapt since the last note, or may have leapt in a long gap before this boot."""
    if abs(look.leap) > LARGEST_LEAP:
        raise _clock(
            "clock_leapt",
            f"{look.leap.total_seconds():.0f} s",
            f"{LARGEST_LEAP.total_seconds():.0f} s",
            "this machine's wall clock leapt since retentiond last ran; check the time; "
            f"if it is right: {next_step(look.target)}",
        )
    gap = look.gap
    if gap is not None and gap.began is not None and gap.ended - gap.began > LONGEST_GAP:
        raise _clock(
            "clock_leapt",
            f"{(gap.ended - gap.began).days} days",
            f"{LONGEST_GAP.days} days",
            f"the machine has started since retentiond last ran, on {gap.began:%Y-%m-%d}, and may have started with a "
            f"wrong time; check the time; if it is right: {next_step(look.target)}",
        )


def _clock(limit: PassLimit, value: str, allowed: str, hint: str) -> RefusedError:
    return RefusedError(Refusal(limit, value, allowed, hint))
