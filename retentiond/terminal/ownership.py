"""The uploaders and rooms of deleted media, and of media left out, with the commands that delete these."""

from collections import Counter
from collections.abc import Iterator, Mapping
from shlex import quote
from typing import Final

from retentiond.model.ownership import OTHER_SERVERS, Ownership
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words

_LEFT_OUT: Final[Mapping[str, tuple[str, str]]] = {
    "other_uploader": ("mentioned only by other users", "any user can mention the upload of another user"),
    "other_rooms": ("mentioned in other rooms, too", "these rooms would lose them"),
    "encrypted": ("possibly shown in an encrypted room", "mentions there cannot be seen"),
}
"""The media left out for each reason, and the explanation."""
_OTHERS: Final = "users of other servers"
_LISTED: Final = 10
_COMMANDS: Final = 3
_LIMIT: Final = 300


def ownership_lines(ownership: Ownership) -> Iterator[str]:
    """Yield a line for the uploaders, one for the rooms, and the commands that delete the media left out."""
    if ownership.removed:
        yield f"Uploaded by {uploaders_in_words(ownership.removed, _LISTED)}."
    if ownership.rooms:
        yield f"Mentioned in {rooms_in_words(ownership, _LISTED)}."
    for reason, (what, why) in _LEFT_OUT.items():
        counts = ownership.left_out.get(reason)
        if counts:
            nameless = "unknown uploaders" if reason == "other_uploader" else _OTHERS
            whose = uploaders_in_words(counts, _LISTED, nameless)
            yield (
                f"Left out: {count_in_words(counts.total(), 'item')} of {whose}, {what}: {why}. To delete one of them, or all uploads of a user:"
            )
            yield from _commands(counts, ownership.examples.get(reason))


def uploaders_in_words(counts: Counter[str], limit: int, nameless: str = _OTHERS) -> str:
    """Return the uploaders and their items: `@ann:here.test (3), users of other servers (2)`.

    `nameless` stands for media without a user in the database.
    """
    local = sorted(
        (pair for pair in counts.items() if pair[0] != OTHER_SERVERS), key=lambda pair: (-pair[1], pair[0])
    )
    named = [f"{printable(user, _LIMIT)} ({items:,})" for user, items in local[:limit]]
    if len(local) > limit:
        named.append(f"{count_in_words(len(local) - limit, 'more local user')}")
    if counts[OTHER_SERVERS]:
        named.append(f"{nameless} ({counts[OTHER_SERVERS]:,})")
    return ", ".join(named)


def rooms_in_words(ownership: Ownership, limit: int) -> str:
    """Return the rooms and the items mentioned in each: `!a:here.test (2), 3 more rooms`."""
    named = [f"{printable(room, _LIMIT)} ({items:,})" for room, items in ownership.rooms.items()][:limit]
    more = ownership.rooms_in_all - len(named)
    return ", ".join([*named, *([count_in_words(more, "more room")] if more > 0 else [])])


def _commands(uploaders: Counter[str], example: str | None) -> Iterator[str]:
    if example is not None:
        yield f"  retentiond delete --media {quote(printable(example, _LIMIT))}"
    for user, _ in uploaders.most_common(_COMMANDS):
        if user != OTHER_SERVERS:
            yield f"  retentiond delete --user {quote(printable(user, _LIMIT))}"
