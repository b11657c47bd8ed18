"""Mistakes in policies that only the policies themselves show: conditions that exclude each other, and shadowed policies.

Everything here is a warning, so it may miss a mistake. It must not report a policy that can still decide.
"""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from retentiond.model.match import Match, glob
from retentiond.model.policy import FIRST_BELIEVABLE_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from retentiond.model.policy import Policy

_FIRST_DAY: Final = datetime.fromtimestamp(FIRST_BELIEVABLE_MS / 1000, UTC).date()


class Contradiction(NamedTuple):
    """A condition that cannot hold together with the others: its key, why, and the next step."""

    condition: str
    message: str
    hint: str


def contradiction(match: Match, server_names: frozenset[str]) -> Contradiction | None:
    """Return why a match can never apply, or None. `server_names` are in small letters, empty if not known."""
    user, origin = match.user, match.origin
    if user is not None and origin is not None and origin != "local" and _is_other(origin, server_names):
        return Contradiction(
            "user",
            f"never matches together with `origin: {origin}`: only uploads to this server have a user",
            "write `origin: local`, or leave `user` out",
        )
    if user is not None and server_names and not any(_ends_in(user, name) for name in server_names):
        return Contradiction(
            "user",
            f"never matches: only users of {', '.join(sorted(server_names))} upload to this server",
            "use `origin` for media of another server",
        )
    if match.unreferenced is not None and match.room is not None:
        return Contradiction(
            "room",
            "never matches together with `unreferenced`: a message in the room is a reference",
            "write two policies",
        )
    if match.uploaded_before is not None and match.uploaded_before <= _FIRST_DAY:
        return Contradiction(
            "uploaded_before",
            f"nothing is ever due: dates before {_FIRST_DAY} are not trusted, and such media are kept",
            "write a later day",
        )
    return None


def shadowed(policies: Sequence[Policy], server_names: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Yield each policy that never decides, with the earlier one that matches everything that it matches."""
    for later, policy in enumerate(policies):
        for earlier in range(later):
            before = policies[earlier]
            if before.removes == policy.removes and covers(before.match, policy.match, server_names):
                yield later, earlier
                break


def covers(wide: Match, narrow: Match, server_names: frozenset[str] = frozenset()) -> bool:
    """Return whether everything that `narrow` matches is certain to be matched by `wide`.

    Of a field that is not listed here only equal values count: it may widen a match as well as narrow it.
    """
    if wide.unreferenced is not None and wide.content_type != narrow.content_type:
        # Types that an encrypted file may have are an exception of `unreferenced`.
        return False
    for field in fields(Match):
        wider, narrower = getattr(wide, field.name), getattr(narrow, field.name)
        if wider == narrower or (wider == field.default and field.name in _CONDITIONS):
            continue
        rule = _RULES.get(field.name)
        if rule is None or narrower is None or not rule(wider, narrower, server_names):
            return False
    return True


def _origin_covers(wide: str, narrow: str, server_names: frozenset[str]) -> bool:
    if wide == "local" or narrow == "local":
        return wide == "local" and narrow.lower() in server_names
    if wide == "remote":
        return _is_other(narrow, server_names)
    if narrow == "remote":
        return not wide.strip("*")
    return _is_other(narrow, server_names) and _glob_covers(wide, narrow)


def _glob_covers(wide: str, narrow: str) -> bool:
    """Return whether a glob matches everything that another one matches; the other's wildcards are read as letters."""
    # A `*` read as a letter may be matched by a `?`, which matches less.
    if "?" in wide and "*" in narrow:
        return False
    return bool(glob(wide, ignore_case=True).match(narrow))


_RULES: Final[Mapping[str, Callable[..., bool]]] = {
    "origin": _origin_covers,
    "user": lambda wide, narrow, _: _case_covers(wide, narrow),
    "content_type": lambda wide, narrow, _: _glob_covers(wide, narrow),
    "upload_name": lambda wide, narrow, _: _case_covers(wide, narrow),
    "larger_than": lambda wide, narrow, _: wide <= narrow,
    "uploaded_before": lambda wide, narrow, _: wide >= narrow,
}
_CONDITIONS: Final = frozenset({*_RULES, "room", "unreferenced"})
"""The fields of a match that only narrow it."""


def _case_covers(wide: str, narrow: str) -> bool:
    return not ("?" in wide and "*" in narrow) and bool(glob(wide).match(narrow))


def _is_other(origin: str, server_names: frozenset[str]) -> bool:
    """Return whether an origin is certain to mean other servers only."""
    if origin == "remote" or "*" in origin or "?" in origin:
        return True
    return origin != "local" and bool(server_names) and origin.lower() not in server_names


def _ends_in(user: str, server_name: str) -> bool:
    """Return whether a glob of users can match a user of this server."""
    tail = min((user.rpartition(wildcard)[2] for wildcard in "*?"), key=len)
    _, colon, server = tail.partition(":")
    return not colon or f":{server_name}".endswith(f":{server}".lower())
