"""Where a command may be killed, and what that must not break."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.chance import NIGHTLY

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.worn_store import WornStore

# Within a transaction one point is like another, and what is temporary goes with the connection. Between two effects
# there is one state: by night it is come to from both sides, else by the commit before it or the file's call after it.
_ALIKE = (
    r"before statement|(before|after) commit (\w+_function|(drop|make|sort)_(due|audited|findings))|.* f?sync"
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
    await worn.until_gone()
    return sorted(await worn.broken() - broken)


_ERRORS = ("EACCES", "EIO", "EROFS", "ENOENT", "ENOSPC")


def failing_calls(calls: Sequence[str], few: int, rng: random.Random) -> Iterator[tuple[str, str, int]]:
    """Each call with each error, once (1) and always (0); by day a few calls, and one of these each."""
    for at in calls if NIGHTLY else rng.sample(calls, few):
        cases = [(at, error, nth) for error in _ERRORS for nth in (0, 1)]
        yield from cases if NIGHTLY else [rng.choice(cases)]


async def fail_at(worn: WornStore, words: tuple[str, ...], at: str, error: str, nth: int) -> list[str]:
    """Let a call of a command fail. It says so, and nothing breaks by that which was whole."""
    broken = await worn.broken()
    ended = await worn.program.run(*words, orders=[worn.program.order(at, error, nth)])
    told = ended.status in {0, 1, 4} and not re.search("Traceback|the database was lost", ended.stderr)
    return ([] if told else [f"{ended}"]) + sorted(await worn.broken() - broken)
