"""A target of kind `dendrite_media`: its store, its policies, and the pace of a pass."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field

from retentiond.config.access_log import AccessLogConfig
from retentiond.config.policies import FOREVER, MatchConfig, PolicyConfig, QuotaConfig, unnamed_quota
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
    HostName,
    ServerNames,
    Share,
)
from retentiond.model.media import parse_media_uri
from retentiond.model.policy import Rules
from retentiond.model.policy_coverage import contradiction, shadowed
from retentiond.model.protections import (
    ENCRYPTED_REMOTE,
    PROTECT_DEFAULT,
    PROTECTIONS,
    ProtectKey,
    protecting,
)
from retentiond.model.quota import Quota

_DAY: Final = timedelta(days=1)


class Databases(Section):
    """The databases of dendrite's components, where they have their own; each a connection string."""

    media_api: Dsn | None = Field(
        default=None,
        description="The same as `database`.",
        examples=["postgresql://dendrite@localhost/dendrite_media"],
    )
    sync_api: Dsn | None = Field(
        default=None,
        description="The database with rooms' state and messages; the default is the media database.",
        examples=["postgresql://dendrite@localhost/dendrite_sync"],
    )
    user_api: Dsn | None = Field(
        default=None,
        description="The database with profiles and account data; the default is the media database.",
        examples=["postgresql://dendrite@localhost/dendrite_user"],
    )
    room_server: Dsn | None = Field(
        default=None,
        description="The database with the members of rooms; the default is the media database.",
        examples=["postgresql://dendrite@localhost/dendrite_rooms"],
    )


class Limits(Section):
    """Limits that a pass does not exceed by itself; `retentiond once TARGET --yes` exceeds them, once."""

    max_share: Share = Field(
        default=0.5,
        description="The largest share of all rows that a pass may delete, from 0 to 1. The first pass over an old store usually exceeds "
        "it.",
    )
    growth_within: Duration = Field(
        default=timedelta(days=7),
        description="max_share does not count remote media that became due within this time, once a pass has finished with the same "
        "policies: otherwise anybody who makes this server fetch a lot could stop all passes. 0s counts them.",
    )
    max_items: Count = Field(
        default=1_000_000, description="The largest number of rows that a pass may delete."
    )
    max_missing_files: Share = Field(
        default=0.05, description="The largest share of files that may be missing from the disk, from 0 to 1."
    )


class Pace(Section):
    """How hard a pass works."""

    batch: Annotated[Count, Field(le=10_000)] = Field(default=1000, description="Rows in one transaction.")
    concurrency: Annotated[Count, Field(le=64)] = Field(
        default=4, description="Calls to the file system at the same time."
    )
    max_items_per_second: Count = Field(default=5000, description="The most rows deleted per second.")


class MediaTarget(TargetSection):
    """The media of one dendrite server."""

    kind: Literal["dendrite_media"] = Field(description="The kind of target.", examples=["dendrite_media"])
    dendrite_config: AbsolutePath | None = Field(
        default=None,
        description="dendrite's own configuration, with the database, the media directory and the server name. The keys database, "
        "media_path and server_name replace it or override its values.",
        examples=["/etc/dendrite/dendrite.yaml"],
    )
    database: Dsn | None = Field(
        default=None,
        description="The PostgreSQL database of the media: a URL, or key=value pairs. The default host is localhost. This and any other "
        "value may be ${VARIABLE}, file:/PATH or credential:NAME (a credential of systemd).",
        examples=["credential:database"],
    )
    media_path: AbsolutePath | None = Field(
        default=None,
        description="The media directory (dendrite's base_path).",
        examples=["/var/lib/dendrite/media"],
    )
    server_name: ServerNames | None = Field(
        default=None,
        description="The name of this server in the URIs of its own media, or a list of names.",
        examples=["example.org"],
    )
    databases: Databases = Field(
        default=Databases(),
        description="The databases of dendrite's components, where a component has its own and dendrite_config does not name it.",
    )
    schedule: Schedule | None = Field(
        default=None,
        description="When passes run. A missed pass is run later. Without a schedule passes are started by hand.",
    )
    audit: AuditSchedule | None = Field(
        default=None,
        description="How often the daemon compares the database with the disk. It reports differences and repairs nothing.",
    )
    grace: Duration = Field(
        default=timedelta(hours=24),
        description="How long deleted media stay in quarantine; until then one command restores them.",
    )
    settle: Duration = Field(
        default=timedelta(minutes=10),
        description="The shortest time in quarantine, whatever grace is set to: an upload in progress may still need the file.",
    )
    policies: tuple[PolicyConfig, ...] = Field(
        default=(),
        description="The policies. The first policy that matches decides; media without a matching policy are kept.",
    )
    since_fallback: Literal["created", "refuse"] = Field(
        default="created",
        description="For `since: accessed` on a file system without access times (noatime). created: count from creation, and report it. "
        "refuse: refuse the pass.",
    )
    access_log: AccessLogConfig | None = Field(
        default=None,
        description="The access log of a reverse proxy: a request in it counts as an access. Let logrotate compress a rotated file one day "
        "later (delaycompress).",
    )
    quota: tuple[QuotaConfig, ...] = Field(
        default=(),
        description="Limits on disk space. After the policies and between passes, the oldest media are deleted until the rest fits.",
    )
    protect: tuple[ProtectKey, ...] = Field(
        default=PROTECT_DEFAULT,
        description="Media that are never deleted: "
        + ", ".join(one.media for one in PROTECTIONS if one.key == "protect")
        + ".",
    )
    messages_in: tuple[Literal["joined_rooms"], ...] = Field(
        default=(),
        description="Rooms whose messages protect the media they refer to. [joined_rooms] are the rooms with members of this server. "
        "References in encrypted rooms are invisible, so media that such a room may show are kept, too (see encrypted_remote). "
        "The default is no room.",
        examples=[["joined_rooms"]],
    )
    encrypted_remote: Literal["keep", "fetch_again"] = Field(
        default="keep",
        description="For media of other servers, once any user of this server is or was in an encrypted room: each of them may be in use "
        "there, and no database shows it. keep: `unreferenced`, `room` and `messages_in` keep them. fetch_again: these three "
        "ignore encrypted rooms; dendrite fetches deleted media again on request, if the other server still has them.",
    )
    limits: Limits = Field(
        default=Limits(),
        description="A pass that would exceed one of these limits does nothing, and says what to check.",
    )
    pace: Pace = Field(default=Pace(), description="The load that a pass may put on the server.")
    create_index: bool = Field(
        default=True,
        description="Create the index that dendrite's table lacks. Without it each look-up reads the whole table.",
    )
    hosts: Annotated[tuple[HostName, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="The hosts that may work on this target, for a configuration that several hosts share. By default every host may, one "
        "at a time.",
        examples=[["media1"]],
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the keys that are missing without dendrite_config, and the duplicate names."""
        if given.get("dendrite_config") is None:
            if given.get("database") is None and _part(given.get("databases"), "media_api") is None:
                yield Conflict(
                    (), "needs `dendrite_config`, or `database` and `media_path`; `database` is missing"
                )
            if given.get("media_path") is None:
                yield Conflict(
                    (), "needs `dendrite_config`, or `database` and `media_path`; `media_path` is missing"
                )
        if given.get("database") is not None and _part(given.get("databases"), "media_api") is not None:
            yield Conflict(("databases", "media_api"), "means the same as `database`; keep one of them")
        names = [_part(policy, "name") for policy in _items(given.get("policies"))]
        for where in _repeated(names):
            yield Conflict(
                ("policies", where, "name"), "is the name of an earlier policy, too; give it one of its own"
            )
        for place, quota in enumerate(_items(given.get("quota"))):
            name = _part(quota, "name") or unnamed_quota(place)
            if name in names:
                yield Conflict(
                    ("quota", place, "name"),
                    f"{name} is the name of another quota or policy, too; give it its own",
                )
            names.append(name)
        for key in ("protect", "messages_in"):
            for where in _repeated(_items(given.get(key))):
                yield Conflict((key, where), "is there twice; leave one out")

    @property
    def protections(self) -> tuple[str, ...]:
        """The sources whose media are kept, in the order of reports."""
        return tuple(protecting(self.protect, messages_in=bool(self.messages_in), accepts=self.accepts))

    @property
    def accepts(self) -> frozenset[str]:
        """The pseudo-sources of encryption that no policy or quota of this target is stopped by."""
        return frozenset({ENCRYPTED_REMOTE} if self.encrypted_remote == "fetch_again" else ())

    @property
    def keeps(self) -> dict[str, timedelta | None]:
        """How long each policy keeps media; None is forever."""
        return {policy.name: policy.keep for policy in self.policies}

    @property
    def matches(self) -> dict[str, MatchConfig]:
        """The match of each policy by its name."""
        return {policy.name: policy.match for policy in self.policies}

    @property
    def only_on(self) -> tuple[str, ...]:
        """The hosts that work on the target; empty: every host."""
        return self.hosts or ()

    @property
    def audit_schedule(self) -> AuditSchedule | None:
        """When the daemon audits the target; None: never."""
        return self.audit

    @property
    def quota_interval(self) -> timedelta | None:
        """How often the daemon checks quotas; None without quotas."""
        return min((quota.every for quota in self.quota), default=None)

    @property
    def restorable_for(self) -> timedelta:
        """How long deleted media can be restored."""
        return self.grace

    def names_item(self, text: str) -> bool:
        """Return whether a text is the URI of a media item."""
        return parse_media_uri(text) is not None

    def has_subject(self, kind: str, name: str) -> bool:
        """Return whether a hold of this kind is on media."""
        del name
        return kind != "account"

    @property
    def counted_rules(self) -> dict[str, list[str]]:
        """The policies and quotas."""
        return {
            "policies": [policy.name for policy in self.policies],
            "quota": [quota.name for quota in self.quotas()],
        }

    @property
    def rule_names(self) -> list[str]:
        """The names under which a scheduled pass reports its deletions."""
        return [*self.keeps, *(quota.name for quota in self.quotas())]

    def with_keeps(self, keeps: Mapping[str, timedelta | None]) -> Self:
        """Return the same target with other times for these policies."""
        policies = tuple(
            policy.model_copy(update={"keep": keeps[policy.name]}) if policy.name in keeps else policy
            for policy in self.policies
        )
        return self.model_copy(update={"policies": policies})

    def quotas(self) -> tuple[Quota, ...]:
        """Return the quotas as the decisions take them."""
        return tuple(quota.to_quota(place, self.accepts) for place, quota in enumerate(self.quota))

    def rules(self, server_names: Iterable[str]) -> Rules:
        """Return the policies with the names of this server, in lower case."""
        names = frozenset(name.lower() for name in server_names)
        return Rules(tuple(policy.to_policy(self.accepts) for policy in self.policies), names)

    def warnings(self, server_names: frozenset[str]) -> Iterator[tuple[KeyPath, str, str]]:
        """Yield the warnings about a short settle, and about rules that contradict themselves or never decide."""
        default = type(self).model_fields["settle"].default
        if self.settle < default:
            yield (
                ("settle",),
                f"is below {format_duration(default)}: a file can be purged while the same content is being uploaded",
                "leave it out",
            )
        policies = self.rules(server_names).policies
        for place, policy in enumerate(policies):
            path: KeyPath = ("policies", place)
            if (found := contradiction(policy.match, server_names)) is not None:
                yield (*path, "match", found.condition), found.message, found.hint
            if policy.match.unreferenced and policy.keep is not None and policy.keep < _DAY:
                yield (
                    (*path, "keep"),
                    "is below one day with `unreferenced`: a file is uploaded before the message that refers to it arrives",
                    "write 1d or more",
                )
        for later, earlier in shadowed(policies, server_names):
            keep = policies[earlier].keep
            says = FOREVER if keep is None else format_duration(keep)
            yield (
                ("policies", later, "match"),
                f"never decides: policy {policies[earlier].name}, keep {says}, comes before it and matches all of this",
                "if it is meant to decide, move it before that one; otherwise remove it",
            )
        for place, quota in enumerate(self.quotas()):
            if (found := contradiction(quota.match, server_names)) is not None:
                yield ("quota", place, "match", found.condition), found.message, found.hint


def _part(section: object, key: str) -> object:
    # What comes from a file is a mapping; code may give a section.
    return section.get(key) if isinstance(section, Mapping) else getattr(section, key, None)


def _items(values: object) -> Sequence[object]:
    return values if isinstance(values, list | tuple) else ()


def _repeated(values: Sequence[object]) -> Iterator[int]:
    """Yield the places of values that are there before, too."""
    for place, value in enumerate(values):
        if value is not None and value in values[:place]:
            yield place
