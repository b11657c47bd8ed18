"""Ownership: uploaders of deleted media and of those that only others mention, and the rooms with mentions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

OTHER_SERVERS: Final = ""
"""The uploader of media that this server fetched: their rows have no user."""
_SHOWN: Final = 100


@dataclass(slots=True)
class Ownership:
    """Items by uploader: deleted ones, and by reason those left out, each reason with an example's URI.

    `rooms` are those that mention the most of the items, with how many; `rooms_in_all` is the number of all.
    """

    removed: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, Counter[str]] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    rooms: dict[str, int] = field(default_factory=dict)
    rooms_in_all: int = 0

    def leave_out(self, reason: str, uploader: str, uri: str) -> None:
        """Count an item that is left out."""
        self.left_out.setdefault(reason, Counter())[uploader] += 1
        self.examples.setdefault(reason, uri)

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON, with a limited number of uploaders."""
        left_out = sum(self.left_out.values(), Counter())
        users = (self.removed + left_out).keys() - {OTHER_SERVERS}
        shown = sorted(users, key=lambda user: (-self.removed[user] - left_out[user], user))[:_SHOWN]
        counts = {
            user: {"removed": self.removed[user], "left_out": left_out[user]}
            for user in (*shown, OTHER_SERVERS)
        }
        return {
            "other_servers": counts.pop(OTHER_SERVERS),
            "uploaders": counts,
            "uploaders_in_all": len(users),
            "rooms": self.rooms,
            "rooms_in_all": self.rooms_in_all,
        }
