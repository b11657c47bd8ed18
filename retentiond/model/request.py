"""A request: what somebody wants deleted by hand, one medium, or all of a user, a server or a room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from retentiond.model.errors import UsageError
from retentiond.model.holds import HoldSubject, MediaKind
from retentiond.model.media import parse_media_uri, valid_hash
from retentiond.model.policy import Keep, Remove
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.model.media import MediaRow

RequestKind: TypeAlias = MediaKind
"""What can be asked for is what can be held."""

REQUESTED: Final = "delete"
"""What reports call the reason for which requested items go, in the place of a policy's name."""

_FORMS: Final[dict[RequestKind, str]] = {
    "media": "mxc://SERVER/ID",
    "user": "@NAME:SERVER",
    "origin": "SERVER",
    "room": "!ID",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What shall go: `name` is a URI, a user's ID, a server's name or a room's ID, by the kind.

    With `even_protected` the protections do not keep it; a hold always does.
    """

    kind: RequestKind
    name: str
    even_protected: bool = False

    def __post_init__(self) -> None:
        try:
            HoldSubject.read(self.kind, self.name)
        except ValueError as error:
            raise UsageError(f"--{self.kind} {printable(self.name)} {error}") from None

    def as_json(self) -> dict[str, Any]:
        """Return the request as the ledger remembers it."""
        return {self.kind: self.name, "even_protected": self.even_protected}


def read_request(said: Mapping[RequestKind, str | None], *, even_protected: bool) -> Request:
    """Return the one thing that was said; raise UsageError where it is none, or several."""
    asked = [(kind, name) for kind, name in said.items() if name is not None]
    if len(asked) != 1:
        raise UsageError(
            "say what to delete: one of " + ", ".join(f"--{kind} {form}" for kind, form in _FORMS.items())
        )
    return Request(*asked[0], even_protected=even_protected)


def decide_request(row: MediaRow, request: Request, *, referred_to: bool) -> Keep | Remove:
    """Judge one row for a request, whatever its age; `referred_to` says whether its user or room refers to it."""
    if not _asked_for(row, request, referred_to=referred_to):
        return Keep("no_policy")
    if valid_hash(row.base64hash) is None:
        return Keep("invalid_hash", REQUESTED)
    return Remove(REQUESTED, 0)


def _asked_for(row: MediaRow, request: Request, *, referred_to: bool) -> bool:
    match request.kind:
        case "media":
            return row.key == parse_media_uri(request.name)
        case "origin":
            return row.media_origin.lower() == request.name.lower()
        case "user":
            return row.user_id == request.name or referred_to
        case "room":
            return referred_to
