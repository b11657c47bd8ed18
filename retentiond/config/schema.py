"""The whole configuration: the meaning of each key, its values, and its default.

The descriptions become the comments of the example, and `examples` its values where there is no default.
"""

from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import Field, StringConstraints

from retentiond.config.chats import ChatTarget
from retentiond.config.http import DEFAULT_ADDRESS, Http, shared_address
from retentiond.config.media import MediaTarget
from retentiond.config.notify import Notify
from retentiond.config.rooms import RoomTarget
from retentiond.config.section import Conflict, Section
from retentiond.config.values import Listen, LongerThanZero, one_or_more, to_address

TargetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""The name of a target in commands and log lines."""


TargetConfig: TypeAlias = MediaTarget | ChatTarget | RoomTarget
"""A target of any kind."""


def left_alone_on(target: TargetConfig, host: str) -> bool:
    """Return whether the target is for other hosts; a short host name matches a long one."""
    names = {host.lower(), host.partition(".")[0].lower()}
    return bool(target.only_on) and not any(name.lower() in names for name in target.only_on)


KINDS: Final[Mapping[str, type[TargetConfig]]] = {
    kind: section
    for section in get_args(TargetConfig)
    for kind in get_args(section.model_fields["kind"].annotation)
}
"""The sections of targets, by their kind."""


def check_kinds(kinds: Collection[str], where: str) -> None:
    """Raise TypeError unless a table has each kind of target, and no other; `where` names the table."""
    if set(kinds) != set(KINDS):
        raise TypeError(f"{where} must have each kind of target, and no other: {', '.join(KINDS)}")


class Records(Section):
    """The proof of disposal: a record of each deletion, its time and its rules, without the content."""

    keep: LongerThanZero = Field(
        default=timedelta(days=3 * 365),
        description="How long records and daily samples are kept; y is 365 days.",
    )


class Metrics(Section):
    """Figures for Prometheus."""

    listen: Listen = Field(
        description="The address and port of the HTTP endpoint: /metrics, /healthz and /readyz only. It has no access "
        "control.",
        examples=["127.0.0.1:19188"],
    )


class Logging(Section):
    """Settings of the log."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="The lowest level that `run`, and commands with --json, write: debug, info, warning or error.",
    )
    format: Literal["json", "logfmt", "console"] = Field(
        default="json",
        description="The format of the log of `run`, and of commands with --json: json, logfmt or console. Commands without --json write "
        "plain lines.",
    )


class Config(Section):
    """All of a configuration file."""

    targets: dict[TargetName, Annotated[TargetConfig, Field(discriminator="kind")]] = Field(
        min_length=1, description="The stores to clean up; choose a name for each."
    )
    records: Records = Field(
        default=Records(),
        description="The proof of disposal: a record of each deletion. `retentiond records export` prints them.",
    )
    metrics: Metrics | None = Field(
        default=None, description="Metrics for Prometheus. By default none are served."
    )
    http: Http | None = Field(
        default=None,
        description="Pages and documents of the daemon by HTTP: a landing page, the report, the status, the usage, and the "
        "metrics. By default none are served.",
    )
    logging: Logging = Field(default=Logging(), description="The log.")
    notify: Notify | None = Field(
        default=None,
        description="Notices about passes: pings for a dead man's switch, webhooks, and all services that Apprise knows. "
        "By default none are sent.",
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the problem of two servers at one address."""
        metrics, http = given.get("metrics"), given.get("http")
        if not isinstance(metrics, Mapping) or not isinstance(http, Mapping):
            return
        of_metrics = to_address(metrics.get("listen"))
        for place, value in enumerate(one_or_more(http.get("listen", DEFAULT_ADDRESS))):
            address = to_address(value)
            if of_metrics and address and shared_address(of_metrics, address):
                where = ("http", "listen", place) if "listen" in http else ("http",)
                yield Conflict(
                    where,
                    "listens at the address of `metrics.listen`; leave `metrics` out, since `http` serves /metrics, too",
                )
