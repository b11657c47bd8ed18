"""A pass that looks wrong does not start: each refusal, what it says to do, and what goes over it."""

from __future__ import annotations

import ast
import errno
import os
import re
import shutil
import socket
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from retentiond.adapters import postgres
from retentiond.ledger import clocks, ledger
from retentiond.targets.dendrite_media.disk.tree import MediaTree
from tests.support.command_line import RealCommandLine, log_entries
from tests.support.media_target import REMOTE
from tests.support.postgres_proxy import pool_sessions

if TYPE_CHECKING:
    from collections.abc import Callable

    from retentiond.model.media import MediaKey
    from tests.support.command_line import Connection
    from tests.support.store import DendriteStore

DAYS = timedelta(days=1)


@pytest.fixture
def line(tmp_path: Path, database: str, media_path: Path) -> RealCommandLine:
    """A store of six media, three of them due, that has had a pass; one more has become due since."""
    line = RealCommandLine(tmp_path, database=database, media_path=media_path)

    async def fill(store: DendriteStore, _connection: Connection) -> None:
        for _ in range(3):
            await store.add()
            await store.add(age=1 * DAYS)

    async def add_due(store: DendriteStore, _connection: Connection) -> None:
        await store.add()

    line.arrange(fill)
    assert line.type("once").status == 0
    line.arrange(add_due)
    return line


def state(line: RealCommandLine) -> tuple[set[MediaKey], set[str]]:
    async def look(store: DendriteStore, _connection: Connection) -> tuple[set[MediaKey], set[str]]:
        return set(await store.rows()), set(store.files())

    return line.arrange(look)


def other_device(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    first_level = MediaTree.first_level
    monkeypatch.setattr(
        MediaTree, "first_level", lambda tree: [(name, device + 1) for name, device in first_level(tree)]
    )


def other_quarantine_device(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MediaTree, "own_device", lambda tree: tree.device + 1)


def mounted_below(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MediaTree, "mounts_below", lambda _tree: ["a/b"])


def case_folded(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def folding(path: Any, *args: Any, dir_fd: int | None = None, **keys: Any) -> os.stat_result:
        if dir_fd is None or len(path) != 1 or path in os.listdir(dir_fd):
            return stat(path, *args, dir_fd=dir_fd, **keys)
        found = next((name for name in os.listdir(dir_fd) if name.lower() == path.lower()), path)
        # Some of them number one file anew for each name.
        mode, number, *others = stat(found, *args, dir_fd=dir_fd, **keys)
        return os.stat_result((mode, number + 1, *others))

    monkeypatch.setattr(os, "stat", folding)


def emptied(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in _media_path(line).iterdir():
        if path.name != ".retentiond":
            shutil.rmtree(path)
    (_media_path(line) / "lost+found").mkdir()


def other_store(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.execute("UPDATE retentiond.store SET store_id = gen_random_uuid()")


def no_mark(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    (_media_path(line) / ".retentiond/store").unlink()


OLDER = "UPDATE retentiond.store SET last_pass = 0; DELETE FROM retentiond.pass"


def older_database(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.execute(OLDER)


def clock_behind(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.execute("UPDATE retentiond.store SET last_pass_at = clock_timestamp() + interval '1 hour'")


def clock_far_off(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    class LaterClock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Self:
            return super().now(tz) + timedelta(minutes=2)

    monkeypatch.setattr(clocks, "datetime", LaterClock)


def clock_leapt(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.execute("UPDATE retentiond.host_clock SET wall_ahead = wall_ahead - 7200")


def unreadable_protection(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.execute("ALTER TABLE userapi_profiles RENAME TO gone")
    line.execute("DELETE FROM retentiond.reference_copy")


def foreign_user(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def add(store: DendriteStore, _connection: Connection) -> None:
        await store.add(user_id="@alice:elsewhere.test", origin="elsewhere.test")

    line.arrange(add)


def other_columns(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.execute("ALTER TABLE mediaapi_media_repository ADD COLUMN blurhash text")


def column_without_a_value(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.execute("ALTER TABLE mediaapi_media_repository ALTER content_type DROP NOT NULL")
    line.execute("UPDATE mediaapi_media_repository SET content_type = NULL")


def key_that_takes_rows(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.execute("CREATE TABLE heir () INHERITS (mediaapi_media_repository)")
    line.execute("ALTER TABLE heir ADD UNIQUE (media_id, media_origin)")
    line.execute(
        "CREATE TABLE report (media_id text, media_origin text, told text, FOREIGN KEY (media_id, media_origin)"
        " REFERENCES heir (media_id, media_origin) ON DELETE CASCADE)"
    )


def _media_path(line: RealCommandLine) -> Path:
    assert line.media_path is not None
    return line.media_path


WRONG = (
    (emptied, "empty_media_directory", "check that the disk is mounted and that `media_path` is right"),
    (other_device, "another_device", "must be one file system"),
    (other_quarantine_device, "another_device", "must be one file system"),
    (mounted_below, "another_device", "unmount what is mounted below it"),
    (case_folded, "folded_names", "case-sensitive file system"),
    (other_store, "another_store", "check that the right disk is mounted"),
    (no_mark, "another_store", "check that the right disk is mounted"),
    (older_database, "restored_database", "retentiond quarantine accept"),
    (clock_behind, "clock_behind", "set it right"),
    (clock_far_off, "clock_difference", "set both right"),
    (clock_leapt, "clock_leapt", "check the time"),
    (unreadable_protection, "protection_unreadable", "let this role read userapi_profiles"),
    (foreign_user, "foreign_users", "set `server_name` to all the names"),
    (other_columns, "unknown_columns", "use a newer retentiond"),
    (column_without_a_value, "unknown_columns", "use a newer retentiond"),
    (key_that_takes_rows, "rows_taken_along", "drop the keys"),
)


@pytest.mark.parametrize(("arrange", "limit", "what_to_do"), WRONG)
def test_what_looks_wrong_is_refused_with_3_also_with_yes(
    line: RealCommandLine,
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[RealCommandLine, pytest.MonkeyPatch], None],
    limit: str,
    what_to_do: str,
) -> None:
    arrange(line, monkeypatch)
    before = state(line)
    outcome = line.type("once", "--yes", "--json")
    assert outcome.status == 3
    (report,) = outcome.document["passes"]
    assert (report["state"], report["pass_id"], report["refused"]["limit"]) == ("refused", None, limit)
    assert what_to_do in outcome.stderr
    assert [entry["limit"] for entry in log_entries(outcome.stderr) if entry["event"] == "pass_refused"] == [
        limit
    ]
    assert state(line) == before
    # A plan says the same, and is no failure.
    planned = line.type("plan", "--json")
    assert (planned.status, planned.document["passes"][0]["refused"]["limit"]) == (0, limit)
    told = line.type("status")
    assert re.search(rf"refused by\s+{limit}: \S", told.stdout), told.stdout


def test_a_media_directory_that_is_missing_is_4_and_status_remembers_it(line: RealCommandLine) -> None:
    path = _media_path(line)
    path.rename(path.with_name("elsewhere"))
    rows = len(line.arrange(lambda store, _connection: store.rows()))
    outcome = line.type("once", "--yes")
    assert outcome.status == 4
    assert f"the media directory {path} cannot be opened: No such file or directory" in outcome.stderr
    assert "check that it is mounted" in outcome.stderr
    (told,) = line.type("status", "--json").document["targets"]
    assert told["last_pass"]["state"] == "refused"
    assert told["last_pass"]["refused"]["limit"] == "unreachable"
    assert len(line.arrange(lambda store, _connection: store.rows())) == rows
    # Back at its place, all is as it was.
    path.with_name("elsewhere").rename(path)
    assert line.type("once").status == 0
    (told,) = line.type("status", "--json").document["targets"]
    assert told["last_pass"]["state"] == "finished"


def too_large_a_share(line: RealCommandLine) -> None:
    line.keys["limits"] = {"max_share": 0.1}


def too_many_items(line: RealCommandLine) -> None:
    line.keys["limits"] = {"max_items": 1}


def too_many_missing(line: RealCommandLine) -> None:
    kept = next(path for path in _media_path(line).glob("?/?/*/file"))
    kept.unlink()


@pytest.mark.parametrize(
    ("arrange", "limit"),
    [
        (too_large_a_share, "max_share"),
        (too_many_items, "max_items"),
        (too_many_missing, "max_missing_files"),
    ],
)
def test_yes_goes_over_a_limit_for_one_pass_only(
    line: RealCommandLine, arrange: Callable[[RealCommandLine], None], limit: str
) -> None:
    async def add_two(store: DendriteStore, _connection: Connection) -> None:
        await store.add()
        await store.add()

    line.arrange(add_two)
    arrange(line)
    before = state(line)
    refused = line.type("once", "--json")
    assert (refused.status, refused.document["passes"][0]["refused"]["limit"]) == (3, limit)
    assert "`retentiond plan media`" in refused.stderr
    assert "`retentiond once media --yes`" in refused.stderr
    assert state(line) == before
    assert line.type("once", "--yes", "--json").document["passes"][0]["removed"]["items"] == 3
    line.arrange(add_two)
    again = line.type("once", "--json")
    assert (again.status, again.document["passes"][0]["refused"]["limit"]) == (3, limit)


def test_a_first_pass_above_the_share_says_so_with_the_two_commands_and_check_config_beforehand(
    tmp_path: Path, database: str, media_path: Path
) -> None:
    line = RealCommandLine(tmp_path, database=database, media_path=media_path)

    async def fill(store: DendriteStore, _connection: Connection) -> None:
        for _ in range(3):
            await store.add()
        await store.add(age=1 * DAYS)

    line.arrange(fill)
    wording = (
        "this is the first pass over this store, and 3 of 4 rows would go (100% from there.test); look with "
        "`retentiond plan media`, and if it is right, run `retentiond once media --yes`"
    )
    # What was deleted by hand was no pass.
    line.arrange(lambda store, _connection: store.add(media_id="asked"))
    assert line.type("delete", "--media", "mxc://there.test/asked", "--yes").status == 0
    beforehand = line.type("check-config", "--connect")
    assert (beforehand.status, wording in beforehand.stderr) == (3, True)
    refused = line.type("once")
    assert refused.status == 3
    assert wording in " ".join(refused.stdout.replace("│", " ").split())
    assert line.type("once", "--yes").status == 0
    assert line.type("check-config", "--connect").status == 0


def grow(line: RealCommandLine, *, days: int = 31, user_id: str = "", origin: str = "evil.test") -> None:
    """Add ten media that came due with a keep of 30 days, `days` old; the store has seven at most."""

    async def add(store: DendriteStore, _connection: Connection) -> None:
        for _ in range(10):
            await store.add(origin=origin, user_id=user_id, age=days * DAYS)

    line.arrange(add)


def once(line: RealCommandLine) -> dict[str, Any]:
    report: dict[str, Any] = line.type("once", "--json").document["passes"][0]
    planned = line.type("plan", "--json").document["passes"][0]
    assert (planned["refused"] is None) == (report["refused"] is None)
    return report


def test_a_stranger_who_makes_the_server_fetch_more_than_it_has_does_not_stop_passes(
    line: RealCommandLine,
) -> None:
    line.keys["limits"] = {}
    grow(line)
    report = once(line)
    assert (report["state"], report["removed"]["items"]) == ("finished", 11)


@pytest.mark.parametrize(
    ("keys", "growth"),
    [
        pytest.param({}, {"days": 60}, id="media that were due long ago, as by a wrong clock or policy"),
        pytest.param({"limits": {"growth_within": "0s"}}, {}, id="growth that the configuration counts"),
        pytest.param(
            {"policies": [{"name": "all", "match": {"origin": "*"}, "keep": "30d"}]},
            {},
            id="rules that no pass has followed yet",
        ),
        pytest.param({"server_name": None}, {}, id="media that may be local ones without their users"),
        pytest.param({"encrypted_remote": "fetch_again"}, {}, id="less that is kept than at the last pass"),
        pytest.param(
            {"policies": [{"name": "local", "match": {"origin": "local"}, "keep": "30d"}]},
            {"user_id": "@bob:here.test", "origin": "here.test"},
            id="local uploads",
        ),
    ],
)
def test_what_does_not_look_like_growth_counts_towards_the_share(
    line: RealCommandLine, keys: dict[str, Any], growth: dict[str, Any]
) -> None:
    line.keys |= {"limits": {}}
    if "user_id" in growth or "server_name" in keys:
        # A pass by these rules has been.
        line.keys |= keys
        assert line.type("once").status == 0
    grow(line, **growth)
    line.keys |= keys
    report = once(line)
    assert (report["state"], report["refused"]["limit"]) == ("refused", "max_share")
    assert f"from {growth.get('origin', 'evil.test')}" in report["refused"]["hint"]
    told = " ".join(line.type("status").stdout.split())
    assert f"from {growth.get('origin', 'evil.test')}" in told
    assert line.type("once", "--yes", "--json").document["passes"][0]["removed"]["items"] >= 10


def test_the_yes_of_other_commands_goes_over_nothing(line: RealCommandLine) -> None:
    line.keys["limits"] = {"max_share": 0.1}
    line.execute(OLDER)
    uri = next(iter(state(line)[0])).uri
    assert line.type("delete", "--media", uri, "--yes").status == 3
    assert line.type("quarantine", "purge", "--yes").status == 3


def test_a_clock_that_leapt_is_noticed_in_a_container_with_another_name_on_the_same_machine(
    line: RealCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_leapt(line, monkeypatch)
    monkeypatch.setattr(socket, "gethostname", lambda: "made-anew")
    told = line.type("once", "--json")
    assert told.status == 3
    assert told.document["passes"][0]["refused"]["limit"] == "clock_leapt"


def standby(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cast("dict[str, str]", ledger.SQL), "is_standby", "SELECT true")


def transaction_pooler(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    pool_sessions(monkeypatch)


def careless_pooler(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_SETTINGS", {"application_name": "retentiond"})


def file_for_quarantine(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def own_device(_tree: MediaTree) -> int:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    monkeypatch.setattr(MediaTree, "own_device", own_device)


def unreadable_hold(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert line.type("hold", "add", "--room", "!held:there.test").status == 0
    line.keys["protect"] = []
    line.execute("ALTER TABLE syncapi_output_room_events RENAME TO gone")
    line.execute("DELETE FROM retentiond.hold_reading")


def no_access_times(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = os.statvfs_result((4096, 4096, *(10**6,) * 6, os.ST_NOATIME, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: flags)
    line.keys |= {"policies": [REMOTE | {"since": "accessed"}], "since_fallback": "refuse"}


def no_access_log(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.keys |= {
        "policies": [REMOTE | {"since": "accessed"}],
        "access_log": {"path": str(_media_path(line) / "nowhere.log"), "format": "nginx"},
    }


def small_share(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.keys["limits"] = {"max_share": 0.01}


def few_items(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.arrange(lambda store, _connection: store.add())
    line.keys["limits"] = {"max_share": 1.0, "max_items": 1}


def missing_files(line: RealCommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.arrange(lambda store, _connection: store.add(file=False))
    line.keys["limits"] = {"max_share": 1.0, "max_missing_files": 0.0}


REFUSED = (
    *((arrange, limit) for arrange, limit, _ in WRONG),
    (standby, "standby"),
    (transaction_pooler, "transaction_pooler"),
    (careless_pooler, "pooler_settings"),
    (file_for_quarantine, "quarantine_not_a_directory"),
    (unreadable_hold, "hold_unreadable"),
    (no_access_times, "no_access_times"),
    (no_access_log, "access_log_unreadable"),
    (small_share, "max_share"),
    (few_items, "max_items"),
    (missing_files, "max_missing_files"),
)
OF_OTHER_COMMANDS = {"empty_table", "request_unreadable", "unreachable", "floor", "date_rule", "first_pass"}
"""Refusals of a repair, of a delete, of chats and of rooms, and the note of what was no refusal."""


@pytest.mark.parametrize(("arrange", "limit"), REFUSED)
def test_what_a_pass_refuses_check_config_finds(
    line: RealCommandLine,
    monkeypatch: pytest.MonkeyPatch,
    arrange: Callable[[RealCommandLine, pytest.MonkeyPatch], None],
    limit: str,
) -> None:
    arrange(line, monkeypatch)
    checked = line.type("check-config", "--connect")
    refused = line.type("once", "--json")
    assert [report["refused"]["limit"] for report in refused.document["passes"]] == [limit]
    assert f"refused by {limit}" in checked.stderr
    assert checked.status in {3, 4}
    assert "all that a pass needs is there" not in checked.stderr


def test_each_refusal_that_the_code_has_is_one_that_check_config_is_tried_on() -> None:
    package = Path(str(files("retentiond")))
    named = {
        call.args[0].value
        for folder in ("ledger", "model", "targets/dendrite_media")
        for path in (package / folder).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in {"Refusal", "_clock"}
        and isinstance(call.args[0], ast.Constant)
    }
    assert named - OF_OTHER_COMMANDS == {limit for _, limit in REFUSED}
