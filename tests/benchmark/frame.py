"""What every row of the benchmark shares: samples taken in turn, goals, and the lines of the document.

Each run measures the floor first and the product next; ratios are taken within a run, and told as a median with the
smallest and the largest. Beside each ratio of time stands that of processor time, of the server and of the command
together: where other programs run on the machine, only that can be compared.
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from retentiond.demo.postgres import EmbeddedPostgres

COLUMNS: Final = (
    *("row", "what", "beside", "goal", "figure (spread)", "processor time", "seconds", "peak MiB"),
    *("command", "commit"),
)
_WATCH_SECONDS: Final = 0.02
_MARKERS: Final = ("<!-- figures -->", "<!-- end of figures -->")


class Sample(NamedTuple):
    """One measured run. `counted` holds figures that are no times, by name."""

    seconds: float
    processor: float = 0.0
    memory: float = 0.0
    counted: dict[str, float] = {}  # noqa: RUF012 - never changed


@dataclass(frozen=True)
class Goal:
    """A figure of a row and its bound; `of` computes it from a sample of ours and one of the floor."""

    limit: float
    unit: str
    of: Callable[[Sample, Sample], float]
    what: str = ""
    at_least: bool = False
    on: str = ""
    """`tmpfs` or `disk` if the goal is only for one of them."""

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:,g} {self.unit}"


@dataclass(frozen=True)
class Case:
    """A row at one size and on one file system. Without a floor only the product runs."""

    what: str
    ours: Callable[[], Sample]
    floor: Callable[[], Sample] | None = None
    file_system: str = ""
    beside: str = ""
    """The floor in words, where it is not the row's."""
    is_peer: bool = False
    """Another program in our place: its figures have no goal."""


def timed(server: EmbeddedPostgres, work: Callable[[], object]) -> Sample:
    """Take the time of some work, with the processor time of it, its children and the server."""
    before, began = _processor(server), time.monotonic()
    work()
    seconds = time.monotonic() - began
    return Sample(seconds, _processor(server) - before)


def run_program(command: Sequence[str], **options: Any) -> tuple[str, float]:
    """Run a program; return its standard output and its peak memory in MiB. Raise SystemExit if it fails.

    The options are those of Popen.
    """
    peak, ended = 0, Event()

    def watch() -> None:
        # The kernel's own account of an ended child begins with what this process had when it forked.
        nonlocal peak
        while not ended.wait(_WATCH_SECONDS):
            with suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
                peak = max(peak, int(found[1]) if found else 0)

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        watcher = Thread(target=watch)
        watcher.start()
        said, _ = process.communicate()
        ended.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {process.returncode}: {said}")
    return said, peak / 1024


def _processor(server: EmbeddedPostgres) -> float:
    """Return the processor seconds so far of this process and the server, with their children, also ended ones."""
    here = os.times()
    running = [_fields(path) for path in Path("/proc").glob("[0-9]*/stat")]
    ticks = sum(sum(map(int, one[11:13])) for one in running if one[1:2] == [str(server.process_id)])
    ticks += sum(map(int, _fields(Path(f"/proc/{server.process_id}/stat"))[11:15]))
    return sum(here[:4]) + ticks / os.sysconf("SC_CLK_TCK")


def _fields(path: Path) -> list[str]:
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []


class Line(NamedTuple):
    """A line of the document, in the order of its columns."""

    row: str
    cells: tuple[str, ...]

    def __str__(self) -> str:
        return f"| {' | '.join((self.row, *self.cells))} |"


@dataclass(frozen=True)
class Row:
    """One row: its cases, which are made from a `Bench`, the floor in words, and its goals."""

    name: str
    cases: Callable[[Any], Iterator[Case]]
    beside: str
    goals: tuple[Goal, ...]


def measure(name: str, row: Row, case: Case, runs: int, command: str, commit: str) -> Iterator[Line]:
    """Take the samples of a case in turn, and yield a line of that name for each of the row's goals."""
    pairs = [(case.floor() if case.floor else Sample(1.0), case.ours()) for _ in range(runs)]
    floors, ours = zip(*pairs, strict=True)
    place = "tmpfs" if case.file_system == "tmpfs" else "disk"
    goals = [goal for goal in row.goals if goal.on in {"", place}]
    seconds = f"{_median(ours):.2f}" + (f" / {_median(floors):.2f}" if case.floor else "")
    processor = statistics.median(one.processor / (floor.processor or 1) for floor, one in pairs)
    memory = max(one.memory for one in ours)
    for goal in goals:
        figures = sorted(goal.of(one, floor) for floor, one in pairs)
        figure = statistics.median(figures)
        met = case.is_peer or (figure >= goal.limit if goal.at_least else figure <= goal.limit)
        strong = "" if met else "**"
        cells = (
            ", ".join(word for word in (case.what, goal.what, case.file_system) if word),
            case.beside or row.beside,
            "" if case.is_peer else str(goal),
            f"{strong}{_figure(figure)}{strong} ({_figure(figures[0])}–{_figure(figures[-1])})",
            f"{processor:.2f} ×" if case.floor else f"{processor:.2f} s",
            seconds,
            f"{memory:.0f}" if memory else "",
            f"`{command}`",
            commit,
        )
        yield Line(name, cells)


def _median(samples: Sequence[Sample]) -> float:
    return statistics.median(sample.seconds for sample in samples)


def _figure(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def file_system(path: Path) -> str:
    """Return the type of the file system that holds a directory."""
    stat = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True)
    # stat does not tell the three apart.
    return stat.stdout.strip().replace("ext2/ext3", "ext4")


def machine(server: EmbeddedPostgres, file_systems: Sequence[str]) -> str:
    """Describe the machine in one line."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB, {', '.join(file_systems)}; "
        f"Linux {platform.release()}, PostgreSQL {server.version}, Python {platform.python_version()}"
    )


def commit_of(checkout: Path) -> str:
    """Return the commit of a checkout, with a plus where files of the package are changed."""
    git = ["git", "-C", str(checkout)]
    commit = subprocess.run(
        [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "retentiond"], check=False).returncode
    return commit.stdout.strip() + ("+" if changed else "")


def write(document: Path, lines: Sequence[Line], where: str) -> None:
    """Put the lines between the document's markers; those of the same row, and of other machines, make room."""
    text = document.read_text()
    before, _, rest = text.partition(_MARKERS[0])
    old, _, after = rest.partition(_MARKERS[1])
    rows = {line.row for line in lines}
    _, _, table_before = old.partition("| ---")
    kept = [line for line in table_before.splitlines() if where in old and line.startswith("| ")]
    kept = [line for line in kept if line.split(" | ")[0].removeprefix("| ") not in rows]
    table = [f"Machine: {where}.", "", f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    table += [*kept, *map(str, lines)]
    document.write_text(before + _MARKERS[0] + "\n" + "\n".join(table) + "\n" + _MARKERS[1] + after)
