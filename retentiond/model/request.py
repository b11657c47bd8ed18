"""A request to delete one media item, or all media of a user, a server or a room."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from retentiond.model.errors import UsageError
from retentiond.model.holds import HoldSubject, MediaKind
from retentiond.model.match import uploaded_here
from retentiond.model.media import parse_media_uri, valid_hash
from retentiond.model.mentions import ENCRYPTION
from retentiond.model.policy import Keep, Remove
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from retentiond.model.media import MediaRow
    from retentiond.model.policy import KeepReason

RequestKind: TypeAlias = MediaKind
"""The subjects of requests, which are those of holds."""

REQUESTED: Final = "delete"
"""The reason for requested deletions in reports, in the place of a policy's name."""

REFERRED: Final = "referred"
"""The user's or room's events plainly refer to it."""
BY_UPLOADER: Final = "by_uploader"
"""In the room an event of its uploader plainly refers to it."""
ELSEWHERE: Final = "elsewhere"
"""Events in other rooms than the room refer to it."""

LEFT_OUT: Final[frozenset[KeepReason]] = frozenset({"other_uploader", "other_rooms", "encrypted"})
"""The reason for which an item that a user or room refers to is left out."""

_FORMS: Final[dict[RequestKind, str]] = {
    "media": "mxc://SERVER/ID",
    "user": "@NAME:SERVER",
    "origin": "SERVER",
    "room": "!ID",
}


@dataclass(frozen=True, slots=True)
class Request:
    """The media to delete: `name` is a URI, a user's ID, a server's name or a room's ID, by the kind.

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

    @property
    def asks_mentions(self) -> bool:
        """Whether the request means media that events reference, which is invisible in encrypted rooms."""
        return self.kind in {"user", "room"}

    def as_json(self) -> dict[str, Any]:
        """Return the request as the ledger remembers it."""
        return {self.kind: self.name, "even_protected": self.even_protected}


def read_request(said: Mapping[RequestKind, str | None], *, even_protected: bool) -> Request:
    """Return the one subject that is set; raise UsageError unless there is exactly one."""
    asked = [(kind, name) for kind, name in said.items() if name is not None]
    if len(asked) != 1:
        raise UsageError(
            "say what to delete: one of " + ", ".join(f"--{kind} {form}" for kind, form in _FORMS.items())
        )
    return Request(*asked[0], even_protected=even_protected)


def decide_request(
    row: MediaRow, request: Request, facts: AbstractSet[str], server_names: frozenset[str]
) -> Keep | Remove:
    """Judge one row for a request, regardless of its age.

    `facts` are REFERRED, BY_UPLOADER and ELSEWHERE, and the pseudo-sources of encryption whose risk is not accepted.

    A media item, an origin or an uploader is requested by its name. Of other media, a user's or room's request means
    those that events reference: never the upload of another local user, since any user can post the URI of any upload.
    """
    verdict = _asked_for(row, request, facts, server_names)
    if isinstance(verdict, Remove) and valid_hash(row.base64hash) is None:
        return Keep("invalid_hash", REQUESTED)
    return verdict


def _asked_for(
    row: MediaRow, request: Request, facts: AbstractSet[str], server_names: frozenset[str]
) -> Keep | Remove:
    if named(row, request):
        return Remove(REQUESTED, 0)
    if REFERRED not in facts:
        return Keep("no_policy")
    # An upload by a member of the room is no proof: any user can invite any other, and post any URI.
    own = request.kind == "room" and bool(row.user_id) and BY_UPLOADER in facts
    if uploaded_here(row, server_names) and not own:
        return Keep("other_uploader", REQUESTED)
    if request.kind == "room" and ELSEWHERE in facts:
        return Keep("other_rooms", REQUESTED)
    if not ENCRYPTION.isdisjoint(facts):
        return Keep("encrypted", REQUESTED)
    return Remove(REQUESTED, 0)


def named(row: MediaRow, request: Request) -> bool:
    """Return whether the request names the row itself, its server or its uploader."""
    match request.kind:
        case "media":
            return row.key == parse_media_uri(request.name)
        case "origin":
            return row.media_origin.lower() == request.name.lower()
        case "user":
            return row.user_id == request.name
        case "room":
            return False
