"""The comparison of this machine's clock with the ledger's notes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from retentiond.ledger.clocks import ClockLook, ClockNotes, Gap, check_leap, compare_clock
from retentiond.ledger.host import HostClock
from retentiond.model.errors import RefusedError

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOOT = NOW - timedelta(hours=1)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def clock(boot_id: str = "this", boot: datetime = BOOT) -> HostClock:
    return HostClock(boot_id, boot.timestamp())


def look(notes: ClockNotes, read: HostClock | None = None) -> ClockLook:
    return compare_clock("media", read or clock(), notes)


def note_of_this_boot(leap: timedelta) -> ClockNotes:
    return ClockNotes(NOW, (BOOT - leap).timestamp(), own=True, last_boot=NOW - 40 * DAY)


def refused(seen: ClockLook) -> bool:
    try:
        check_leap(seen)
    except RefusedError:
        return True
    return False


def test_a_clock_that_goes_on_within_a_boot_leaves_no_gap_however_long_nothing_ran() -> None:
    seen = look(note_of_this_boot(timedelta(0)))
    assert (seen.leap, seen.gap, refused(seen)) == (timedelta(0), None, False)


@pytest.mark.parametrize("leap", [timedelta(hours=2), -timedelta(hours=2)])
def test_a_clock_that_was_set_by_hours_within_a_boot_is_refused(leap: timedelta) -> None:
    assert refused(look(note_of_this_boot(leap)))


def test_a_clock_that_was_set_ahead_by_minutes_makes_no_time_pass() -> None:
    seen = look(note_of_this_boot(10 * MINUTE))
    assert (seen.gap, refused(seen)) == (Gap(NOW - 10 * MINUTE, NOW), False)


def test_what_lies_between_the_last_note_and_the_boot_is_a_gap() -> None:
    assert look(ClockNotes(NOW, last_boot=BOOT - DAY)).gap == Gap(BOOT - DAY, BOOT)


def test_a_boot_that_began_before_the_last_note_leaves_no_gap() -> None:
    """Another host, with the same ledger, has gone on meanwhile."""
    assert look(ClockNotes(NOW, last_boot=BOOT + MINUTE)).gap is None


def test_a_note_of_the_future_proves_nothing() -> None:
    assert look(ClockNotes(NOW, last_boot=NOW + DAY)).gap == Gap(None, NOW)


def test_a_ledger_without_notes_knows_of_no_time_that_has_passed() -> None:
    assert look(ClockNotes(NOW)).gap == Gap(None, NOW)


def test_a_machine_that_does_not_tell_its_boots_goes_on_while_its_clock_does() -> None:
    notes = ClockNotes(NOW, BOOT.timestamp(), own=True, last_boot=NOW - DAY)
    assert look(notes, clock("unknown")).gap is None


@pytest.mark.parametrize("later", [10 * MINUTE, -10 * MINUTE])
def test_a_machine_that_does_not_tell_its_boots_may_have_started_at_any_moment(later: timedelta) -> None:
    notes = ClockNotes(NOW, BOOT.timestamp(), own=True, last_boot=NOW - DAY)
    assert look(notes, clock("unknown", BOOT + later)).gap == Gap(NOW - DAY, NOW)


def test_a_note_of_another_target_tells_of_a_leap_in_this_boot() -> None:
    other = ClockNotes(NOW, (BOOT - DAY).timestamp(), own=False, last_boot=BOOT - DAY)
    assert refused(look(other))


@pytest.mark.parametrize(("days", "expected"), [(32, False), (33, True)])
def test_a_boot_after_more_than_a_month_is_refused_until_the_clock_is_accepted(
    days: int, expected: bool
) -> None:
    assert refused(look(ClockNotes(NOW, last_boot=BOOT - days * DAY))) is expected
