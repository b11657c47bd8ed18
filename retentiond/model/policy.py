"""Policies: which media a rule speaks of, and how long it lets them stay.

`decide` is the whole of it: one row, the rules and the time go in, a verdict with its reason comes out.
The first policy that matches decides; what none matches stays; what cannot be told stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import unquote

from retentiond.model.media import MediaRow, valid_hash

KeepReason = Literal[
    "no_policy",
    "not_due",
    "undated",
    "invalid_hash",
    "unsafe_path",
    "hold",
    "restored",
    "profile_avatars",
    "room_state",
    "account_data",
    "changed",
]
"""Why an item stays; of several the first in this order is told."""

Since = Literal["created", "accessed"]
"""What a policy's time counts from: when this server stored the media, or when they were last asked for."""

Protection = Literal["profile_avatars", "room_state", "account_data"]
"""A source of references whose media are never purged."""

_FIRST_BELIEVABLE: Final = int(datetime(2017, 1, 1, tzinfo=UTC).timestamp() * 1000)
# The clocks of the database and of dendrite may differ by this much before anything is called wrong.
_CLOCK_TOLERANCE_MS: Final = 60_000


@dataclass(frozen=True, slots=True)
class Match:
    """The conditions of a policy; all that are given must hold, and at least one must be given.

    `origin` is `remote`, `local`, a server name, or a glob of server names; `user`, `content_type` and
    `upload_name` are globs (`*` and `?`); `larger_than` is in bytes; `uploaded_before` is a day in UTC.
    """

    origin: str | None = None
    user: str | None = None
    content_type: str | None = None
    larger_than: int | None = None
    uploaded_before: date | None = None
    upload_name: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule: what it matches goes when it is older than `keep`; None keeps it for ever.

    With `since` accessed, `decide` says only what may be due: nothing is accessed before it is created. The disk
    and `accessed_lately` have the last word.
    """

    name: str
    match: Match
    keep: timedelta | None
    since: Since = "created"


@dataclass(frozen=True, slots=True)
class Rules:
    """The policies of a target in their order, and the names this server goes by (none: not known)."""

    policies: tuple[Policy, ...]
    server_names: frozenset[str] = frozenset()

    @property
    def by_access(self) -> tuple[int, ...]:
        """The places of the policies whose time counts from the last access."""
        return tuple(index for index, policy in enumerate(self.policies) if policy.since == "accessed")


@dataclass(frozen=True, slots=True)
class Keep:
    """The row stays, for this reason; `policy` is the one that spoke, if any."""

    reason: KeepReason
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """The row is due, by this policy; its place in the order is `index`."""

    policy: str
    index: int


def decide(row: MediaRow, rules: Rules, now: datetime) -> Keep | Remove:
    """Judge one row at the time `now` (aware); holds, protections and the disk are asked afterwards."""
    for index, policy in enumerate(rules.policies):
        if matches(row, policy.match, rules.server_names):
            return _judge_age(row, policy, index, int(now.timestamp() * 1000))
    return Keep("no_policy")


def _judge_age(row: MediaRow, policy: Policy, index: int, now_ms: int) -> Keep | Remove:
    if policy.keep is None:
        return Keep("not_due", policy.name)
    if not _FIRST_BELIEVABLE <= row.creation_ts <= now_ms + _CLOCK_TOLERANCE_MS:
        return Keep("undated", policy.name)
    if now_ms - row.creation_ts < policy.keep // timedelta(milliseconds=1):
        return Keep("not_due", policy.name)
    if valid_hash(row.base64hash) is None:
        return Keep("invalid_hash", policy.name)
    return Remove(policy.name, index)


def accessed_lately(policy: Policy, accessed: float | None, now: datetime) -> bool:
    """Tell whether the last access (seconds since the epoch; None: not known) keeps what is due by its creation."""
    if policy.since == "created" or policy.keep is None or accessed is None:
        return False
    # An access that seems to lie in the future keeps, too.
    return now.timestamp() - accessed < policy.keep.total_seconds()


def matches(row: MediaRow, match: Match, server_names: frozenset[str]) -> bool:
    """Tell whether all conditions of the match hold for this row."""
    if match.origin is not None and not _origin_matches(row, match.origin, server_names):
        return False
    if match.user is not None and not (row.user_id and glob(match.user).match(row.user_id)):
        return False
    if match.content_type is not None and not _content_type_matches(row.content_type, match.content_type):
        return False
    if match.larger_than is not None and row.file_size_bytes <= match.larger_than:
        return False
    if match.uploaded_before is not None and row.creation_ts >= _day_start_ms(match.uploaded_before):
        return False
    return match.upload_name is None or _name_matches(row, match.upload_name)


def is_local(row: MediaRow, server_names: frozenset[str]) -> bool:
    """Tell whether the row bears a name of ours; where our names are not known, whether it bears a user."""
    return row.media_origin.lower() in server_names if server_names else bool(row.user_id)


def foreign_user(row: MediaRow, server_names: frozenset[str]) -> bool:
    """Tell whether the row bears a user of a server that is not ours: then our name is wrong, or the database."""
    return bool(server_names and row.user_id) and row.user_id.partition(":")[2].lower() not in server_names


def _origin_matches(row: MediaRow, origin: str, server_names: frozenset[str]) -> bool:
    local = is_local(row, server_names)
    if origin == "local":
        return local
    if origin == "remote":
        # What bears a user was uploaded here, whatever its origin says: a wrong server_name must not
        # make every upload expendable.
        return not local and not row.user_id
    if not glob(origin, ignore_case=True).match(row.media_origin):
        return False
    # A glob speaks of other servers; local media must be named outright.
    return origin.lower() == row.media_origin.lower() or (not local and not row.user_id)


def _content_type_matches(content_type: str, pattern: str) -> bool:
    compiled = glob(pattern, ignore_case=True)
    essence = content_type.partition(";")[0].strip()
    return bool(compiled.match(content_type) or compiled.match(essence))


def _name_matches(row: MediaRow, pattern: str) -> bool:
    # dendrite stores the names of local uploads URL-escaped, and those of remote media raw.
    name = unquote(row.upload_name) if row.user_id else row.upload_name
    return bool(glob(pattern).match(name))


def _day_start_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


@lru_cache(maxsize=1024)
def glob(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Compile a glob whose only wildcards are `*` and `?`; brackets are plain, since `[::1]` is an origin."""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    head, *tails = (_literal(part) for part in re.split(r"\*+", pattern))
    if not tails:
        return re.compile(rf"{head}\Z", flags)
    # Each star takes the least it can and never gives back: names are untrusted, and trying every way to share
    # a name out among several stars takes for ever. Only the last part must be sought from the end.
    middle = "".join(rf"(?>.*?{part})" for part in tails[:-1])
    return re.compile(rf"{head}{middle}.*{tails[-1]}\Z", flags)


def _literal(part: str) -> str:
    return "".join("." if char == "?" else re.escape(char) for char in part)
