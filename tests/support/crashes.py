"""Where a command may be killed, and what that must not break."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.chance import NIGHTLY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.worn_store import WornStore

# Within a transaction one point is like another, and what is temporary goes with the connection. Between two effects
# there is one state: by night it is come to from both sides, else by the commit before it or the file's call after it.
_ALIKE = (
    r"before statement|(before|after) commit (\w+_function|(drop|make|sort)_(due|audited|findings))|.* fsync"
)
_SKIPPED = re.compile(_ALIKE if NIGHTLY else rf"{_ALIKE}|before commit|after (?!commit)")


async def points_of(worn: WornStore, directory: Path, *commands: tuple[str, ...]) -> list[str]:
    """The points that the last of these commands comes by, in their order, each as often as it is come by."""
    async with worn.copy(directory / "dry") as copy:
        for words in commands[:-1]:
            await copy.program.run(*words)
        log = directory / "points"
        ended = await copy.program.run(*commands[-1], log=log)
        assert ended.status == 0, ended
        points = log.read_text().splitlines()
        log.unlink()
        return points


def distinct(points: list[str]) -> dict[str, int]:
    """The points that are worth a kill, with how often each is come by."""
    return Counter(point for point in points if not _SKIPPED.match(point))


async def kill_at(worn: WornStore, words: tuple[str, ...], at: str, nth: int) -> list[str]:
    """Kill a command at a point. Nothing breaks by that which was whole."""
    broken = await worn.broken()
    await worn.program.run(*words, orders=[worn.program.order(at, "kill", nth)])
    return sorted(await worn.broken() - broken)
