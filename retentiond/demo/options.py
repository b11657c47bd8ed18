"""Options of a demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The number of media to invent, paths for the store and the report (None: not kept), and whether to print JSON.

    `chats` shows a purge of chats as well, `rooms` one of rooms.
    """

    media: int
    keep: Path | None = None
    report: Path | None = None
    as_json: bool = False
    chats: bool = False
    rooms: bool = False
