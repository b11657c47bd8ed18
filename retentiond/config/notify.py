"""The section `notify`: the channels to which the daemon and `once` report failures, refusals and recoveries."""

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from retentiond.config.section import Conflict, Section
from retentiond.config.values import LongerThanZero, Timezone, is_http_url, one_or_more
from retentiond.model.notices import EVENTS, PLACEHOLDERS, Event, QuietHours, Wording, unknown_placeholders

if TYPE_CHECKING:
    from apprise import Apprise

_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)
_LONGEST: Final = 2000
_MOST: Final = 20


def _secret_url(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    # The message shows no part of it: whoever knows the URL can use it.
    if not is_http_url(text) or len(text) > _LONGEST:
        raise ValueError("not a URL; write one such as https://hc-ping.com/UUID, or credential:NAME")
    return secret


def apprise_class() -> "type[Apprise]":
    """Load Apprise, and keep its log quiet: its messages quote URLs, which are secrets; raise ImportError."""
    from apprise import Apprise  # noqa: PLC0415 - large, and only for those who use it

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    return Apprise


def _apprise_url(secret: SecretStr) -> SecretStr:
    try:
        apprise = apprise_class()
    except ImportError:
        raise ValueError("needs the package Apprise; install it: pip install 'retentiond[notify]'") from None
    if not apprise.instantiate(secret.get_secret_value()):
        raise ValueError("not a URL that Apprise knows; see the list of services in its documentation")
    return secret


def _clock(value: object) -> object:
    if isinstance(value, time):
        return value
    # Without quotes YAML 1.1 reads 22:00 as a number of minutes.
    match = _CLOCK.fullmatch(str(value))
    if match is None:
        raise ValueError('not a time of the day; write it with quotes, such as "22:00"')
    return time(int(match[1]), int(match[2]))


def _template(text: str) -> str:
    unknown = unknown_placeholders(text)
    if unknown:
        raise ValueError(f"has no `${unknown[0]}`; use {', '.join(f'${name}' for name in PLACEHOLDERS)}")
    if not 0 < len(text) <= _LONGEST:
        raise ValueError(f"must have from 1 to {_LONGEST} characters")
    return text


def _header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError("not the name of an HTTP header; write one such as Authorization")
    return name


def _header_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text.isprintable() or not text.isascii() or len(text) > _LONGEST:
        raise ValueError("not the value of an HTTP header; write one line of ASCII text")
    return secret


SecretUrl = Annotated[SecretStr, AfterValidator(_secret_url)]
"""An HTTP URL that is a secret by itself; never shown."""
ClockTime = Annotated[
    time, BeforeValidator(_clock, json_schema_input_type=Annotated[str, Field(pattern=f"^{_CLOCK.pattern}$")])
]
"""A time of the day, with hours and minutes."""
NoticeTemplate = Annotated[str, AfterValidator(_template)]
"""A text with `$name` for each placeholder."""


class Ping(Section):
    """A URL that is requested at the start, the success and the failure of each pass."""

    url: SecretUrl = Field(
        description="The URL of the check; may be credential:NAME.", examples=["credential:ping"]
    )
    style: Literal["healthchecks", "uptime_kuma"] = Field(
        default="healthchecks",
        description="healthchecks: /start and /fail are added to the URL, and failures have their text as the body. "
        "uptime_kuma: the parameters status and msg are added, and the start of a pass is not sent.",
    )
    targets: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="The targets whose passes it is for; the default is all.",
        examples=[["media"]],
    )


class Webhook(Section):
    """A URL that receives each notice as a JSON document by POST."""

    url: SecretUrl = Field(
        description="The URL; may be credential:NAME.", examples=["https://hooks.example.org/retentiond"]
    )
    headers: dict[
        Annotated[str, AfterValidator(_header)], Annotated[SecretStr, AfterValidator(_header_value)]
    ] = Field(
        default={},
        max_length=_MOST,
        description="HTTP headers to add.",
        examples=[{"Authorization": "credential:hook"}],
    )


class QuietTimes(Section):
    """The hours in which no notices are sent; the daemon sends them afterwards, a command sends them at once."""

    begin: ClockTime = Field(description="The beginning.", examples=["22:00"])
    end: ClockTime = Field(description="The end; may be on the next day.", examples=["07:00"])
    timezone: Timezone | None = Field(
        default=None,
        description="Their time zone; the default is that of the machine.",
        examples=["Europe/Berlin"],
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the problem of hours that have no length."""
        if given.get("begin") is not None and given.get("begin") == given.get("end"):
            yield Conflict(("end",), "is the same as `begin`; leave `quiet_hours` out, or name two times")


class Notify(Section):
    """Notices about passes: pings for a dead man's switch, webhooks, and all services that Apprise knows."""

    ping: Annotated[
        tuple[Ping, ...], BeforeValidator(one_or_more, json_schema_input_type=Ping | tuple[Ping, ...])
    ] = Field(
        default=(),
        max_length=_MOST,
        description="URLs that are requested at the start, the success and the failure of each pass; one, or a list.",
    )
    webhooks: Annotated[
        tuple[Webhook, ...],
        BeforeValidator(one_or_more, json_schema_input_type=Webhook | tuple[Webhook, ...]),
    ] = Field(default=(), max_length=_MOST, description="URLs that receive notices as JSON; one, or a list.")
    apprise: tuple[Annotated[SecretStr, AfterValidator(_apprise_url)], ...] = Field(
        default=(),
        max_length=_MOST,
        description="URLs of Apprise, such as mailto:// or matrixs://; needs pip install 'retentiond[notify]'.",
        examples=[["mailto://smtp.example.org?from=retentiond@example.org&to=admin@example.org"]],
    )
    events: tuple[Event, ...] = Field(
        default=EVENTS,
        min_length=1,
        description="The events that webhooks and Apprise receive: " + ", ".join(EVENTS) + ".",
    )
    inconsistencies_above: Annotated[int, Field(ge=0)] = Field(
        default=0, description="The number of inconsistencies up to which no notice is sent."
    )
    overdue_after: LongerThanZero = Field(
        default=timedelta(days=3),
        description="The time without a finished pass after which the daemon says that a target is overdue.",
    )
    at_most_every: LongerThanZero = Field(
        default=timedelta(hours=6),
        description="The least time between two notices of the same event of a target; the first success after a failure "
        "is always sent.",
    )
    quiet_hours: QuietTimes | None = Field(
        default=None,
        description="The hours in which the daemon sends pings only; notices wait for the end of these hours.",
    )
    title: NoticeTemplate = Field(
        default=Wording().title,
        description="The title; it may contain " + ", ".join(f"${name}" for name in PLACEHOLDERS) + ".",
    )
    message: NoticeTemplate = Field(default=Wording().message, description="The text; likewise.")

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the problem of a section without a channel."""
        if not any(given.get(key) for key in ("ping", "webhooks", "apprise")):
            yield Conflict((), "needs `ping`, `webhooks` or `apprise`; add one, or leave `notify` out")

    @property
    def wording(self) -> Wording:
        """The templates."""
        return Wording(self.title, self.message)

    @property
    def quiet(self) -> QuietHours | None:
        """The quiet hours, if there are any."""
        hours = self.quiet_hours
        if hours is None:
            return None
        from zoneinfo import ZoneInfo  # noqa: PLC0415 - used by few

        return QuietHours(
            hours.begin, hours.end, None if hours.timezone is None else ZoneInfo(hours.timezone)
        )
