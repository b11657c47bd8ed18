"""The rows of the benchmark: what each measures, its floor, and its goal, written once."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.protections import PROTECT
from tests.benchmark.chats import purge_of_chats
from tests.benchmark.frame import Case, Goal, Row, Sample, run_program, timed
from tests.benchmark.store import NAMES, SQL, Bench, Shape, Store, execute, media_uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Cases = Callable[["Bench"], Iterator[Case]]

_KEEP: Final = {"grace": "24h"}
_GONE: Final = {"grace": "0s"}
_EACH: Final = len(NAMES)
_VERIFIED: Final = 64 * 1024  # bytes of a file whose content is read
_IDLE_SECONDS: Final = 10.0


def _ratio(limit: float, on: str = "") -> Goal:
    return Goal(limit, "× floor", lambda ours, floor: ours.seconds / floor.seconds, on=on)


def _rate(limit: float, on: str) -> Goal:
    return Goal(
        limit, "media/s", lambda ours, _: ours.counted["media"] / ours.seconds, "", at_least=True, on=on
    )


def _seconds(limit: float) -> Goal:
    return Goal(limit, "s", lambda ours, _: ours.seconds)


def _counted(limit: float, name: str, unit: str, what: str = "") -> Goal:
    return Goal(limit, unit, lambda ours, _: ours.counted[name], what)


def _passes(what: str, share: Callable[[Bench], int], *, purge: bool) -> Cases:
    """Return a pass over everything, to the last unlink or to the last rename, on each file system."""

    def cases(bench: Bench) -> Iterator[Case]:
        media = share(bench)
        for disk in bench.disks:

            def ours(disk: str = disk) -> Sample:
                store = bench.store(Shape(media), disk)
                sample = store.remove(media, 0 if purge else _EACH * media, **(_GONE if purge else _KEEP))
                return sample._replace(counted={"media": media})

            def floor(disk: str = disk) -> Sample:
                return bench.store(Shape(media), disk).delete_all()

            yield Case(f"{what}, {media:,} media", ours, floor, disk)

    return cases


def _with_peer(cases: Cases) -> Cases:
    """Add the peer, at a tenth of the size: a commit for each row takes its time."""

    def both(bench: Bench) -> Iterator[Case]:
        yield from cases(bench)
        media = max(1, bench.media // 10)

        def peer() -> Sample:
            store = bench.store(Shape(media))
            command = [sys.executable, "-m", "tests.benchmark.peer", store.dsn, str(store.media_path)]
            return timed(bench.server, lambda: run_program(command))

        what = f"the algorithm of cleanmedia, {media:,} media"
        yield Case(what, peer, lambda: bench.store(Shape(media)).delete_all(), is_peer=True)

    return both


def _protections(bench: Bench) -> Iterator[Case]:
    media = 10 * bench.media
    shape = Shape(media, every=10, state_events=5 * media)
    due = len(shape.due)

    def once(**keys: Any) -> Sample:
        return bench.store(shape).remove(due, _EACH * due, **_KEEP, **keys)

    yield Case(
        f"a pass with every protection, {media:,} rows, {5 * media:,} state events",
        partial(once, protect=list(PROTECT), messages_in=["joined_rooms"]),
        partial(once, protect=[]),
    )


def _survey(bench: Bench) -> Iterator[Case]:
    media = 100 * bench.media
    store = bench.store(Shape(media, every=100))
    read = f"SET max_parallel_workers_per_gather = 0; {SQL['read']}"
    yield Case(
        f"survey and plan of {media:,} rows, 1 % due",
        lambda: store.run("plan", "--json")[0],
        lambda: timed(bench.server, lambda: execute(store.dsn, read)),
    )


def _restore(bench: Bench) -> Iterator[Case]:
    shape = Shape(bench.media)
    for disk in bench.disks:

        def ours(disk: str = disk) -> Sample:
            store = bench.store(shape, disk)
            store.remove(bench.media, _EACH * bench.media, **_KEEP)
            sample, document = store.run("quarantine", "restore", "--all", "--json", **_KEEP)
            (restored,) = document["restores"]
            if len(restored["restored"]) != bench.media:
                raise SystemExit(f"{len(restored['restored'])} were restored: this is no measurement")
            return sample

        def floor(disk: str = disk) -> Sample:
            return bench.store(shape, disk).delete_all()

        yield Case(f"`restore --all` of {bench.media:,} media", ours, floor, disk)


def _beside(bench: Bench, store: Store, script: str, words: Sequence[str]) -> tuple[Case, ...]:
    """Return an audit beside a script of the shell, which gets the media directory."""
    media = store.shape.media

    def ours() -> Sample:
        sample, document = store.run("audit", "--json", *words)
        (report,) = document["audits"]
        if (report["rows"], report["blobs"], report["findings"]) != (media, media, {}):
            raise SystemExit(f"{report}: this is no measurement")
        return sample

    def floor() -> Sample:
        command = ["sh", "-c", script, "sh", str(store.media_path)]
        return timed(bench.server, lambda: run_program(command))

    return (Case(f"`audit{' --verify-content' if words else ''}`, {media:,} media", ours, floor),)


def _audit(bench: Bench) -> Iterator[Case]:
    for media in (bench.media, 10 * bench.media):
        yield from _beside(
            bench, bench.store(Shape(media)), "find \"$1\" -type f -printf '%s\\n' | wc -l", []
        )


def _verify(bench: Bench) -> Iterator[Case]:
    store = bench.store(Shape(max(1, bench.media // 10), size=_VERIFIED))
    script = 'find "$1" -name file -print0 | xargs -0 -n 500 -P 2 sha256sum | wc -l'
    yield from _beside(bench, store, script, ["--verify-content", "--rate", "1TiB"])


def _one_item(bench: Bench) -> Iterator[Case]:
    store = bench.store(Shape(10 * bench.media, every=10))
    numbers = iter(store.shape.due)

    def delete() -> tuple[Sample, str]:
        uri = media_uri(next(numbers))
        return store.run("delete", "--media", uri, "--yes", "--json", "--quiet", **_KEEP)[0], uri

    def restore() -> Sample:
        _, uri = delete()
        return store.run("quarantine", "restore", "--media", uri, "--json", **_KEEP)[0]

    # The first one makes the ledger and the index.
    delete()
    of_one = f"one item on a store of {store.shape.media:,}"
    yield Case(f"`delete` of {of_one}", lambda: delete()[0])
    yield Case(f"`quarantine restore` of {of_one}", restore)
    yield Case(
        f"`plan --explain` of {of_one}", lambda: store.run("plan", "--explain", media_uri(next(numbers)))[0]
    )


def _startup(word: str) -> Cases:
    def cases(bench: Bench) -> Iterator[Case]:
        store = bench.store(Shape(bench.small))
        yield Case(f"`{word}`", lambda: store.run(word)[0])

    return cases


def _system_calls(bench: Bench) -> Iterator[Case]:
    media = max(1, bench.media // 5)

    def ours() -> Sample:
        if shutil.which("strace") is None:
            raise SystemExit("system_calls needs strace: apt install strace")
        store = bench.store(Shape(media))
        counts = bench.directory / "counts"
        bench.prefix = ("strace", "-f", "-c", "-o", str(counts))
        try:
            sample = store.remove(media, 0, **_GONE)
        finally:
            bench.prefix = ()
        calls: dict[str, float] = {}
        for line in counts.read_text().splitlines():
            fields = line.split()
            if len(fields) >= 5 and fields[3].isdigit():
                calls[fields[-1]] = int(fields[3]) / media
        calls["fsync"] = sum(calls.get(name, 0) for name in ("fsync", "fdatasync", "syncfs"))
        # The memory is that of strace.
        return sample._replace(memory=0.0, counted=calls | {"futex": calls.get("futex", 0)})

    yield Case(f"system calls of a pass to the last unlink, {media:,} media", ours)


def _of_share(bench: Bench, media: int) -> Sample:
    """Time a pass over a store of which 1 % is due."""
    shape = Shape(media, every=100)
    return bench.store(shape).remove(len(shape.due), _EACH * len(shape.due), **_KEEP)


def _memory(bench: Bench) -> Iterator[Case]:
    for media in (max(1, bench.media // 10), bench.media, 10 * bench.media, 100 * bench.media):
        yield Case(f"a pass, {media:,} rows, 1 % due", partial(_of_share, bench, media))


def _growth(bench: Bench) -> Iterator[Case]:
    few, many = bench.media, 100 * bench.media
    yield Case(
        f"a pass with 1 % due: time per row at {many:,}",
        lambda: _of_share(bench, many)._replace(counted={"rows": many}),
        lambda: _of_share(bench, few)._replace(counted={"rows": few}),
        beside=f"the same at {few:,} rows",
    )


def _readers(bench: Bench) -> Iterator[Case]:
    shape = Shape(bench.media, every=2)

    def beside(work: Callable[[Store], object]) -> Sample:
        store = bench.store(shape, files=range(bench.media))
        command = [sys.executable, "-m", "tests.benchmark.readers", store.dsn, str(store.media_path)]
        with subprocess.Popen(
            [*command, str(bench.media)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as readers:
            assert readers.stdout is not None
            readers.stdout.readline()
            sample = timed(bench.server, lambda: work(store))
            told, _ = readers.communicate()
        return sample._replace(counted={"p99": float(told)})

    def idle(_: Store) -> None:
        time.sleep(min(_IDLE_SECONDS, 1 + bench.media / 1000))

    yield Case(
        f"99th percentile of dendrite-like readers beside a pass over {len(shape.due):,} of {bench.media:,} media",
        lambda: beside(
            lambda store: store.remove(len(shape.due), _EACH * (bench.media - len(shape.due)), **_GONE)
        ),
        lambda: beside(idle),
    )


_DELETE_ALL = "one bulk DELETE a table, and `rm -rf`"
_P99 = Goal(1.2, "× without", lambda ours, floor: ours.counted["p99"] / floor.counted["p99"])
_PER_ROW = Goal(
    1.2,
    "× the small one's",
    lambda ours, floor: (ours.seconds / ours.counted["rows"]) / (floor.seconds / floor.counted["rows"]),
)
_PEAK = Goal(80, "MiB", lambda ours, _: ours.memory)

ROWS: Final = (
    Row(
        "pass_unlink",
        _with_peer(_passes("pass to the last unlink", lambda bench: bench.media, purge=True)),
        _DELETE_ALL,
        (_ratio(1.0, "disk"), _rate(10_000, "tmpfs")),
    ),
    Row(
        "pass_rename",
        _passes("pass to the last rename", lambda bench: bench.media, purge=False),
        _DELETE_ALL,
        (_ratio(0.35),),
    ),
    Row(
        "small_store",
        _passes("pass to the last unlink", lambda bench: bench.small, purge=True),
        _DELETE_ALL,
        (_ratio(1.5),),
    ),
    Row(
        "small_store",
        _passes("pass to the last rename", lambda bench: bench.small, purge=False),
        _DELETE_ALL,
        (_ratio(1.5),),
    ),
    Row("protections", _protections, "a pass with none", (_ratio(1.3),)),
    Row("survey", _survey, "one read of both tables by one process of the server", (_ratio(2.0),)),
    Row("restore", _restore, _DELETE_ALL, (_ratio(1.0),)),
    Row("audit", _audit, "`find`, with the size of each file", (_ratio(2.0),)),
    Row("verify_content", _verify, "`sha256sum` of the same in two processes", (_ratio(1.2),)),
    Row("one_item", _one_item, "", (_seconds(1.0),)),
    Row("startup", _startup("--version"), "", (_seconds(0.15),)),
    Row("startup", _startup("--help"), "", (_seconds(0.3),)),
    Row("startup", _startup("status"), "", (_seconds(0.6),)),
    Row(
        "system_calls",
        _system_calls,
        "",
        (
            _counted(25, "total", "per item", "all"),
            _counted(0.02, "fsync", "per item", "fsync, fdatasync and syncfs"),
            _counted(1, "futex", "per item", "futex"),
        ),
    ),
    Row("memory", _memory, "", (_PEAK,)),
    Row("readers", _readers, "the same readers alone", (_P99,)),
    Row("growth", _growth, "", (_PER_ROW,)),
    Row("chats", purge_of_chats, "one bulk DELETE a table", (_ratio(1.2),)),
)
