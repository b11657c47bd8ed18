"""What a demo is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """How many media to make up, where to leave the store and the report (None: nowhere), and whether to tell as JSON.

    `chats` shows a purge of chats as well.
    """

    media: int
    keep: Path | None = None
    report: Path | None = None
    as_json: bool = False
    chats: bool = False
