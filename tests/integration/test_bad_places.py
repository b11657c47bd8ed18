"""A database or a directory that is not as it should be: a clear word, the exit status, and nothing lost."""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from retentiond.targets.dendrite_media.quarantine import released_rows
from tests.support.command_line import RealCommandLine, log_entries
from tests.support.file_systems import bound

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.command_line import Connection
    from tests.support.store import DendriteStore

UNPRIVILEGED = 65534


@pytest.fixture
def line(tmp_path: Path, database: str, media_path: Path) -> RealCommandLine:
    """A store of four media, three of them due."""
    line = RealCommandLine(tmp_path, database=database, media_path=media_path)

    async def fill(store: DendriteStore, _connection: Connection) -> None:
        for _ in range(3):
            await store.add()
        await store.add(origin="here.test", user_id="@alice:here.test")

    line.arrange(fill)
    line.keys = {"limits": {"max_share": 1.0}, "pace": {"batch": 1}}
    return line


def media_ids(line: RealCommandLine) -> list[str]:
    async def look(store: DendriteStore, _connection: Connection) -> list[str]:
        assert await store.broken_references() == []
        return sorted(key.media_id for key in await store.rows())

    return line.arrange(look)


@pytest.fixture
def guest(line: RealCommandLine) -> Iterator[str]:
    """A role that may do nothing but connect."""
    role = f"guest_{urlsplit(line.database).path[1:]}"
    line.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'secret-of-the-guest'")
    owner = line.database
    line.database = (
        urlsplit(owner)
        ._replace(netloc=f"{role}:secret-of-the-guest@{urlsplit(owner).netloc.partition('@')[2]}")
        .geturl()
    )
    yield role
    line.database = owner
    line.execute(f"DROP OWNED BY {role}")
    line.execute(f"DROP ROLE {role}")


def as_owner(line: RealCommandLine, owner: str, statement: str) -> None:
    guests, line.database = line.database, owner
    line.execute(statement)
    line.database = guests


@pytest.mark.parametrize(
    ("table", "status"),
    [("mediaapi_media_repository", 4), ("mediaapi_thumbnail", 4), ("userapi_profiles", 3)],
)
def test_rows_that_row_security_hides_are_not_taken_for_none(
    line: RealCommandLine, database: str, guest: str, table: str, status: int
) -> None:
    as_owner(line, database, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {guest}")
    as_owner(line, database, f"GRANT CREATE ON DATABASE {urlsplit(database).path[1:]} TO {guest}")
    as_owner(line, database, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    told = line.type("once", "--yes")
    assert told.status == status
    words = " ".join((told.stdout + told.stderr).replace("│", " ").split())
    assert "row-level security policy" in words
    assert table in words
    line.database = database
    assert len(media_ids(line)) == 4


def test_without_the_right_to_make_the_schema_the_grant_is_printed_and_helps(
    line: RealCommandLine, database: str, guest: str
) -> None:
    tables = f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {guest}"
    as_owner(line, database, tables)
    for command in (("once",), ("check-config", "--connect")):
        told = line.type(*command)
        assert told.status == 4
        (grant,) = [text for text in told.stderr.splitlines() if "GRANT CREATE" in text]
        assert "secret-of-the-guest" not in told.stderr + told.stdout
    # A plan needs no schema.
    assert line.type("plan").status == 0
    as_owner(line, database, grant.partition("run: ")[2])
    assert line.type("once").status == 0
    line.database = database
    assert len(media_ids(line)) == 1


def test_lists_that_a_role_may_not_read_are_4_and_name_the_right(
    line: RealCommandLine, database: str, guest: str
) -> None:
    guests, line.database = line.database, database
    assert line.type("hold", "add", "--origin", "there.test").status == 0
    line.database = guests
    for command in (("hold", "list"), ("quarantine", "list")):
        told = line.type(*command)
        assert told.status == 4
        assert "permission denied for schema retentiond; grant that right" in told.stderr


def test_who_only_looks_may_be_read_only_by_default_and_check_config_tells_that_a_pass_may_not(
    line: RealCommandLine, database: str
) -> None:
    line.execute(f'ALTER DATABASE "{urlsplit(database).path[1:]}" SET default_transaction_read_only = on')
    for command in (("plan",), ("plan", "--what-if", "7d"), ("audit",)):
        assert line.type(*command).status == 0
    told = line.type("check-config", "--connect")
    assert told.status == 4
    assert "read-only by default, and a pass writes" in told.stderr
    assert line.type("once").status == 4


def test_a_directory_that_is_mounted_read_only_is_called_so_and_not_a_matter_of_the_user(
    line: RealCommandLine, media_path: Path
) -> None:
    with bound(media_path, media_path, "ro"):
        checked = line.type("check-config", "--connect")
    assert checked.status == 4
    assert "the file system is read-only" in checked.stderr
    assert "as the user of dendrite" not in checked.stderr


def test_without_the_right_to_delete_nothing_goes_and_the_right_is_named(
    line: RealCommandLine, database: str, guest: str
) -> None:
    name = urlsplit(database).path[1:]
    as_owner(
        line,
        database,
        f"GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA public TO {guest};"
        f'GRANT CREATE ON DATABASE "{name}" TO {guest}',
    )
    told = line.type("once", "--json")
    assert told.status == 4
    assert "permission denied for table mediaapi_" in told.stderr
    assert told.document["passes"][0]["state"] == "interrupted"
    assert told.document["passes"][0]["removed"]["items"] == 0
    line.database = database
    assert len(media_ids(line)) == 4


@pytest.mark.parametrize("command", ["plan", "once"])
def test_a_database_that_is_down_is_4_and_is_told_without_its_password(
    line: RealCommandLine, command: str
) -> None:
    line.database = "postgresql://dendrite:hunter2@127.0.0.1:1/dendrite"
    told = line.type(command, "--json")
    assert told.status == 4
    assert "cannot be reached" in told.stderr
    assert "(dendrite at 127.0.0.1:1 as role dendrite, configured in " in told.stderr
    assert "config.yaml:" in told.stderr
    assert "start PostgreSQL" in told.stderr
    assert "hunter2" not in told.stderr + told.stdout
    assert told.document == {"passes": []}


@pytest.mark.parametrize(
    "command",
    [("plan",), ("once",), ("status",), ("check-config", "--connect"), ("audit",), ("audit", "--repair")],
)
def test_a_database_without_dendrites_tables_is_one_sentence_that_names_it(
    line: RealCommandLine, command: tuple[str, ...]
) -> None:
    line.execute("DROP TABLE mediaapi_media_repository, mediaapi_thumbnail CASCADE")
    told = line.type(*command)
    assert told.status == 4
    [sentence] = [
        text for text in told.stderr.splitlines() if "mediaapi_" in text and not text.startswith("{")
    ]
    assert (
        f"the database {urlsplit(line.database).path[1:]} has no table mediaapi_media_repository" in sentence
    )
    assert "no table mediaapi_thumbnail" in sentence
    assert "under `databases:`" in sentence
    # Nothing is made in a database that is not dendrite's.
    assert not line.arrange(has_ledger)


async def has_ledger(_store: DendriteStore, connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT to_regnamespace('retentiond') IS NOT NULL"))


@pytest.mark.parametrize(
    "command", [("plan",), ("once",), ("audit",), ("check-config", "--connect"), ("once", "--dry-run")]
)
def test_before_the_first_upload_there_is_no_media_directory_and_nothing_to_do(
    line: RealCommandLine, media_path: Path, command: tuple[str, ...]
) -> None:
    line.execute("DELETE FROM mediaapi_media_repository")
    shutil.rmtree(media_path)
    told = line.type(*command)
    assert told.status == 0, told.stderr
    if command[0] in {"plan", "once"}:
        assert told.stdout.count("dendrite makes") == 1
    assert not media_path.exists()


@pytest.mark.parametrize("command", [("plan",), ("once",), ("audit",), ("check-config", "--connect")])
def test_a_missing_media_directory_is_an_error_where_the_database_has_media(
    line: RealCommandLine, media_path: Path, command: tuple[str, ...]
) -> None:
    moved = media_path.rename(media_path.with_name("moved"))
    told = line.type(*command)
    assert told.status == 4
    assert "check that it is mounted" in told.stderr
    moved.rename(media_path)
    assert len(media_ids(line)) == 4


def test_a_media_directory_that_is_gone_after_a_pass_is_an_error_also_without_rows(
    line: RealCommandLine, media_path: Path
) -> None:
    assert line.type("once").status == 0
    line.execute("DELETE FROM mediaapi_media_repository")
    media_path.rename(media_path.with_name("moved"))
    assert line.type("once").status == 4


@pytest.mark.parametrize(
    "command",
    [
        ("plan",),
        ("once",),
        ("audit",),
        ("check-config", "--connect"),
        ("report", "--html", "{directory}/report.html"),
        ("hold", "add", "--room", "!r:there.test"),
    ],
)
def test_without_the_right_to_make_temporary_tables_the_grant_is_printed_and_helps(
    line: RealCommandLine, database: str, guest: str, command: tuple[str, ...]
) -> None:
    name = urlsplit(database).path[1:]
    as_owner(
        line,
        database,
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {guest}; GRANT CREATE ON DATABASE {name} TO {guest};"
        f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
    )
    told = line.type(*(word.replace("{directory}", str(line.directory)) for word in command))
    assert told.status == 4
    assert "protect" not in told.stderr
    text = " ".join((told.stdout + told.stderr).split())
    [grant] = set(re.findall(r"run: (GRANT TEMPORARY ON DATABASE \S+ TO [^\s;]+;)", text))
    as_owner(line, database, grant)
    assert line.type("plan").status == 0
    line.database = database
    assert len(media_ids(line)) == 4


def test_a_database_that_goes_down_in_a_pass_rolls_its_batch_back_and_the_next_pass_goes_on(
    line: RealCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = released_rows.release
    batches = 0

    async def release_then_lose(*batch: Any) -> Any:
        nonlocal batches
        released = await release(*batch)
        batches += 1
        if batches == 2:
            other = await asyncpg.connect(line.database)
            # The pass may notice, and give this up, before the answer is there.
            try:
                await other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name = 'retentiond'"
                )
            finally:
                await other.close()
        return released

    monkeypatch.setattr(released_rows, "release", release_then_lose)
    told = line.type("once", "--json")
    assert told.status == 4
    (report,) = told.document["passes"]
    assert (report["state"], report["removed"]["items"]) == ("interrupted", 1)
    assert len(media_ids(line)) == 3
    (finished,) = [entry for entry in log_entries(told.stderr) if entry["event"] == "pass_finished"]
    assert finished["state"] == "interrupted"
    monkeypatch.undo()
    told = line.type("once", "--json")
    assert told.status == 0
    assert told.document["passes"][0]["removed"]["items"] == 2
    assert len(media_ids(line)) == 1

    async def nothing_is_open(store: DendriteStore, connection: Connection) -> None:
        assert await store.orphan_files() == []
        states = await connection.fetch("SELECT DISTINCT state FROM retentiond.entry")
        assert [row["state"] for row in states] == ["quarantined"]
        passes = await connection.fetch("SELECT state FROM retentiond.pass ORDER BY pass_id")
        assert [row["state"] for row in passes] == ["interrupted", "finished"]

    line.arrange(nothing_is_open)


def test_a_lock_that_dendrite_holds_too_long_ends_a_pass_as_interrupted(
    line: RealCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait_in_vain(*_batch: Any) -> None:
        raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")

    monkeypatch.setattr(released_rows, "release", wait_in_vain)
    told = line.type("once", "--json")
    assert told.status == 4
    assert told.document["passes"][0]["state"] == "interrupted"
    assert "lock timeout" in told.stderr
    assert len(media_ids(line)) == 4


def test_a_media_directory_that_is_a_file_is_told(line: RealCommandLine, media_path: Path) -> None:
    moved = media_path.with_name("moved")
    media_path.rename(moved)
    media_path.write_bytes(b"")
    for command in ("plan", "once"):
        told = line.type(command)
        assert told.status == 4
        assert "Not a directory" in told.stderr
    media_path.unlink()
    moved.rename(media_path)
    assert len(media_ids(line)) == 4


@pytest.mark.parametrize("unwritable", [".", "blobs"])
def test_what_this_user_may_not_change_stays_with_its_rows(
    line: RealCommandLine, media_path: Path, unwritable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # asyncpg looks for certificates in the home of root, where nobody else may look.
    monkeypatch.setenv("HOME", str(tmp_path))
    blobs = [path for path in media_path.rglob("*") if path.is_dir()]
    # What is imported on the way of a pass is imported as whoever we are.
    keys, line.keys = line.keys, line.keys | {"policies": []}
    assert line.type("once", "--json").status == 0
    line.keys = keys
    paths = [media_path, *media_path.rglob("*")]
    with without_rights([*paths, line.config]):
        refused = [media_path] if unwritable == "." else blobs
        for path in refused:
            path.chmod(0o550)
        told = line.type("once", "--json")
        for path in refused:
            path.chmod(0o750)
    assert told.document["passes"], told.stderr
    (report,) = told.document["passes"]
    if unwritable == ".":
        assert (told.status, report["state"]) == (4, "interrupted")
        assert "directories cannot be made and renamed" in told.stderr
        assert "run retentiond as the user of dendrite" in told.stderr
    else:
        assert (told.status, report["state"]) == (1, "finished_with_failures")
        assert report["failed"] == {"items": 3, "by_reason": {"not_movable": 3}}
        assert "may not move its directory" in told.stderr
    assert len(media_ids(line)) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can have files of two users")
def test_another_user_than_the_owner_of_the_media_learns_which_user_to_set(
    line: RealCommandLine, media_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert line.type("check-config", "--connect").status == 0
    with without_rights([line.config]):
        said = line.type("check-config", "--connect").stderr
    assert f"{media_path} belongs to user and group 0:0, and this process runs as 65534:65534" in said
    assert 'set `User=root` in the unit, or `user: "0:0"` in the compose file' in said


@contextmanager
def without_rights(paths: list[Path]) -> Iterator[None]:
    """Root takes the part of a user whom rights bind, and who owns these; all others are bound already."""
    if os.geteuid() != 0:
        yield
        return
    for path in paths:
        os.chown(path, UNPRIVILEGED, UNPRIVILEGED)
    for path in paths[0].parents:
        path.chmod(path.stat().st_mode | 0o011)
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(UNPRIVILEGED)
    os.seteuid(UNPRIVILEGED)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def test_a_store_that_was_moved_away_in_a_pass_is_not_taken_for_one_without_files(
    line: RealCommandLine, media_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere an unmounted disk made every file look missing, and every row was dropped."""
    shutil.rmtree(media_path)
    media_path.mkdir()
    told = line.type("once", "--yes", "--json")
    assert told.status == 3
    assert told.document["passes"][0]["refused"]["limit"] == "empty_media_directory"
    (media_path / "a").mkdir()
    told = line.type("once", "--json")
    assert told.status == 3
    assert told.document["passes"][0]["refused"]["limit"] == "max_missing_files"


def test_a_quarantine_that_cannot_be_renamed_into_is_told_before_anything_is_released(
    line: RealCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bind mount has the device number of what it shows, and answers only a try."""
    rename = os.rename

    def across(source: str, target: str, **places: Any) -> None:
        if source.endswith("-probe"):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target, **places)

    monkeypatch.setattr(os, "rename", across)
    told = line.type("once", "--json")
    assert (told.status, told.document["passes"][0]["state"]) == (4, "interrupted")
    assert "keep the media on one plain file system" in told.stderr
    assert len(media_ids(line)) == 4
    assert line.media_path is not None
    assert [path.name for path in line.media_path.iterdir() if "probe" in path.name] == []


def test_a_file_system_without_hard_links_is_told_before_anything_is_released(
    line: RealCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_names: str, **_places: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", unknown)
    told = line.type("once", "--json")
    assert (told.status, told.document["passes"][0]["state"]) == (4, "interrupted")
    assert "move the media to a file system with hard links" in told.stderr
    assert len(media_ids(line)) == 4
    assert line.media_path is not None
    assert [path.name for path in line.media_path.rglob("*probe*")] == []


@pytest.mark.parametrize("denied", ["directory", "file"])
@pytest.mark.parametrize(
    "command",
    [
        ("plan",),
        ("once",),
        ("audit",),
        ("quarantine", "accept", "media"),
        ("quarantine", "accept", "media", "--yes"),
        ("quarantine", "restore", "--all"),
        ("quarantine", "purge", "--yes"),
    ],
)
def test_a_user_who_may_not_enter_the_quarantine_is_not_told_of_another_disk(
    line: RealCommandLine,
    media_path: Path,
    command: tuple[str, ...],
    denied: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert line.type("once", "--json").status == 0
    own = media_path / ".retentiond"
    closed = own if denied == "directory" else own / "store"
    # What is closed stays root's; where nobody is root, its owner may not either.
    closed.chmod(0)
    others = [path for path in media_path.rglob("*") if closed not in (path, *path.parents)]
    with without_rights([media_path, *others, line.config]):
        told = line.type(*command)
    closed.chmod(0o700)
    assert told.status == 4, told
    assert "EACCES: Permission denied; run retentiond as the user of dendrite" in told.stderr
    assert "quarantine accept" not in told.stderr + told.stdout
    assert "another_store" not in told.stderr + told.stdout


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENOMEM, errno.EPERM]
)
def test_an_error_of_the_disk_is_never_a_finding(
    line: RealCommandLine, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert line.type("once", "--json").status == 0
    real = os.open

    def fail(path: Any, *arguments: Any, **keywords: Any) -> int:
        if path == ".retentiond":
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **keywords)

    for command in (("plan",), ("once",), ("quarantine", "accept", "media"), ("audit",)):
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", fail)
            told = line.type(*command)
        assert told.status == 4, told
        assert f"{errno.errorcode[number]}: {os.strerror(number)}; " in told.stderr
        assert "another_store" not in told.stderr + told.stdout
    assert len(media_ids(line)) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("quarantine", "list"),
        ("quarantine", "restore", "--all"),
        ("quarantine", "forget", "--media", "mxc://there.test/a"),
        ("hold", "list"),
        ("hold", "add", "--origin", "there.test"),
        ("records", "verify"),
        ("records", "export"),
        ("status",),
    ],
)
def test_a_database_without_dendrites_tables_is_not_taken_for_one_without_passes(
    line: RealCommandLine, command: tuple[str, ...]
) -> None:
    line.execute("DROP TABLE mediaapi_media_repository, mediaapi_thumbnail")
    told = line.type(*command)
    assert told.status == 4
    assert "has no table mediaapi_media_repository and no table mediaapi_thumbnail" in told.stderr
    # It fails where something made our schema in a database that is not dendrite's.
    line.execute("CREATE SCHEMA retentiond")


def test_a_right_that_a_pass_lacks_in_the_ledger_is_found_by_check_config_and_its_grant_helps(
    line: RealCommandLine, database: str, guest: str
) -> None:
    guests, line.database = line.database, database
    assert line.type("once").status == 0
    line.database = guests
    as_owner(
        line,
        database,
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {guest}; GRANT ALL ON SCHEMA retentiond TO {guest};"
        f"GRANT ALL ON ALL TABLES IN SCHEMA retentiond TO {guest}",
    )
    checked = line.type("check-config", "--connect")
    assert checked.status == 4
    text = " ".join(checked.stderr.split())
    assert line.type("once").status == 4
    as_owner(line, database, " ".join(re.findall(r"GRANT ALL ON ALL \S+ IN SCHEMA retentiond TO \S+;", text)))
    assert "may not use retentiond." not in line.type("check-config", "--connect").stderr
    assert line.type("once").status == 0
