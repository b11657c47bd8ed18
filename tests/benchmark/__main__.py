"""How fast retentiond is against the floor, row by row.

    python -m tests.benchmark [ROW…] [--media 100000] [--runs 3] [--write] [--before DIRECTORY]

The product runs as the real command, in a process of its own, in turn with the fastest way to do the same without any
safety. The stores are made in the temporary directory (TMPDIR), and in memory (tmpfs) where there is one. `--media` is
the number of media of most rows; others are some multiple or share of it. `--before` measures another checkout: its
lines stand beside those of this one.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from retentiond.demo.postgres import EmbeddedPostgres
from tests.benchmark.frame import COLUMNS, Line, commit_of, file_system, machine, measure, write
from tests.benchmark.rows import ROWS
from tests.benchmark.store import Bench, compile_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
_MEMORY = Path("/dev/shm")


def main(arguments: Sequence[str] | None = None, document: Path = DOCUMENT) -> list[Line]:
    """Measure, and print a line for each figure as it is known; with `--write` put them into the document."""
    names = list(dict.fromkeys(row.name for row in ROWS))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of {', '.join(names)}; default: all")
    parser.add_argument("--media", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3, help="how often each pair is measured")
    parser.add_argument("--write", action="store_true", help=f"write the table of {DOCUMENT.name}")
    parser.add_argument("--before", type=Path, help="measure the package of this checkout, an older one")
    chosen = parser.parse_args(arguments)
    checkout = chosen.before or ROOT
    if unknown := set(chosen.rows) - set(names):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    compile_package(checkout)
    with ExitStack() as stack:
        # Without settings of its own but one: or else a large store is made by checkpoints alone.
        server = stack.enter_context(EmbeddedPostgres({"max_wal_size": "4GB"}))
        places = [Path(tempfile.gettempdir()), *([_MEMORY] if _MEMORY.is_dir() else [])]
        made = [tempfile.TemporaryDirectory(prefix="retentiond-benchmark-", dir=place) for place in places]
        disks = {file_system(path): path for path in (Path(stack.enter_context(one)) for one in made)}
        bench = Bench(server, disks, chosen.media, checkout)
        print(f"| {' | '.join(COLUMNS)} |")
        lines = []
        for line in _measure(bench, chosen.rows or names, chosen.runs):
            print(line, flush=True)
            lines.append(line)
        if chosen.write:
            write(document, lines, machine(server, list(disks)))
    return lines


def _measure(bench: Bench, names: Sequence[str], runs: int) -> Iterator[Line]:
    commit = commit_of(bench.checkout)
    for row in ROWS:
        if row.name in names:
            name = row.name + (", before" if bench.checkout != ROOT else "")
            command = f"{row.name} --media {bench.media} --runs {runs}"
            for case in row.cases(bench):
                yield from measure(name, row, case, runs, command, commit)


if __name__ == "__main__":
    main()
