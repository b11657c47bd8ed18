"""Policies: which media a rule speaks of, and how long it lets them stay.

`decide` is the whole of it: one row, the rules and the time go in, a verdict with its reason comes out.
The first policy that matches decides; what none matches stays; what cannot be told stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote

from retentiond.model.media import MediaRow, valid_hash
from retentiond.model.mentions import (
    ANYWHERE,
    SENT_BY,
    is_unreferenced,
    may_be_encrypted,
    names_encrypted,
    room_source,
    sent_by,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from collections.abc import Set as AbstractSet

KeepReason = Literal[
    "no_policy",
    "other_uploader",
    "other_rooms",
    "not_due",
    "undated",
    "invalid_hash",
    "unsafe_path",
    "hold",
    "restored",
    "profile_avatars",
    "room_state",
    "account_data",
    "messages_in",
    "changed",
]
"""Why an item stays; of several the first in this order is told."""

Since = Literal["created", "accessed"]
"""What a policy's time counts from: when this server stored the media, or when they were last asked for."""

FIRST_BELIEVABLE_MS: Final = int(datetime(2017, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Dates before it are no dates: a host without a clock wrote them."""
# The clocks of the database and of dendrite may differ by this much before anything is called wrong.
_CLOCK_TOLERANCE_MS: Final = 60_000


Removes = Literal["media", "thumbnails"]
"""What a policy takes: the media with all that is theirs, or their thumbnails alone, which are made again."""


@dataclass(frozen=True, slots=True)
class Match:
    """The conditions of a policy; all that are given must hold, and at least one must be given.

    `origin` is `remote`, `local`, a server name, or a glob of server names; `user`, `content_type` and
    `upload_name` are globs (`*` and `?`); `larger_than` is in bytes; `uploaded_before` is a day in UTC; `room` is
    `no_local_members`, `upgraded` or a room ID; `unreferenced` asks that nothing mentions it.
    """

    origin: str | None = None
    user: str | None = None
    content_type: str | None = None
    larger_than: int | None = None
    uploaded_before: date | None = None
    upload_name: str | None = None
    room: str | None = None
    unreferenced: bool = False

    @property
    def sources(self) -> frozenset[str]:
        """The sources that must be asked before this can be told."""
        rooms = () if self.room is None else (room_source(self.room), SENT_BY)
        return frozenset((*rooms, *(ANYWHERE if self.unreferenced else ())))


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
    removes: Removes = "media"


@dataclass(frozen=True, slots=True)
class Rules:
    """The policies of a target in their order, and the names this server goes by (none: not known)."""

    policies: tuple[Policy, ...]
    server_names: frozenset[str] = frozenset()

    @property
    def by_access(self) -> tuple[int, ...]:
        """The places of the policies whose time counts from the last access."""
        return tuple(index for index, policy in enumerate(self.policies) if policy.since == "accessed")

    def keeping(self, keep: timedelta) -> Rules:
        """Return the same rules with another time; what is kept for ever still is."""
        policies = (policy if policy.keep is None else replace(policy, keep=keep) for policy in self.policies)
        return replace(self, policies=tuple(policies))

    @property
    def thumbnail_policies(self) -> bool:
        """Whether any policy takes thumbnails alone."""
        return any(policy.removes == "thumbnails" for policy in self.policies)

    @property
    def sources(self) -> frozenset[str]:
        """The sources of mentions that the policies ask about."""
        return frozenset(source for policy in self.policies for source in policy.match.sources)


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


def decide(
    row: MediaRow,
    rules: Rules,
    now: datetime,
    mentions: AbstractSet[str] | None = None,
    *,
    removes: Removes = "media",
) -> Keep | Remove:
    """Judge one row at the time `now` (aware); holds, protections and the disk are asked afterwards.

    A medium and its thumbnails are judged apart, each by the first policy that speaks of it and takes such.

    `mentions` are the sources that mention it, of those that the rules ask about; None where nobody looked.
    """
    unmatched = Keep("no_policy")
    for index, policy in enumerate(rules.policies):
        if policy.removes == removes and matches(row, policy.match, rules.server_names, mentions):
            verdict = _judge_age(row, policy, index, int(now.timestamp() * 1000))
            if isinstance(verdict, Keep) or may_take(row, policy.match, rules.server_names, mentions):
                return verdict
            # A later policy may still take it, or keep it longer.
            unmatched = Keep("other_uploader", policy.name)
    return unmatched


def _judge_age(row: MediaRow, policy: Policy, index: int, now_ms: int) -> Keep | Remove:
    if policy.keep is None:
        return Keep("not_due", policy.name)
    if not FIRST_BELIEVABLE_MS <= row.creation_ts <= now_ms + _CLOCK_TOLERANCE_MS:
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


def matches(
    row: MediaRow, match: Match, server_names: frozenset[str], mentions: AbstractSet[str] | None = None
) -> bool:
    """Tell whether all conditions of the match hold for this row."""
    return next(mismatches(row, match, server_names, mentions), None) is None


def mismatches(
    row: MediaRow, match: Match, server_names: frozenset[str], mentions: AbstractSet[str] | None = None
) -> Iterator[str]:
    """Yield the conditions of the match that do not hold for this row, the cheapest to tell first."""
    if match.origin is not None and not _origin_matches(row, match.origin, server_names):
        yield "origin"
    if match.user is not None and not (row.user_id and glob(match.user).match(row.user_id)):
        yield "user"
    if match.content_type is not None and not _content_type_matches(row.content_type, match.content_type):
        yield "content_type"
    if match.larger_than is not None and row.file_size_bytes <= match.larger_than:
        yield "larger_than"
    if match.uploaded_before is not None and row.creation_ts >= _day_start_ms(match.uploaded_before):
        yield "uploaded_before"
    if match.upload_name is not None and not _name_matches(row, match.upload_name):
        yield "upload_name"
    if match.room is not None and not (mentions and room_source(match.room) in mentions):
        yield "room"
    if match.unreferenced and not _unreferenced(row, match, mentions):
        yield "unreferenced"


def may_take(
    row: MediaRow, match: Match, server_names: frozenset[str], mentions: AbstractSet[str] | None
) -> bool:
    """Tell whether a policy may take a row that it matches: by `room`, an upload only where its uploader sent it.

    Any member of any room can post the URI of any upload, so a mention by others does not make it the room's. The
    policy still keeps it for its time.
    """
    return match.room is None or not uploaded_here(row, server_names) or sent_by_uploader(row, mentions or ())


def uploaded_here(row: MediaRow, server_names: frozenset[str]) -> bool:
    """Tell whether the row is, or may be, the upload of a local user: the only copy, which no server sends again."""
    return bool(row.user_id) or is_local(row, server_names)


def sent_by_uploader(row: MediaRow, mentions: Container[str]) -> bool:
    """Tell whether a message of the uploader refers to the medium.

    Membership proves nothing, since a stranger can invite the uploader. Without a known uploader the answer is no.
    """
    return bool(row.user_id) and sent_by(row.user_id) in mentions


def _unreferenced(row: MediaRow, match: Match, mentions: AbstractSet[str] | None) -> bool:
    # In an encrypted room the reference cannot be seen, and the picture is of no type.
    told = not may_be_encrypted(row.content_type) or names_encrypted(match.content_type)
    return told and is_unreferenced(mentions)


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
