"""A target of kind `dendrite_rooms`: rooms without local members, dendrite's admin API, and what a purge must wait for."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, time, timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr

from retentiond.config.policies import FOREVER, Keep
from retentiond.config.problems import KeyPath
from retentiond.config.schedule import AuditSchedule, Schedule
from retentiond.config.section import Conflict, Section
from retentiond.config.target import TargetSection
from retentiond.config.units import format_duration
from retentiond.config.values import (
    AbsolutePath,
    Count,
    Dsn,
    Duration,
    HttpUrl,
    LongerThanZero,
    Pattern,
    ServerNames,
    Share,
    Size,
)
from retentiond.model.fields import all_handled
from retentiond.model.rooms import CONDITIONS, RoomMatch, RoomPolicy, RoomRules, contains

SHORTEST_COOL_OFF: Final = timedelta(hours=24)
"""A purge cannot be undone: no configuration goes below it."""
_WINDOW: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])", re.ASCII)


def _cool_off(duration: timedelta) -> timedelta:
    if duration < SHORTEST_COOL_OFF:
        raise ValueError("must be 24h or longer, since a purge cannot be undone; 7d is the default")
    return duration


def _window(text: str) -> str:
    match = _WINDOW.fullmatch(text)
    if match is None or match[1] + match[2] == match[3] + match[4]:
        raise ValueError('not hours of a day; write two different times, such as "01:00-05:00"')
    return text


def _room_pattern(text: str) -> str:
    if text[0] not in "!*?":
        raise ValueError('fits no room ID; write a glob of IDs, such as "!*:example.org" (an alias is no ID)')
    return text


Window = Annotated[str, AfterValidator(_window)]
"""Two times of the day; the second may be on the next day."""
RoomPattern = Annotated[Pattern, AfterValidator(_room_pattern)]
"""A glob of room IDs."""
CoolOff = Annotated[Duration, AfterValidator(_cool_off)]
"""A time of at least a day."""


class RoomDatabases(Section):
    """The databases of dendrite's other components, where they have their own; each a connection string."""

    sync_api: Dsn | None = Field(
        default=None,
        description="The database with rooms' state and messages; the default is the room server's.",
        examples=["postgresql://dendrite@localhost/dendrite_sync"],
    )
    user_api: Dsn | None = Field(
        default=None,
        description="The database with profiles and account data; the default is the room server's.",
        examples=["postgresql://dendrite@localhost/dendrite_user"],
    )
    federation_api: Dsn | None = Field(
        default=None,
        description="The database with the servers of rooms; the default is the room server's.",
        examples=["postgresql://dendrite@localhost/dendrite_federation"],
    )
    media_api: Dsn | None = Field(
        default=None,
        description="The database with the media; the default is the room server's.",
        examples=["postgresql://dendrite@localhost/dendrite_media"],
    )


class AdminApi(Section):
    """dendrite's admin API, at dendrite itself and not through a proxy."""

    url: HttpUrl | None = Field(
        default=None,
        description="The URL of dendrite itself: a proxy rarely passes the admin API.",
        examples=["http://localhost:8008"],
    )
    unix_socket: AbsolutePath | None = Field(
        default=None,
        description="dendrite's Unix socket, in place of the URL.",
        examples=["/run/dendrite/dendrite.sock"],
    )
    token: SecretStr = Field(
        min_length=1,
        description="An access token of an administrator. It may do everything that an administrator may: keep it in a file.",
        examples=["credential:dendrite_admin"],
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="The certificate of the authority that signed the server's certificate.",
        examples=["/etc/ssl/dendrite-ca.pem"],
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield that there is no address, or that there are two."""
        url, socket = given.get("url") is not None, given.get("unix_socket") is not None
        if url and socket:
            yield Conflict(("unix_socket",), "cannot stand beside `url`; keep one of them")
        elif not url and not socket:
            yield Conflict((), "needs `url` or `unix_socket`; write url: http://localhost:8008")
        if socket and given.get("ca_file") is not None:
            yield Conflict(("ca_file",), "has no effect with `unix_socket`; leave it out")


class RoomMatchConfig(Section):
    """The conditions of a policy: all that are set must hold. A room with a local member never matches."""

    left_by_all: Literal[True] | None = Field(
        default=None,
        description="true: rooms that all users of this server have left, were removed from, or never joined.",
        examples=[True],
    )
    upgraded: Literal[True] | None = Field(
        default=None,
        description="true: rooms that were upgraded, if this server knows the successor and a user of this server is in it.",
        examples=[True],
    )
    room: RoomPattern | None = Field(
        default=None, description="A glob of room IDs.", examples=["!*:old.example.org"]
    )
    creator: Pattern | None = Field(
        default=None,
        description="A glob of server names: rooms that a user of such a server created.",
        examples=["*.example.org"],
    )
    encrypted: bool | None = Field(
        default=None, description="true: encrypted rooms; false: all others.", examples=[False]
    )
    larger_than: Size | None = Field(
        default=None,
        description="A size with its unit: rooms whose events take more than that in the database.",
        examples=["10MiB"],
    )
    more_events_than: Count | None = Field(
        default=None, description="Rooms with more events than that.", examples=[10_000]
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield that there is no condition: it would match everything."""
        if all(value is None for value in given.values()):
            yield Conflict(
                (), "is empty and would match everything; name what it means, such as left_by_all: true"
            )

    def to_match(self) -> RoomMatch:
        """Return the conditions as the decisions take them; a key that they do not know raises TypeError."""
        return RoomMatch(**dict(self))


all_handled(RoomMatchConfig, CONDITIONS, "config/rooms.py and model/rooms.py: CONDITIONS")


class RoomPolicyConfig(Section):
    """A rule: matching rooms without local members are purged when they have been so for longer than `keep`."""

    name: str = Field(
        min_length=1,
        max_length=64,
        description="The name in plans and reports; each policy has its own.",
        examples=["left"],
    )
    match: RoomMatchConfig = Field(description="The conditions; all of them must hold.")
    keep: Keep = Field(
        description="How long rooms are kept: a time with its unit (90d, 24h), or forever.", examples=["90d"]
    )
    since: Literal["left", "upgraded", "last_event"] = Field(
        default="left",
        description="The start of that time: left, when the last local member left; upgraded, when the room was upgraded; or last_event. "
        "Never a time that another server claims: the time starts no earlier than retentiond first saw the room as it is.",
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield that the time starts with an upgrade although the rooms need not be upgraded."""
        match = given.get("match")
        if given.get("since") == "upgraded" and isinstance(match, Mapping) and match.get("upgraded") is None:
            yield Conflict(
                ("since",), "needs `upgraded: true` in the match: other rooms have no upgrade; add it"
            )

    def to_policy(self) -> RoomPolicy:
        """Return the rule as the decisions take it; a key that they do not know raises TypeError."""
        given = dict(self)
        return RoomPolicy(match=given.pop("match").to_match(), **given)


class RoomLimits(Section):
    """Limits that a pass does not exceed by itself; `retentiond once TARGET --yes` exceeds them, once."""

    max_share: Share = Field(
        default=0.5, description="The largest share of all rooms that a pass may purge, from 0 to 1."
    )
    max_items: Count = Field(default=1000, description="The largest number of rooms that a pass may purge.")
    max_events_share: Share = Field(
        default=0.5, description="The largest share of all events that a pass may purge with their rooms."
    )
    max_database_share: Share = Field(
        default=0.5,
        description="The largest share of the tables of events, in bytes, that a pass may purge.",
    )
    max_duration: LongerThanZero = Field(
        default=timedelta(minutes=4),
        description="The longest expected duration of one purge, which grows with the events of the room and with those of the server. A "
        "room beyond it is kept, whatever `--yes` says: dendrite gives no answer after 5 minutes.",
    )


class RoomPace(Section):
    """How hard a pass works. Rooms are purged one at a time, always."""

    pause: Duration = Field(default=timedelta(seconds=10), description="The pause between two purges.")
    window: Window | None = Field(
        default=None,
        description="The hours of the day in which rooms are purged, in the time zone of the schedule.",
        examples=["01:00-05:00"],
    )
    cache: LongerThanZero = Field(
        default=timedelta(hours=1),
        description="How long dendrite's cache keeps a room: `global.cache.max_age` of dendrite. A room with a newer event waits, "
        "since a user could not join it again for that long.",
    )


class RoomTarget(TargetSection):
    """The rooms of one dendrite server that no user of it is in."""

    kind: Literal["dendrite_rooms"] = Field(description="The kind of target.", examples=["dendrite_rooms"])
    dendrite_config: AbsolutePath | None = Field(
        default=None,
        description="dendrite's own configuration, with the databases and the server name. The keys database, databases and server_name "
        "override its values.",
        examples=["/etc/dendrite/dendrite.yaml"],
    )
    database: Dsn | None = Field(
        default=None,
        description="The PostgreSQL database of dendrite's room server: a URL, or key=value pairs.",
        examples=["credential:database"],
    )
    server_name: ServerNames | None = Field(
        default=None,
        description="The name of this server in the IDs of its users, or a list of names.",
        examples=["example.org"],
    )
    databases: RoomDatabases = Field(
        default=RoomDatabases(),
        description="The databases of dendrite's components, where a component has its own and dendrite_config does not name it.",
    )
    admin_api: AdminApi = Field(description="dendrite's admin API, which purges the rooms.")
    schedule: Schedule | None = Field(
        default=None,
        description="When passes run. A missed pass is run later. Without a schedule passes are started by hand.",
    )
    audit: AuditSchedule | None = Field(
        default=None,
        description="How often the daemon compares dendrite's databases with each other. It reports differences and repairs nothing.",
    )
    policies: tuple[RoomPolicyConfig, ...] = Field(
        default=(),
        description="The policies. The first policy that matches decides; rooms without a matching policy are kept.",
    )
    cool_off: CoolOff = Field(
        default=timedelta(days=7),
        description="The shortest time, whatever `keep` is set to, that a room stays after retentiond first saw it without local members: "
        "leaving may be a mistake, and a purge cannot be undone. 24h or longer.",
    )
    keep_state: bool = Field(
        default=False,
        description="true: write each room's state and the IDs of its events, without messages, to the ledger before its purge.",
    )
    media: Literal["wait", "leave"] = Field(
        default="wait",
        description="wait: a room stays while the media that only it refers to stay, if a media target works on the same dendrite; after "
        "the purge no table shows where they were. leave: the room is purged, and such media become unreferenced.",
    )
    protect: tuple[Literal["local_alias", "space_child"], ...] = Field(
        default=("local_alias", "space_child"),
        description="Rooms that are never purged: local_alias, rooms with an alias of this server; space_child, rooms that the space of "
        "another room names. Rooms with a member, a pending invite or a knock of a local user, and rooms on hold, are always kept.",
    )
    limits: RoomLimits = Field(
        default=RoomLimits(),
        description="A pass that would exceed one of these limits does nothing, and says what to check.",
    )
    pace: RoomPace = Field(default=RoomPace(), description="The load that a pass may put on the server.")

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the keys that are missing without dendrite_config, and the duplicate names."""
        if given.get("dendrite_config") is None:
            for key in ("database", "server_name"):
                if given.get(key) is None:
                    yield Conflict(
                        (), f"needs `dendrite_config`, or `database` and `server_name`; `{key}` is missing"
                    )
        names: set[object] = set()
        policies = given.get("policies")
        for place, policy in enumerate(policies if isinstance(policies, list | tuple) else ()):
            if not isinstance(policy, Mapping):
                continue
            if policy.get("name") in names:
                yield Conflict(
                    ("policies", place, "name"),
                    "is the name of an earlier policy, too; give it one of its own",
                )
            names.add(policy.get("name"))
        protect = given.get("protect")
        for place, name in enumerate(protect if isinstance(protect, list | tuple) else ()):
            if name in protect[:place]:  # type: ignore[index]
                yield Conflict(("protect", place), "is there twice; leave one out")

    @property
    def keeps(self) -> dict[str, timedelta | None]:
        """How long each policy keeps rooms; None is forever."""
        return {policy.name: policy.keep for policy in self.policies}

    @property
    def matches(self) -> dict[str, RoomMatchConfig]:
        """The match of each policy by its name."""
        return {policy.name: policy.match for policy in self.policies}

    @property
    def audit_schedule(self) -> AuditSchedule | None:
        """When the daemon audits the target; None: never."""
        return self.audit

    @property
    def counted_rules(self) -> dict[str, list[str]]:
        """The policies."""
        return {"policies": self.rule_names}

    @property
    def rule_names(self) -> list[str]:
        """The names under which a pass reports its purges."""
        return list(self.keeps)

    def names_item(self, text: str) -> bool:
        """Return whether a text is the ID or the alias of a room."""
        return text[:1] in {"!", "#"} and len(text) > 1

    def has_subject(self, kind: str, name: str) -> bool:
        """Return whether a hold of this kind is on rooms."""
        del name
        return kind == "room"

    def with_keeps(self, keeps: Mapping[str, timedelta | None]) -> Self:
        """Return the same target with other times for these policies."""
        policies = tuple(
            policy.model_copy(update={"keep": keeps[policy.name]}) if policy.name in keeps else policy
            for policy in self.policies
        )
        return self.model_copy(update={"policies": policies})

    def rules(self) -> RoomRules:
        """Return the policies and protections as the decisions take them."""
        policies = tuple(policy.to_policy() for policy in self.policies)
        return RoomRules(policies, self.cool_off, frozenset(self.protect))

    def is_open(self, now: datetime) -> bool:
        """Return whether a room may be purged at this time of the day; without a window always."""
        if self.pace.window is None:
            return True
        first, last = (time.fromisoformat(text) for text in self.pace.window.split("-"))
        zone = self.schedule.zone if self.schedule is not None else None
        at = now.astimezone(zone).time()
        return first <= at < last if first < last else at >= first or at < last

    def warnings(self, server_names: frozenset[str]) -> Iterator[tuple[KeyPath, str, str]]:
        """Yield the policies whose time is below the cool-off, and those that never decide after an earlier one."""
        del server_names
        policies = [policy.to_policy() for policy in self.policies]
        for later, policy in enumerate(policies):
            if policy.keep is not None and policy.keep < self.cool_off:
                yield (
                    ("policies", later, "keep"),
                    f"is below `cool_off`, and rooms stay for {format_duration(self.cool_off)} all the same",
                    f"write {format_duration(self.cool_off)} or more",
                )
            earlier = next((one for one in policies[:later] if contains(one.match, policy.match)), None)
            if earlier is not None:
                says = FOREVER if earlier.keep is None else format_duration(earlier.keep)
                yield (
                    ("policies", later, "match"),
                    f"never decides: policy {earlier.name}, keep {says}, comes before it and matches all of this",
                    "if it is meant to decide, move it before that one; otherwise remove it",
                )
