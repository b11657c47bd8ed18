"""The unit as it is shipped, under a real systemd: start, reload, watchdog, stop and crash, and what the journal has.

Only what a test needs is added by a drop-in: shorter times, and the password as a credential.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.support.store import DendriteStore
from tests.support.systemd_machine import SystemdMachine, missing_for_systemd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.database import DatabaseServer

_UID = 64_017
_REPOSITORY = Path(__file__).parents[2]
_UNIT = (_REPOSITORY / "systemd/retentiond.service").read_text()
_MEDIA = "/var/lib/dendrite/media_store"
_ONCE = (_REPOSITORY / "systemd/retentiond-once.service").read_text()
_TIMER = (_REPOSITORY / "systemd/retentiond-once.timer").read_text()
_CREDENTIAL = "[Service]\nLoadCredential=database:/etc/retentiond/database-url\n"
_DROP_IN = f"{_CREDENTIAL}RestartSec=200ms\n"
# Only where it is wanted: on a slow machine a daemon that is well may be late, too.
_SHORT_WATCHDOG = "[Service]\nWatchdogSec=4\n"
_PROGRAM = """\
#!/bin/sh
export PYTHONPATH=/opt/source:/opt/packages:/opt/test PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH=/opt/python/lib
exec /opt/python/bin/python3 -m retentiond "$@"
"""
# What blocks an event loop: a call that does not come back. SIGUSR2 makes one.
_BLOCKER = "import signal, time\nsignal.signal(signal.SIGUSR2, lambda *_: time.sleep(600))\n"
_PATIENCE = 120.0

pytestmark = [
    pytest.mark.skipif(missing_for_systemd() is not None, reason=str(missing_for_systemd())),
    pytest.mark.timeout(1200),
]


class Service:
    """The service in its machine, with a store that it looks after."""

    def __init__(self, machine: SystemdMachine, dsn: str, media_path: Path) -> None:
        self.machine = machine
        self.dsn = dsn
        self.media_path = media_path

    def configure(self, **changes: Any) -> None:
        """Write a configuration of the store."""
        target = {
            "kind": "dendrite_media",
            "database": "credential:database",
            "media_path": _MEDIA,
            "server_name": "here.test",
            "settle": "0s",
            "limits": {"max_share": 1.0},
            "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
        }
        self.machine.write(
            "/etc/retentiond/config.yaml", json.dumps({"targets": {"media": target | changes}})
        )

    def systemctl(self, *words: str) -> None:
        """Do something to the unit; what systemd says of a failure is in the test's."""
        done = self.machine.run("systemctl", *words, "retentiond", check=False)
        assert done.returncode == 0, done.stderr + self.machine.run("journalctl", "-n", "50").stdout

    def events(self, event: str, unit: str = "retentiond") -> list[dict[str, Any]]:
        """Return the journal's entries of an event, as `journalctl -o json` has them."""
        words = ("journalctl", "-u", unit, f"RETENTIOND_EVENT={event}", "-o", "json")
        return [json.loads(line) for line in self.machine.run(*words).stdout.splitlines()]

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for something to come about."""
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                journal = self.machine.run("journalctl", "-n", "50", "-o", "cat").stdout
                pytest.fail(f"{what} did not come about:\n{journal}")
            time.sleep(0.1)

    def until_active(self) -> None:
        """Wait until it is ready; a reload is over only after what the journal says of it."""
        self.until(lambda: self.machine.show("retentiond", "ActiveState") == "active", "the service")

    def until_restarted(self) -> None:
        """Wait until systemd has started it anew."""
        self.until(lambda: self.machine.show("retentiond", "NRestarts") != "0", "a restart")

    def main_pid(self) -> int:
        """Return the daemon's process ID inside; 0 while there is none."""
        return int(self.machine.show("retentiond", "MainPID"))

    @contextmanager
    def store(self) -> Iterator[tuple[asyncio.Runner, DendriteStore]]:
        """Open the store from outside, with a loop to await things in."""
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(self.dsn))
            try:
                yield runner, DendriteStore(connection, self.media_path)
            finally:
                runner.run(connection.close())

    def fill(self, media: int, group: int = _UID) -> None:
        """Make that many old remote media, owned as dendrite's are."""

        async def add_all(store: DendriteStore) -> None:
            for _ in range(media):
                await store.add(age=timedelta(days=100), thumbnails=[(32, 32, "crop")])

        with self.store() as (runner, store):
            runner.run(add_all(store))
        for directory, _, names in os.walk(self.media_path):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                os.chown(path, _UID, group, follow_symlinks=False)


@pytest.fixture
def service(postgres: DatabaseServer) -> Iterator[Service]:
    """A machine with the unit installed, dendrite's user, a store, and nothing started yet."""
    # Units have a /tmp of their own, so what they share with us lies elsewhere.
    lab = Path(tempfile.mkdtemp(prefix="retentiond-test-", dir="/srv"))
    with asyncio.Runner() as runner:
        dsn = runner.run(postgres.clone())
        try:
            media_path = lab / "media_store"
            media_path.mkdir(mode=0o750)
            os.chown(media_path, _UID, _UID)
            accounts = "".join(
                f"{user.pw_name}:x:{user.pw_uid}:{user.pw_gid}::{user.pw_dir}:{user.pw_shell}\n"
                for user in pwd.getpwall()
            )
            files = {
                "/etc/systemd/system/retentiond.service": _UNIT,
                "/etc/systemd/system/retentiond.service.d/test.conf": _DROP_IN,
                "/etc/systemd/system/retentiond-once.service": _ONCE,
                "/etc/systemd/system/retentiond-once.service.d/test.conf": _CREDENTIAL,
                "/etc/systemd/system/retentiond-once.timer": _TIMER,
                "/etc/passwd": f"{accounts}dendrite:x:{_UID}:{_UID}::/nonexistent:/usr/sbin/nologin\n",
                "/etc/group": f"root:x:0:\ndendrite:x:{_UID}:\n",
                "/etc/retentiond/database-url": dsn,
                "/usr/bin/retentiond": _PROGRAM,
                "/opt/test/sitecustomize.py": _BLOCKER,
            }
            binds = {
                media_path: _MEDIA,
                Path(sys.base_prefix): "/opt/python",
                Path(asyncpg.__file__).parents[1]: "/opt/packages",
                _REPOSITORY: "/opt/source",
            }
            with SystemdMachine(lab / "machine", files, binds) as machine:
                yield Service(machine, dsn, media_path)
        finally:
            runner.run(postgres.drop(dsn))
            shutil.rmtree(lab)


def test_the_service_starts_reloads_and_keeps_the_old_file_where_the_new_one_is_wrong(
    service: Service,
) -> None:
    service.configure(schedule={"cron": "30 3 * * *"})
    service.systemctl("enable", "--now")
    assert service.machine.show("retentiond", "ActiveState") == "active"
    # Ready is said when the configuration is; the store is opened after that, and goes on the timetable then.
    service.until(
        lambda: "next pass of media at" in service.machine.show("retentiond", "StatusText"),
        "the next pass's time",
    )
    service.until(lambda: service.events("config_loaded"), "the first configuration")
    (loaded,) = service.events("config_loaded")
    assert (loaded["PRIORITY"], loaded["_SYSTEMD_UNIT"]) == ("6", "retentiond.service")
    assert json.loads(loaded["MESSAGE"])["event"] == "config_loaded"
    assert service.dsn not in service.machine.run("journalctl").stdout

    service.configure(schedule={"cron": "30 4 * * *"})
    service.systemctl("reload")
    service.until(lambda: len(service.events("config_loaded")) == 2, "the second configuration")

    service.machine.write("/etc/retentiond/config.yaml", "targets: {media: {keep: 30}}")
    service.systemctl("reload")
    service.until(lambda: service.events("config_rejected"), "the refusal")
    assert service.events("config_rejected")[0]["PRIORITY"] == "3"
    service.until_active()
    service.systemctl("stop")
    assert service.machine.show("retentiond", "Result") == "success"


def test_a_timer_runs_passes_without_a_daemon_and_a_refused_pass_leaves_its_unit_failed(
    service: Service,
) -> None:
    service.configure()
    service.fill(3)
    service.machine.run("systemctl", "enable", "--now", "retentiond-once.timer")
    assert service.machine.show("retentiond-once.timer", "NextElapseUSecRealtime") != ""
    service.machine.run("systemctl", "start", "retentiond-once.service")
    (finished,) = service.events("pass_finished", unit="retentiond-once")
    assert json.loads(finished["MESSAGE"])["removed"]["items"] == 3

    service.fill(3)
    service.configure(limits={"max_items": 1})
    started = service.machine.run("systemctl", "start", "retentiond-once.service", check=False)
    assert started.returncode != 0
    assert service.machine.show("retentiond-once", "ExecMainStatus") == "3"
    assert service.machine.show("retentiond-once", "ActiveState") == "failed"


def test_media_of_a_group_that_the_unit_does_not_know_are_deleted_and_restored(service: Service) -> None:
    """PrivateUsers= shows such a group as nobody's, and RestrictSUIDSGID= lets no directory have the bit of its group."""
    service.configure()
    service.fill(1, group=_UID + 1)
    directories = [path for path in (service.media_path, *service.media_path.rglob("*")) if path.is_dir()]
    for directory in directories:
        directory.chmod(0o2750)
    before = {path: path.read_bytes() for path in service.media_path.rglob("*") if path.is_file()}
    service.machine.run("systemctl", "start", "retentiond-once.service")
    assert not any(path.exists() for path in before)

    with service.store() as (runner, store):
        runner.run(store.add_profile("alice", "mxc://there.test/media0001"))
    service.machine.run("systemctl", "start", "retentiond-once.service")
    assert {path: path.read_bytes() for path in before} == before


def test_the_service_knows_a_restart_of_the_machine_from_a_clock_that_leapt(service: Service) -> None:
    service.configure(schedule={"every": "1s"})
    service.fill(1)
    service.systemctl("start")
    service.until(lambda: service.events("pass_finished"), "a pass")
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(service.dsn))
        boot = runner.run(connection.fetchval("SELECT boot_id FROM retentiond.host_clock"))
        runner.run(connection.close())
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def test_a_wrong_configuration_at_the_start_is_exit_2_and_is_not_tried_again(service: Service) -> None:
    service.machine.write("/etc/retentiond/config.yaml", "targets: {}")
    assert service.machine.run("systemctl", "start", "retentiond", check=False).returncode != 0
    assert service.machine.show("retentiond", "ExecMainStatus") == "2"
    assert service.machine.show("retentiond", "NRestarts") == "0"


def test_a_stop_in_the_middle_of_a_pass_ends_it_at_a_batchs_end_and_the_next_start_goes_on(
    service: Service,
) -> None:
    service.fill(40)
    # A minute's worth of work at this pace.
    slow = {"batch": 1, "max_items_per_second": 1}
    service.configure(schedule={"every": "1s"}, pace=slow)
    service.systemctl("start")
    # A first pass is not due before its interval is over.
    service.until(lambda: service.events("pass_started"), "a pass")
    service.until(
        lambda: len(list(service.media_path.glob(".retentiond/quarantine/*/*/*"))) > 1, "its first blobs"
    )
    service.systemctl("stop")
    assert service.machine.show("retentiond", "Result") == "success"
    service.until(lambda: service.events("pass_finished"), "the end of the pass in the journal")
    (finished,) = service.events("pass_finished")
    told = json.loads(finished["MESSAGE"])
    assert (told["state"], finished["RETENTIOND_TARGET"]) == ("interrupted", "media")
    assert 0 < told["removed"]["items"] < 40
    with service.store() as (runner, store):
        assert runner.run(store.broken_references()) == []
        assert len(runner.run(store.rows())) == 40 - told["removed"]["items"]

    service.configure(schedule={"every": "1s"})
    service.systemctl("start")
    service.until(lambda: len(service.events("pass_finished")) > 1, "the next pass")
    with service.store() as (runner, store):
        assert runner.run(store.rows()) == {}


def test_a_blocked_event_loop_is_noticed_by_the_watchdog_and_the_service_comes_back(service: Service) -> None:
    service.configure()
    service.machine.write("/etc/systemd/system/retentiond.service.d/watchdog.conf", _SHORT_WATCHDOG)
    service.machine.run("systemctl", "daemon-reload")
    service.systemctl("start")
    before = service.main_pid()
    service.machine.run("kill", "-USR2", str(before), check=False)
    service.until_restarted()
    service.until_active()
    assert service.main_pid() != before
    service.until(
        lambda: "Watchdog timeout" in service.machine.run("journalctl", "-u", "retentiond").stdout,
        "what systemd says of it",
    )


def test_a_service_that_is_killed_in_the_middle_of_a_pass_finishes_it_when_it_is_back(
    service: Service,
) -> None:
    service.fill(40)
    # A minute's worth of work at this pace; what comes after it reads another.
    service.configure(schedule={"every": "1s"}, pace={"batch": 1, "max_items_per_second": 1}, grace="0s")
    service.systemctl("start")
    service.until(lambda: service.events("pass_started"), "a pass")
    service.until(lambda: any(service.media_path.glob(".retentiond/quarantine/*/*/*")), "its first blobs")
    service.configure(schedule={"every": "1s"}, grace="0s")
    service.machine.run("kill", "-KILL", str(service.main_pid()))
    service.until_restarted()
    service.until(lambda: service.events("pass_finished"), "a whole pass")
    with service.store() as (runner, store):
        service.until(lambda: runner.run(store.rows()) == {}, "the end of the rows")
        service.until(lambda: runner.run(store.orphan_files()) == [], "the end of the files")
