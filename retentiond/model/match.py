"""The conditions of a policy or quota, and whether they hold for a row.

A condition is decided by its line of `CONDITIONS`; a field of Match without a line, and a line without a field, cannot
be imported. Where references decide, an encrypted room that may show the row leaves the answer open; `mismatches` then
says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import unquote

from retentiond.model.fields import all_handled
from retentiond.model.mentions import (
    ANYWHERE,
    ENCRYPTION,
    SENT_BY,
    has_type_of_ciphertext,
    is_unreferenced,
    names_type_of_ciphertext,
    room_source,
    sent_by,
)
from retentiond.model.protections import ENCRYPTED

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from retentiond.model.media import MediaRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The conditions of a policy; all that are given must hold, and at least one must be given.

    `origin` is `remote`, `local`, a server name, or a glob of server names; `user`, `content_type` and
    `upload_name` are globs (`*` and `?`); `larger_than` is in bytes; `uploaded_before` is a day in UTC; `room` is
    `no_local_members`, `upgraded` or a room ID; `unreferenced` asks that nothing mentions it.

    `accepts` is not a condition: the pseudo-sources of encryption whose risk the administrator accepts. Raises
    ValueError without a condition.
    """

    origin: str | None = None
    user: str | None = None
    content_type: str | None = None
    larger_than: int | None = None
    uploaded_before: date | None = None
    upload_name: str | None = None
    room: str | None = None
    unreferenced: Literal[True] | None = None
    accepts: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if not self.conditions:
            raise ValueError("a match without a condition would match every row")

    @property
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions that are given."""
        return tuple(name for name in CONDITIONS if getattr(self, name) is not None)

    @property
    def asks_mentions(self) -> bool:
        """Whether a condition depends on references, which are invisible in encrypted rooms."""
        return not OF_REFERENCES.isdisjoint(self.conditions)

    @property
    def sources(self) -> frozenset[str]:
        """The sources that must be read before this can be decided."""
        return _sources(self)


@lru_cache(maxsize=256)
def _sources(match: Match) -> frozenset[str]:
    # A batch asks for each of its rows.
    return frozenset(
        source
        for name in match.conditions
        if isinstance(condition := CONDITIONS[name], OfReferences)
        for source in condition.sources(getattr(match, name))
    )


def matches(
    row: MediaRow, match: Match, server_names: frozenset[str], mentions: AbstractSet[str] | None = None
) -> bool:
    """Return whether all conditions of the match hold for this row."""
    return next(mismatches(row, match, server_names, mentions), None) is None


def mismatches(
    row: MediaRow, match: Match, server_names: frozenset[str], mentions: AbstractSet[str] | None = None
) -> Iterator[str]:
    """Yield the conditions of the match that do not hold for this row, and last `encrypted`.

    `encrypted` is yielded where references decide and an encrypted room may show the row. As the first, it is the
    only one.
    """
    for name in match.conditions:
        if not CONDITIONS[name].holds(getattr(match, name), row, server_names, mentions):
            yield name
    if hides_mentions(row, match, mentions):
        yield ENCRYPTED


def hides_mentions(row: MediaRow, match: Match, mentions: AbstractSet[str] | None) -> bool:
    """Return whether an encrypted room may show the row, so that a match that asks for mentions cannot hold."""
    if mentions is None or not match.asks_mentions:
        return False
    if not ENCRYPTION.isdisjoint(mentions - match.accepts):
        return True
    # The type proves nothing, but a file of this one is likely to be encrypted, wherever it was sent. An accepted risk
    # does not name it.
    likely = has_type_of_ciphertext(row.content_type) and not names_type_of_ciphertext(match.content_type)
    return match.unreferenced is not None and likely


def may_take(
    row: MediaRow, match: Match, server_names: frozenset[str], mentions: AbstractSet[str] | None
) -> bool:
    """Return whether a policy may take a row that it matches: by `room`, an upload only where its uploader sent it.

    Any member of any room can post the URI of any upload, so a mention by others does not make it the room's. The
    policy still keeps it for its time.
    """
    return match.room is None or not uploaded_here(row, server_names) or sent_by_uploader(row, mentions or ())


def uploaded_here(row: MediaRow, server_names: frozenset[str]) -> bool:
    """Return whether the row is, or may be, the upload of a local user: the only copy, which no server sends again."""
    return bool(row.user_id) or is_local(row, server_names)


def sent_by_uploader(row: MediaRow, mentions: Container[str]) -> bool:
    """Return whether a message of the uploader refers to the media item.

    Membership is no proof, since any user can invite the uploader. Without a known uploader the answer is no.
    """
    return bool(row.user_id) and sent_by(row.user_id) in mentions


def is_local(row: MediaRow, server_names: frozenset[str]) -> bool:
    """Return whether the row has a name of ours; if our names are not known, whether it has a user."""
    return row.media_origin.lower() in server_names if server_names else bool(row.user_id)


def foreign_user(row: MediaRow, server_names: frozenset[str]) -> bool:
    """Return whether the row has a user of a server that is not ours: then our name is wrong, or the database."""
    return bool(server_names and row.user_id) and row.user_id.partition(":")[2].lower() not in server_names


def _origin_matches(row: MediaRow, origin: str, server_names: frozenset[str]) -> bool:
    local = is_local(row, server_names)
    if origin == "local":
        return local
    if origin == "remote":
        # A row with a user was uploaded here, regardless of its origin: a wrong server_name must not
        # make every upload expendable.
        return not local and not row.user_id
    if not glob(origin, ignore_case=True).match(row.media_origin):
        return False
    # A glob means other servers; local media must be named explicitly.
    return origin.lower() == row.media_origin.lower() or (not local and not row.user_id)


def _content_type_matches(content_type: str, pattern: str) -> bool:
    compiled = glob(pattern, ignore_case=True)
    essence = content_type.partition(";")[0].strip()
    return bool(compiled.match(content_type) or compiled.match(essence))


def _name_matches(row: MediaRow, pattern: str) -> bool:
    # dendrite stores the names of local uploads URL-escaped, and those of remote media raw.
    name = unquote(row.upload_name) if row.user_id else row.upload_name
    return bool(glob(pattern).match(name))


def day_start_ms(day: date) -> int:
    """Return the beginning of a day in UTC, in milliseconds."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


@lru_cache(maxsize=1024)
def glob(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Compile a glob whose only wildcards are `*` and `?`; brackets are plain, since `[::1]` is an origin."""
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    head, *tails = (_literal(part) for part in re.split(r"\*+", pattern))
    if not tails:
        return re.compile(rf"{head}\Z", flags)
    # Each star takes the least it can and never gives back: names are untrusted, and trying every way to share
    # a name out among several stars takes exponential time. Only the last part must be sought from the end.
    middle = "".join(rf"(?>.*?{part})" for part in tails[:-1])
    return re.compile(rf"{head}{middle}.*{tails[-1]}\Z", flags)


def _literal(part: str) -> str:
    return "".join("." if char == "?" else re.escape(char) for char in part)


class OfRow(NamedTuple):
    """A condition that the row alone decides, which never changes; `test` takes its value, the row, and our names."""

    test: Callable[[Any, MediaRow, frozenset[str]], bool]

    def holds(
        self, value: Any, row: MediaRow, names: frozenset[str], _mentions: AbstractSet[str] | None
    ) -> bool:
        """Return whether the condition holds for the row."""
        return self.test(value, row, names)


class OfReferences(NamedTuple):
    """A condition that references decide, which are asked again until the purge.

    `test` takes its value and the sources that mention the row, and `sources` returns, for its value, those that it asks
    about. Where they were not read, it does not hold.
    """

    test: Callable[[Any, AbstractSet[str]], bool]
    sources: Callable[[Any], Iterable[str]]

    def holds(
        self, value: Any, _row: MediaRow, _names: frozenset[str], mentions: AbstractSet[str] | None
    ) -> bool:
        """Return whether the condition holds for a row with these mentions."""
        return mentions is not None and self.test(value, mentions)


CONDITIONS: Final[Mapping[str, OfRow | OfReferences]] = {
    "origin": OfRow(lambda origin, row, names: _origin_matches(row, origin, names)),
    "user": OfRow(lambda pattern, row, _names: bool(row.user_id and glob(pattern).match(row.user_id))),
    "content_type": OfRow(lambda pattern, row, _names: _content_type_matches(row.content_type, pattern)),
    "larger_than": OfRow(lambda size, row, _names: row.file_size_bytes > size),
    "uploaded_before": OfRow(lambda day, row, _names: row.creation_ts < day_start_ms(day)),
    "upload_name": OfRow(lambda pattern, row, _names: _name_matches(row, pattern)),
    "room": OfReferences(
        lambda room, mentions: room_source(room) in mentions,
        lambda room: (room_source(room), SENT_BY, *ENCRYPTION),
    ),
    "unreferenced": OfReferences(
        lambda _true, mentions: is_unreferenced(mentions),
        lambda _true: (*ANYWHERE, *ENCRYPTION),
    ),
}
"""Every condition of a match. A condition without a line would match by being skipped."""

OF_REFERENCES: Final = frozenset(
    name for name, condition in CONDITIONS.items() if isinstance(condition, OfReferences)
)
"""The conditions that references decide, which are invisible in encrypted rooms. They are asked again until the purge."""
OF_THE_ROW: Final = frozenset(CONDITIONS) - OF_REFERENCES
"""The conditions that the row alone decides: they cannot change."""

all_handled(Match, {*CONDITIONS, "accepts"}, "model/match.py: CONDITIONS")
