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
    facts: Duration = Field(default=YEAR, description="The facts of messages: who, when, with whom.")


class ChatLimits(Section):
    """Limits that a scheduled purge does not exceed by itself."""

    max_share: Share = Field(
        default=0.5, description="The most of all chats of an account that may be due, from 0 to 1."
    )
    max_items: Count = Field(default=1_000_000, description="The most chats that may be due.")


class ChatPace(Section):
    """How hard a purge works."""

    batch: Annotated[Count, Field(le=10_000)] = Field(
        default=1000,
        description="Chats in one transaction. Unless it is set, up to four times as many while a transaction is quick.",
    )
    max_rows_per_second: Count = Field(default=50_000, description="The most rows that leave in a second.")
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
        description="What a layout's account column holds for it; without it, the account's name.",
        examples=["testcom"],
    )
    keep: Keep = Field(
        default=None,
        description="How long its chats stay: a time with its unit (400d), or forever, which is the default: then "
        "nothing of it goes by schedule.",
        examples=["400d"],
    )
    delete_file_messages: bool = Field(
        default=False, description="By schedule, take messages with files, too; else their chats' rows stay."
    )
    stats: bool = Field(default=False, description="By schedule, take the statistics of those days, too.")
    purge_orphans: bool = Field(
        default=False,
        description="By schedule, delete rows whose chat is missing from the database, too, where they are older than the "
        "date by their own dates.",
    )
    clickhouse: bool = Field(default=False, description="By schedule, purge ClickHouse, too.")
    elasticsearch: bool = Field(default=False, description="By schedule, purge the search, too.")


class ChatTarget(TargetSection):
    """The chats of one database."""

    kind: Literal["chat_database"] = Field(description="What the target is.", examples=["chat_database"])
    database: Dsn = Field(
        description="The PostgreSQL database of the chats; a URL, or key=value pairs.",
        examples=["postgresql://webim@localhost/webim"],
    )
    layout: Annotated[str, AfterValidator(_layout)] = Field(
        default="webim",
        description="What its tables are called and how they hang together: webim, chatwoot, or the path of a file of yours.",
    )
    floor: Annotated[Floor, BeforeValidator(_by_class)] = Field(
        default=Floor(),
        description="What is younger is never purged, whoever asks; one time, or one for each class.",
    )
    date_rule: Literal["floor", "within"] = Field(
        default="floor",
        description="floor: a purge's date must be at least the floor ago, so that the last year stays. within: at most "
        "so long ago, which is the other way to read the rule for Webim's own tool.",
    )
    timezone: Timezone = Field(default="UTC", description="The time zone in which a day begins.")
    schedule: Schedule | None = Field(
        default=None,
        description="When accounts with a `keep` are purged; what was missed is caught up with. Without it, by hand.",
    )
    accounts: dict[Name, Account] = Field(
        min_length=1, description="The accounts, each with the name that commands use."
    )
    erasure_requests: AbsolutePath | None = Field(
        default=None,
        description="A file of requests to erase single visitors, carried out by each scheduled pass: one JSON object a "
        "line, with `request`, `account` and `visitor`.",
        examples=["/etc/retentiond/erasures.jsonl"],
    )
    limits: ChatLimits = Field(
        default=ChatLimits(),
        description="A scheduled purge that would go over one of these does nothing, and says what to look at.",
    )
    pace: ChatPace = Field(
        default=ChatPace(), description="How hard a purge works, beside the product that it cleans."
    )
    create_index: bool = Field(
        default=False,
        description="Make the indexes that a purge needs and the product lacks; else a purge of large tables is refused, "
        "with the statements that make them.",
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
