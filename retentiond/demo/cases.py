"""The special cases of the demo: the expected result of each, and the actual one.

The demo trusts neither the plan nor the report: it looks for the row in the database and for the file on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

from retentiond.model.text import printable
from retentiond.targets.dendrite_media.disk.layout import FILE, blob_parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    import asyncpg

    from retentiond.demo.store import SpecialCases
    from retentiond.model.media import Hash, MediaKey


@dataclass(frozen=True, slots=True)
class Case:
    """A special media item: its description, whether its row and its file should exist at the end, and why."""

    what: str
    key: MediaKey | None
    blob: Hash
    has_row: bool
    has_file: bool
    why: str


@dataclass(frozen=True, slots=True)
class SeenCase:
    """A case and its actual result."""

    case: Case
    row: bool
    file: bool

    @property
    def as_it_should_be(self) -> bool:
        """Whether both are as expected."""
        return (self.row, self.file) == (self.case.has_row, self.case.has_file)

    def as_json(self) -> dict[str, Any]:
        """Return the case as the demo's JSON has it."""
        return {
            "what": self.case.what,
            "media": self.case.key.uri if self.case.key else None,
            "row": self.row,
            "file": self.file,
            "as_it_should_be": self.as_it_should_be,
            "why": self.case.why,
        }


async def expected_cases(connection: asyncpg.Connection[asyncpg.Record], special: SpecialCases) -> list[Case]:
    """Return the cases of a store that no pass has worked on yet; their contents are read from its rows."""
    expectations = list(_expectations(special))
    rows = await connection.fetch("SELECT media_id, media_origin, base64hash FROM mediaapi_media_repository")
    blobs = {(row["media_id"], row["media_origin"]): row["base64hash"] for row in rows}
    cases = [
        Case(what, key, blobs[key], has_row=has_row, has_file=has_file, why=why)
        for what, key, has_row, has_file, why in expectations
    ]
    orphan = "not in the database (orphan); reported by `audit`"
    return [*cases, Case("file without a row", None, special.orphan_blob, False, True, orphan)]


def _expectations(special: SpecialCases) -> Iterator[tuple[str, MediaKey, bool, bool, str]]:
    shown = special.references
    _, borrowed = shown.profile_avatar
    yield "avatar in a profile", borrowed, True, True, "protected: profile_avatars"
    yield "avatar of a remote user", shown.member_avatar, True, True, "protected: profile_avatars"
    yield "the avatar before it", shown.replaced_avatar, False, False, "no longer used as an avatar"
    yield "avatar of a room", shown.room_avatar, True, True, "protected: room_state"
    yield "emoji of a room", shown.room_emoji[0], True, True, "protected: room_state"
    yield "emoji of a user", shown.personal_emoji[0], True, True, "protected: account_data"
    sharing = "its content is a local upload's, too: the row went, the file stays"
    yield "remote, shared content", special.shared_leaving, False, True, sharing
    yield "local, shared content", special.shared_staying, True, True, "no policy matches"
    yield "remote, without its file", special.missing, False, False, "the row went: it can be fetched again"
    yield "remote, brought back", special.restorable, True, True, "restored, and kept from then on"


async def look_at_cases(
    connection: asyncpg.Connection[asyncpg.Record], media_path: Path, cases: list[Case]
) -> list[SeenCase]:
    """Look for each case's row and file."""
    rows = await connection.fetch("SELECT media_id, media_origin FROM mediaapi_media_repository")
    keys = {(row["media_id"], row["media_origin"]) for row in rows}
    return [
        SeenCase(case, row=case.key in keys, file=media_path.joinpath(*blob_parts(case.blob), FILE).is_file())
        for case in cases
    ]


_WIDTHS: Final = {"case": 20, "row": 5, "file": 5}


def cases_table(seen: list[SeenCase]) -> Table:
    """Return the closing table."""
    table = Table(
        title="What became of it, and why",
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        expand=True,
    )
    for column in ("case", "media", "row", "file", "why"):
        # The name of a media item may be long, and is cut first; the words keep their room on a terminal of 80 columns.
        table.add_column(
            column,
            overflow="ellipsis" if column == "media" else "fold",
            no_wrap=column == "media",
            width=_WIDTHS.get(column),
            ratio=None if column in _WIDTHS else 1,
        )
    for found in seen:
        case = found.case
        table.add_row(
            case.what,
            Text(printable(case.key.uri if case.key else case.blob, 44)),
            _stands(found.row),
            _stands(found.file),
            case.why if found.as_it_should_be else Text("NOT AS IT SHOULD BE", style="bold red"),
        )
    return table


def _stands(there: bool) -> Text:
    return Text("stays", style="green") if there else Text("gone", style="yellow")
