"""The chats of one live-chat database: its accounts, how long their chats are kept, and the least ages."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field

from retentiond.config.chat_stores import ClickHouseStore, ElasticsearchStore, Name
from retentiond.config.policies import FOREVER, Keep
from retentiond.config.schedule import Schedule
from retentiond.config.section import Conflict, Section
from retentiond.config.target import TargetSection
from retentiond.config.units import UnitError, format_duration, parse_duration
from retentiond.config.values import (
    AbsolutePath,
    Count,
    Dsn,
    Duration,
    DurationText,
    LongerThanZero,
    Share,
    Timezone,
    check_absolute,
)

SHIPPED_LAYOUTS: Final = ("webim", "chatwoot")
"""The layouts that come with retentiond, by name."""
YEAR: Final = timedelta(days=365)


def _layout(text: str) -> str:
    if text in SHIPPED_LAYOUTS:
        return text
    if "/" not in text:
        raise ValueError(
            f"not a layout that comes with retentiond; write {' or '.join(SHIPPED_LAYOUTS)}, or a file's path"
        )
    return str(check_absolute(Path(text)))


def _by_class(value: object) -> object:
    """Read one duration as that of all classes."""
    if isinstance(value, Mapping | Floor):
        return value
    duration = parse_duration(value)
    return {"messages": duration, "facts": duration}


class Floor(Section):
    """The least age for a purge, by class. A chat is deleted as a whole: the longest of its classes counts."""

    messages: Duration = Field(default=YEAR, description="Messages: text, voice, pictures, video.")
    facts: Duration = Field(default=YEAR, description="The facts of messages: sender, recipient and time.")


class ChatLimits(Section):
    """Limits that a scheduled purge does not exceed by itself."""

    max_share: Share = Field(
        default=0.5,
        description="The largest share of an account's chats that a pass may delete, from 0 to 1.",
    )
    max_items: Count = Field(
        default=1_000_000, description="The largest number of chats that a pass may delete."
    )


class ChatPace(Section):
    """How hard a purge works."""

    batch: Annotated[Count, Field(le=10_000)] = Field(
        default=1000,
        description="Chats in one transaction. If this is not set, a transaction takes up to four times as many while it is quick, and two "
        "transactions run at once while one alone is slower than `max_rows_per_second`.",
    )
    max_rows_per_second: Count = Field(default=50_000, description="The most rows deleted per second.")
    max_replica_lag: LongerThanZero = Field(
        default=timedelta(seconds=10),
        description="A purge waits while a replica is further behind than this.",
    )


class Account(Section):
    """One account: the location of its chats, and its scheduled purge."""

    schema_: Name | None = Field(
        default=None, alias="schema", description="The schema of its tables.", examples=["pro"]
    )
    value: Name | None = Field(
        default=None,
        description="Its value in the account column of the layout; the default is the account's name.",
        examples=["testcom"],
    )
    keep: Keep = Field(
        default=None,
        description="How long its chats are kept: a time with its unit (400d), or forever. With forever, the default, scheduled passes "
        "delete nothing of it.",
        examples=["400d"],
    )
    delete_file_messages: bool = Field(
        default=False,
        description="Scheduled passes also delete messages with files. Otherwise these messages and the rows of their chats are kept.",
    )
    stats: bool = Field(
        default=False,
        description="Scheduled passes also delete the statistics of the days before their date.",
    )
    purge_orphans: bool = Field(
        default=False,
        description="Scheduled passes also delete rows whose chat is missing from the database, if their own dates are older than the date.",
    )
    clickhouse: bool = Field(default=False, description="Scheduled passes also purge ClickHouse.")
    elasticsearch: bool = Field(default=False, description="Scheduled passes also purge the search.")


class ChatTarget(TargetSection):
    """The chats of one database."""

    kind: Literal["chat_database"] = Field(description="The kind of target.", examples=["chat_database"])
    database: Dsn = Field(
        description="The PostgreSQL database of the chats: a URL, or key=value pairs.",
        examples=["postgresql://webim@localhost/webim"],
    )
    layout: Annotated[str, AfterValidator(_layout)] = Field(
        default="webim",
        description="The names of its tables and the references between them: webim, chatwoot, or the path of a file of yours.",
    )
    floor: Annotated[Floor, BeforeValidator(_by_class, json_schema_input_type=DurationText | Floor)] = Field(
        default=Floor(),
        description="The minimum age: younger chats are never purged, neither by hand nor by schedule. One time, or one for each class.",
    )
    date_rule: Literal["floor", "within"] = Field(
        default="floor",
        description="floor: the date of a purge must be at least the floor in the past, so that the last year is kept. within: it must be "
        "at most that far in the past, the other reading of the rule of Webim's own tool.",
    )
    timezone: Timezone = Field(default="UTC", description="The time zone in which days begin.")
    schedule: Schedule | None = Field(
        default=None,
        description="When accounts with a `keep` are purged. A missed pass is run later. Without a schedule passes are started by hand.",
    )
    accounts: dict[Name, Account] = Field(
        min_length=1, description="The accounts, each under the name that commands use."
    )
    erasure_requests: AbsolutePath | None = Field(
        default=None,
        description="A file of requests to erase single visitors, which each scheduled pass carries out: one JSON object per line, with "
        "`request`, `account` and `visitor`.",
        examples=["/etc/retentiond/erasures.jsonl"],
    )
    limits: ChatLimits = Field(
        default=ChatLimits(),
        description="A scheduled purge that would exceed one of these limits does nothing, and says what to check.",
    )
    pace: ChatPace = Field(default=ChatPace(), description="The load that a purge may put on the database.")
    create_index: bool = Field(
        default=False,
        description="Create the indexes that a purge needs and the product lacks. Otherwise a purge of large tables is refused, and the "
        "refusal has the statements that create them.",
    )
    clickhouse: ClickHouseStore | None = Field(default=None, description="The statistics in ClickHouse.")
    elasticsearch: ElasticsearchStore | None = Field(
        default=None, description="The search, in Elasticsearch or OpenSearch."
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the accounts whose keep the floor forbids, and those that name a store that is not there."""
        accounts = given.get("accounts")
        for name, account in accounts.items() if isinstance(accounts, Mapping) else ():
            if isinstance(account, Mapping):
                yield from (
                    Conflict(("accounts", name, *where), message)
                    for where, message in _account_conflicts(given, account)
                )

    @property
    def keeps(self) -> dict[str, timedelta | None]:
        """How long the chats of each account are kept; None is forever."""
        return {name: account.keep for name, account in self.accounts.items()}

    def has_subject(self, kind: str, name: str) -> bool:
        """Return whether a hold is on an account of this target."""
        return kind == "account" and name in self.accounts

    @property
    def rule_names(self) -> list[str]:
        """The names under which a scheduled purge reports its deletions."""
        return list(self.keeps)

    def with_keeps(self, keeps: Mapping[str, timedelta | None]) -> Self:
        """Return the same target with other times for these accounts."""
        accounts = {
            name: account.model_copy(update={"keep": keeps[name]}) if name in keeps else account
            for name, account in self.accounts.items()
        }
        return self.model_copy(update={"accounts": accounts})

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which a day begins."""
        return ZoneInfo(self.timezone)


def _account_conflicts(given: Mapping[str, Any], account: Mapping[str, Any]) -> Iterator[Conflict]:
    for store in ("clickhouse", "elasticsearch"):
        if account.get(store) is True and given.get(store) is None:
            yield Conflict((store,), f"needs the section `{store}` of the target; add it, or leave this out")
    keep, floor = _duration(account.get("keep")), _floor(given.get("floor"))
    if keep is None or floor is None:
        return
    if given.get("date_rule") == "within":
        if keep > floor:
            yield Conflict(
                ("keep",),
                f"is above the floor, and `date_rule: within` allows no older date; write {format_duration(floor)} or less",
            )
    elif keep < floor:
        yield Conflict(("keep",), f"is below the floor; write {format_duration(floor)} or more")


def _duration(value: object) -> timedelta | None:
    try:
        return None if value is None or value == FOREVER else parse_duration(value)
    except UnitError:
        return None  # reported at its own position


def _floor(value: object) -> timedelta | None:
    """Return the longest floor as given; None if it is not known."""
    if value is None:
        return YEAR
    if isinstance(value, Floor):
        return max(value.messages, value.facts)
    if not isinstance(value, Mapping):
        return _duration(value)
    times = [YEAR if name not in value else _duration(value[name]) for name in Floor.model_fields]
    known = [time for time in times if time is not None]
    return max(known) if len(known) == len(times) else None
