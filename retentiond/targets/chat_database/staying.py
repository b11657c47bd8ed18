"""Counts of the rows and documents that a store keeps because a chat stays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class StayingRows:
    """`with_files` are rows of chats that keep their messages with files and have lost all others in the database.

    `several` are rows that name a chat to be purged, and another beside it; `apart` are the most of them that were seen on
    one page although they name chats of an earlier one, too: they may be counted already, or not.
    """

    noun: str
    with_files: int = 0
    several: int = 0
    apart: int = 0

    def kept(self) -> dict[str, int]:
        """Return the counts by reason, for JSON."""
        counts = {"has_file_messages": self.with_files, "several_chats": max(self.several, self.apart)}
        return {reason: count for reason, count in counts.items() if count}

    def remarks(self, *, by_message: bool) -> tuple[str, ...]:
        """Return a sentence for each reason; `by_message`: the texts of these chats were purged."""
        told: list[str] = []
        if self.with_files and by_message:
            told.append(
                f"{self.with_files} {self.noun} of chats that keep messages with files stay: their kinds are not "
                "all in `text_kinds`, or they name another chat that stays"
            )
        elif self.with_files:
            told.append(
                f"{self.with_files} {self.noun} of chats that keep messages with files stay whole, with data that the "
                "database no longer has"
            )
        several = max(self.several, self.apart)
        if several:
            at_least = "at least " if self.apart else ""
            told.append(
                f"{at_least}{several} {self.noun} name several chats, and stay: not all of these chats are missing from the "
                "database, or they were too many to be compared at once"
            )
        return tuple(told)
