"""The proof of disposal as a chain: each record has the hash of the one before, and so confirms all of them.

A change, removal or insertion of one makes it necessary to rewrite all that follow; a copy of the newest hash in
another place shows that, too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_HASH: Final = "0" * 64
"""The previous hash in the very first record."""


@dataclass(frozen=True, slots=True)
class Link:
    """A place in the chain: a record's number and hash."""

    number: int = 0
    hash: str = NO_HASH


def canonical(content: Mapping[str, Any]) -> str:
    """Write JSON in the one way that hashes are taken of: keys sorted, no spaces, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(text: str) -> str:
    """Return the SHA-256 of canonical JSON, in hexadecimal digits."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_content(text: str | bytes) -> dict[str, Any]:
    """Read a record as it was written; an invalid one becomes a record that fits in no chain."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def version_of(rules: Mapping[str, Any]) -> str:
    """Return a hash that identifies a set of rules."""
    return digest(canonical(rules))


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold: the first record that does not fit, and why."""

    number: int
    problem: str

    def __str__(self) -> str:
        return f"record {self.number}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Verified:
    """The result of following a chain: the number of valid records, the first and last of them, and the first break."""

    records: int
    first: Link
    last: Link
    broken: Break | None

    def as_json(self) -> dict[str, Any]:
        """Return the result as `records verify --json` prints it."""
        broken = self.broken and {"record": self.broken.number, "problem": self.broken.problem}
        return {
            "records": self.records,
            "first": self.first.number,
            "last": self.last.number,
            "hash": self.last.hash,
            "broken": broken,
        }


class Chain:
    """A chain as it is followed, record by record.

    `first` and `last` are the oldest and the newest that fit, `pruned` the last that a record notes as pruned.

    Without `after`, the previous hash in the first record is trusted: an exported chain whose oldest records were
    pruned begins so.
    """

    def __init__(self, after: Link | None = None) -> None:
        self.first = Link()
        self.last = after
        self.pruned = Link()
        self.fitting = 0

    def follow(self, content: Mapping[str, Any], sealed: object) -> Break | None:
        """Check the next record's content and its hash against the chain so far."""
        number, previous = content.get("number"), content.get("previous")
        expected = 1 if self.last is None else self.last.number + 1
        if not isinstance(number, int):
            return Break(expected, "it bears no number")
        if self.last is not None and number != expected:
            return Break(expected, f"it is missing; record {number} stands in its place")
        if self.last is not None and previous != self.last.hash:
            return Break(number, "it does not follow from the record before")
        try:
            found = digest(canonical(content))
        except ValueError:
            return Break(number, "it holds what no record can")
        if found != sealed:
            return Break(number, "its content is not what its hash was taken of")
        self.last = Link(number, found)
        self.first = self.first if self.fitting else self.last
        self.fitting += 1
        if content.get("kind") == "records_pruned":
            self.pruned = _pruned(content.get("body"))
        return None

    def result(self, broken: Break | None = None) -> Verified:
        """Return the result so far."""
        return Verified(self.fitting, self.first, self.last or Link(), broken)

    def end(self, newest: Link, pruned: Link) -> Break | None:
        """Hold the chain against the newest record there must be, and against the last that was pruned."""
        last = self.last or Link()
        if last.number < newest.number:
            return Break(last.number + 1, f"it is missing, and all up to record {newest.number}")
        if last != newest:
            return Break(last.number, "it is not the record that was the newest")
        if self.pruned != pruned:
            return Break(
                pruned.number, "it and all before it are gone, and no record says that they were pruned"
            )
        return None


def _pruned(body: object) -> Link:
    fields = body if isinstance(body, dict) else {}
    return Link(fields.get("through", 0), fields.get("hash", NO_HASH))
