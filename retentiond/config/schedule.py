"""When a target's passes run: by crontab or by interval."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from pydantic import AfterValidator, Field

from retentiond.config.section import Conflict, Section
from retentiond.config.values import Duration, LongerThanZero, Timezone

_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_WEEKDAYS: Final = re.compile(
    r"(?P<day>\w+)|(?:\*|(?P<first>\w+)-(?P<last>\w+))(?:/(?P<step>[1-7]))?", re.ASCII
)
_FIELDS: Final = 5
# Any day does: what fires at no time after it fires never.
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


def cron_trigger(expression: str, timezone: tzinfo | None) -> CronTrigger:
    """Make APScheduler's trigger of a crontab expression, with crontab's own weekdays (0 and 7 are Sunday).

    APScheduler's `from_crontab` counts from Monday, and would run a day late. No timezone means local time.
    Raise ValueError, fit to be shown, for what is no such expression.
    """
    fields = expression.split()
    if len(fields) != _FIELDS:
        raise ValueError('must have five fields: minute, hour, day, month and weekday, such as "30 3 * * *"')
    minute, hour, day, month, weekdays = fields
    if day != "*" and weekdays != "*":
        # crontab runs when either fits, APScheduler when both do.
        raise ValueError(
            "the day and the weekday cannot both be given, since crontabs differ on it; write * for one"
        )
    try:
        return CronTrigger(
            minute=minute,
            hour=hour,
            day=day,
            month=month,
            day_of_week=_weekday_names(weekdays),
            timezone=timezone,
        )
    except (ValueError, TypeError, LookupError):
        raise ValueError(
            'not a crontab expression; write one such as "30 3 * * *" (half past three)'
        ) from None


def _weekday_names(field: str) -> str:
    if field == "*":
        return field
    days: set[int] = set()
    for part in field.lower().split(","):
        match = _WEEKDAYS.fullmatch(part)
        if match is None:
            raise ValueError(part)
        first = _weekday(match["day"] or match["first"] or "sun")
        last = _weekday(match["day"] or match["last"] or "sat")
        if last < first:
            last += 7
        days.update(day % 7 for day in range(first, last + 1, int(match["step"] or 1)))
    return ",".join(_DAYS[day] for day in sorted(days))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text in set("01234567"):
        return int(text)
    raise ValueError(text)


def _crontab(expression: str) -> str:
    if cron_trigger(expression, UTC).get_next_fire_time(None, _SOME_DAY) is None:
        raise ValueError("never comes: there is no such day")
    return expression


class Schedule(Section):
    """When passes run; what was missed while the daemon was down is caught up with."""

    cron: Annotated[str, AfterValidator(_crontab)] | None = Field(
        default=None,
        description="A crontab line: minute, hour, day, month, weekday.",
        examples=["30 3 * * *"],
    )
    every: LongerThanZero | None = Field(
        default=None, description="In place of cron: the time between two passes.", examples=["6h"]
    )
    jitter: Duration = Field(
        default=timedelta(0),
        description="Each pass begins up to this much later, by chance, so that many hosts do not begin at once.",
        examples=["5m"],
    )
    timezone: Timezone | None = Field(
        default=None,
        description="The time zone of cron; without it, the machine's own.",
        examples=["Europe/Berlin"],
    )

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone of `cron`; None means local time."""
        return None if self.timezone is None else ZoneInfo(self.timezone)

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield what is wrong between cron, every and timezone."""
        cron, every, timezone = (given.get(key) is not None for key in ("cron", "every", "timezone"))
        if cron and every:
            yield Conflict(("every",), "cannot stand beside `cron`; keep one of them")
        elif not cron and not every:
            yield Conflict((), 'needs `cron` or `every`; write cron: "30 3 * * *" or every: 6h')
        elif every and timezone:
            yield Conflict(("timezone",), "means nothing without `cron`; leave it out")


class AuditSchedule(Section):
    """How often the daemon holds the database against the disk; what was missed is caught up with."""

    every: LongerThanZero = Field(
        default=timedelta(days=7),
        description="The time from one audit to the next; the first comes when the daemon starts.",
    )
