"""What went wrong with other retention tools, on a real store: each test is named for the symptom.

An upgrade that wakes a policy over an old store, all at once, is refused: see
`test_a_first_pass_above_the_share_says_so_with_the_two_commands_and_check_config_beforehand`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from retentiond.ledger import clocks
from tests.support.command_line import RealCommandLine

if TYPE_CHECKING:
    from retentiond.model.media import MediaKey
    from tests.support.command_line import Connection
    from tests.support.store import DendriteStore

DAY = timedelta(days=1)


@pytest.fixture
def line(tmp_path: Path, database: str, media_path: Path) -> RealCommandLine:
    """A store of twenty media, one of them due."""
    line = RealCommandLine(tmp_path, database=database, media_path=media_path)

    async def fill(store: DendriteStore, _connection: Connection) -> None:
        for number in range(20):
            await store.add(age=100 * DAY if number == 0 else DAY, thumbnails=[(32, 32, "crop")])

    line.arrange(fill)
    return line


def rows(line: RealCommandLine) -> int:
    return len(line.arrange(lambda store, _connection: store.rows()))


def test_files_that_all_look_missing_drop_no_row(line: RealCommandLine, media_path: Path) -> None:
    """An upgrade that laid the files out otherwise, or a disk that is mounted a level too high."""
    for path in media_path.iterdir():
        (media_path / path.name / "v2").mkdir()
        for second in path.iterdir():
            if second.name != "v2":
                second.rename(path / "v2" / second.name)
    outcome = line.type("once", "--json")
    assert outcome.status == 3
    assert outcome.document["passes"][0]["refused"]["limit"] == "max_missing_files"
    assert rows(line) == 20


def test_one_wrong_clock_reading_moves_no_cutoff(
    line: RealCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class YearsAhead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Self:
            return super().now(tz) + 3000 * DAY

    monkeypatch.setattr(clocks, "datetime", YearsAhead)
    outcome = line.type("once", "--yes", "--json")
    assert outcome.status == 3
    assert outcome.document["passes"][0]["refused"]["limit"] == "clock_difference"
    assert rows(line) == 20


def test_local_time_is_not_taken_for_utc(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    name = line.database.rpartition("/")[2]
    line.execute(f"ALTER DATABASE {name} SET timezone TO 'Pacific/Kiritimati'")

    async def add(store: DendriteStore, _connection: Connection) -> tuple[MediaKey, MediaKey]:
        due = await store.add(age=30 * DAY + timedelta(hours=1))
        return due.key, (await store.add(age=30 * DAY - timedelta(hours=1))).key

    due, nearly_due = line.arrange(add)
    assert line.type("once").status == 0
    left = line.arrange(lambda store, _connection: store.rows())
    assert due not in left
    assert nearly_due in left


def everything(line: RealCommandLine, media_path: Path) -> tuple[dict[str, object], list[str]]:
    """All that a command could change: every row of every table and the catalogue, and every file's inode."""

    async def look(_store: DendriteStore, connection: Connection) -> list[str]:
        relations = await connection.fetch(
            "SELECT c.oid::regclass::text AS name, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_' ORDER BY 1"
        )
        found = []
        for relation in relations:
            kept = relation["relkind"] in {b"r", b"S"}
            content = await connection.fetch(f"SELECT * FROM {relation['name']}") if kept else []
            found.append(f"{relation['name']}: {sorted(map(str, content))}")
        return found

    files: dict[str, object] = {}
    for path in sorted(media_path.rglob("*")):
        about = path.lstat()
        files[str(path)] = (about.st_ino, about.st_mode, about.st_mtime_ns, about.st_ctime_ns, about.st_size)
    return files, line.arrange(look)


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--list"),
        ("once", "--dry-run", "--yes"),
        ("delete", "--origin", "there.test", "--dry-run", "--yes"),
    ],
)
def test_a_dry_run_is_dry(line: RealCommandLine, media_path: Path, words: tuple[str, ...]) -> None:
    before = everything(line, media_path)
    assert line.type(*words).status == 0
    assert everything(line, media_path) == before
    # Once more beside a ledger, which a refused pass makes.
    line.keys["limits"] = {"max_share": 0.01}
    assert line.type("once").status == 3
    del line.keys["limits"]
    before = everything(line, media_path)
    assert any("retentiond.pass" in table for table in before[1])
    assert line.type(*words).status == 0
    assert everything(line, media_path) == before


def test_a_check_of_the_configuration_leaves_nothing_but_the_time_at_which_it_tried_our_directory(
    line: RealCommandLine, media_path: Path
) -> None:
    def without_times_of_ours() -> tuple[dict[str, object], list[str]]:
        files, tables = everything(line, media_path)
        ours = [path for path in files if Path(path).is_relative_to(media_path / ".retentiond")]
        # It renames a directory in there and back.
        return files | {path: path for path in ours if Path(path).is_dir()}, tables

    before = everything(line, media_path)
    assert line.type("check-config", "--connect").status == 0
    assert everything(line, media_path) == before
    line.keys["limits"] = {"max_share": 0.01}
    assert line.type("once").status == 3
    del line.keys["limits"]
    before = without_times_of_ours()
    assert line.type("check-config", "--connect").status == 0
    assert without_times_of_ours() == before


def test_the_database_servers_clock_says_what_is_due(line: RealCommandLine) -> None:
    """The two clocks may differ by less than a minute; then the one counts that gave the rows their dates."""

    async def add(store: DendriteStore, connection: Connection) -> tuple[MediaKey, MediaKey]:
        # The server's clock is fifty seconds behind ours.
        await connection.execute(
            "ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO true_clock_timestamp;"
            "CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS"
            " $$ SELECT pg_catalog.true_clock_timestamp() - interval '50 seconds' $$"
        )
        due = await store.add(age=30 * DAY + timedelta(seconds=80))
        return due.key, (await store.add(age=30 * DAY + timedelta(seconds=20))).key

    due, nearly_due = line.arrange(add)
    assert line.type("once").status == 0
    left = line.arrange(lambda store, _connection: store.rows())
    assert due not in left
    assert nearly_due in left
