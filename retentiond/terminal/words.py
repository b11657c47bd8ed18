"""Numbers, times, policies and reasons in words."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from retentiond.config.policies import MatchConfig, PolicyConfig, QuotaConfig
from retentiond.config.schedule import Schedule
from retentiond.config.schema import check_kinds
from retentiond.config.units import format_duration
from retentiond.model.fields import all_handled
from retentiond.model.protections import PROTECTIONS
from retentiond.model.room_purge import OBSTACLES
from retentiond.model.text import printable

REASONS: Final[Mapping[str, str]] = MappingProxyType({
    "no_policy": "no policy matches",
    "other_uploader": "uploaded by another local user; mentions by others do not count",
    "other_rooms": "other rooms refer to it, too",
    "not_due": "not old enough yet, or the policy says `keep: forever`",
    "undated": "unknown age: its date is before 2017 or in the future",
    "invalid_hash": "invalid hash in the database; skipped",
    "unsafe_path": "a link, a special file or an unexpected name is at the place of its file",
    "hold": "on hold",
    "restored": "restored by hand, and kept since",
    **{protection.name: protection.reason for protection in PROTECTIONS},
    "changed": "it changed during the pass; the next pass checks it again",
})  # fmt: skip
"""The reasons why media are kept."""
CHAT_REASONS: Final[Mapping[str, str]] = MappingProxyType({
    "not_due": "it began on the date or later",
    "open": "it is still open",
    "undated": "unknown age: one of its dates is missing or implausible",
    "newer": "an entry in it is not older than the date",
    "hold": "on hold",
    "under_floor": "it is younger than the floor",
    "has_file_messages": "it has messages with files: these and its own row are kept, the rest is deleted",
    "changed": "it changed during the purge; the next purge checks it again",
})  # fmt: skip
"""The words for every reason to keep a chat."""
ROOM_REASONS: Final[Mapping[str, str]] = MappingProxyType({
    **OBSTACLES,
    "joined": "a local user is in it",
    "invite": "a local user is invited to it, or knocks",
    "members_differ": "dendrite's databases disagree about its local members",
    "no_policy": "no policy matches",
    "undated": "unknown age: the event that dates it is missing or cannot be read",
    "first_seen": "not seen without local members before; its time begins with a pass or the daemon",
    "not_due": "not without local members for long enough, or the policy says `keep: forever`",
    "hold": "on hold",
    "local_alias": "it has an alias of this server",
    "space_child": "the space of another room names it",
    "media": "media that only it refers to are still there, and go first",
})  # fmt: skip
"""The words for every reason to keep a room."""

_UNITS: Final = {"y": "year", "d": "day", "h": "hour", "m": "minute", "s": "second"}
_KIBI: Final = 1024
_SIZES: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_ORIGINS: Final = {"remote": "media of other servers", "local": "media of this server"}


_REASONS_OF: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {"dendrite_media": REASONS, "chat_database": CHAT_REASONS, "dendrite_rooms": ROOM_REASONS}
)
check_kinds(_REASONS_OF, "terminal/words.py: _REASONS_OF")


def reason_in_words(reason: str, kind: str = "dendrite_media") -> str:
    """Return the explanation of a reason; raise KeyError for an unknown kind of target.

    The ledger may have a reason of another version, which is unknown here.
    """
    return _REASONS_OF[kind].get(reason, "a reason of another version")


def size_in_words(size: int) -> str:
    """Format a number of bytes: `1.5 GiB`."""
    if abs(size) < _KIBI:
        return f"{size} B"
    steps = min((abs(size).bit_length() - 1) // 10, len(_SIZES))
    return f"{size / _KIBI**steps:.1f} {_SIZES[steps - 1]}"


def count_in_words(count: int, noun: str) -> str:
    """Format a count: `1 item`, `1,200 items`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def age_in_words(age: timedelta) -> str:
    """Format a duration: `30 days`, `1 hour 30 minutes`."""
    parts = re.findall(r"(\d+)([ydhms])", format_duration(age))
    return " ".join(count_in_words(int(count), _UNITS[unit]) for count, unit in parts)


def time_in_words(moment: datetime) -> str:
    """Format a moment in local time, to the minute."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M %Z}"


def schedule_in_words(schedule: Schedule | None) -> str:
    """Describe when passes run."""
    if schedule is None:
        return "only by hand"
    if schedule.every is not None:
        words = f"every {age_in_words(schedule.every)}"
    else:
        zone = f" ({schedule.timezone})" if schedule.timezone else " (local time)"
        words = f"by crontab, {schedule.cron}{zone}"
    return f"{words}, up to {age_in_words(schedule.jitter)} later" if schedule.jitter else words


def policy_in_words(policy: PolicyConfig) -> str:
    """Describe a policy: the media that it matches, and when these are deleted."""
    about = _match_in_words(policy.match) + _encryption_in_words(policy)
    if policy.remove == "thumbnails":
        about = f"only the thumbnails of {about}"
    if policy.keep is None:
        return f"{about}: kept forever"
    if not policy.keep:
        return f"{about}: deleted by the next pass, whatever their age"
    if policy.since == "accessed":
        return f"{about}: deleted when not accessed for {age_in_words(policy.keep)}"
    return f"{about}: deleted when older than {age_in_words(policy.keep)}"


def quota_in_words(quota: QuotaConfig) -> str:
    """Describe a quota: its bounds, and the media that are deleted first."""
    bounds = [
        "" if quota.max_size is None else f"at most {size_in_words(quota.max_size)}",
        "" if quota.min_free_disk is None else f"at least {size_in_words(quota.min_free_disk)} of disk free",
    ]
    first = "the oldest first" if quota.evict == "oldest" else "the least recently accessed first"
    about = _match_in_words(quota.match) + _encryption_in_words(quota)
    return f"{about}: {' and '.join(filter(None, bounds))}, {first}, none younger than {age_in_words(quota.min_age)}"


_ROOMS: Final = {
    "no_local_members": "of rooms without local members",
    "upgraded": "of upgraded rooms",
}


def _encryption_in_words(rule: PolicyConfig | QuotaConfig) -> str:
    return ", even if an encrypted room may show them" if rule.delete_media_of_encrypted_rooms else ""


def _match_in_words(match: MatchConfig) -> str:
    given = dict(match)
    words = (say(given[name]) for name, say in _CONDITIONS.items() if given[name] is not None)
    about = "" if match.origin else "media"
    return printable(", ".join(filter(None, (about, *words))), 500)


_CONDITIONS: Final[Mapping[str, Callable[[Any], str]]] = {
    "origin": lambda origin: _ORIGINS.get(origin, f"media of {origin}"),
    "user": lambda user: f"uploaded by {user}",
    "content_type": lambda content_type: f"of type {content_type}",
    "larger_than": lambda size: f"larger than {size_in_words(size)}",
    "uploaded_before": lambda day: f"stored before {day}",
    "upload_name": lambda name: f"named {name}",
    "room": lambda room: _ROOMS.get(room, f"of the room {room} only"),
    "unreferenced": lambda _true: "without references",
}
"""Each condition of a match in words."""

all_handled(MatchConfig, _CONDITIONS, "terminal/words.py: _CONDITIONS")
