"""When a target's passes run: by crontab or by interval."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field

from retentiond.config.section import Conflict, Section
from retentiond.config.values import Duration, LongerThanZero, Timezone

_FIELDS: Final = 5
# Any day serves: a line that never runs after it never runs.
_SOME_DAY: Final = datetime(2026, 1, 1, tzinfo=UTC)


def _crontab(expression: str) -> str:
    """Return the crontab line as it is. Raise ValueError, fit to be shown, for a line that is wrong or never runs."""
    fields = expression.split()
    if len(fields) != _FIELDS:
        raise ValueError('must have five fields: minute, hour, day, month and weekday, such as "30 3 * * *"')
    if "*" not in (fields[2], fields[4]):
        # crontab runs when either matches, other schedulers when both do.
        raise ValueError(
            "the day and the weekday cannot both be given, since crontabs differ on it; write * for one"
        )
    try:
        next(CronSim(expression, _SOME_DAY))
    except CronSimError as error:
        raise ValueError(
            f'not a crontab line ({str(error).lower()}); write one such as "30 3 * * *" (half past three)'
        ) from None
    except StopIteration:
        raise ValueError("never runs: the month does not have that day") from None
    return expression


class Schedule(Section):
    """The times of passes; passes missed while the daemon was down are caught up with."""

    cron: Annotated[str, AfterValidator(_crontab)] | None = Field(
        default=None,
        description="A crontab line: minute, hour, day, month, weekday.",
        examples=["30 3 * * *"],
    )
    every: LongerThanZero | None = Field(
        default=None, description="The time between two passes, instead of cron.", examples=["6h"]
    )
    jitter: Duration = Field(
        default=timedelta(0),
        description="A random delay up to this time before each pass, so that many hosts do not start at once.",
        examples=["5m"],
    )
    timezone: Timezone | None = Field(
        default=None,
        description="The time zone of cron; the default is that of the machine.",
        examples=["Europe/Berlin"],
    )

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone of `cron`; None means local time."""
        return None if self.timezone is None else ZoneInfo(self.timezone)

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the problems between cron, every and timezone."""
        cron, every, timezone = (given.get(key) is not None for key in ("cron", "every", "timezone"))
        if cron and every:
            yield Conflict(("every",), "cannot stand beside `cron`; keep one of them")
        elif not cron and not every:
            yield Conflict((), 'needs `cron` or `every`; write cron: "30 3 * * *" or every: 6h')
        elif every and timezone:
            yield Conflict(("timezone",), "has no effect without `cron`; leave it out")


class AuditSchedule(Section):
    """The times of the daemon's audits of database and disk; missed ones are caught up with."""

    every: LongerThanZero = Field(
        default=timedelta(days=7),
        description="The time between two audits; the first audit runs when the daemon starts.",
    )
