"""The Debian package on a clean Debian with a systemd of its own: installed, upgraded, removed and purged."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest
import yaml

from tests.support.chance import NIGHTLY
from tests.support.store import DendriteStore
from tests.support.systemd_machine import SystemdMachine, missing_for_systemd
from tools import debian, release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.database import DatabaseServer

_UID: Final = 64_019
_MEDIA: Final = "/var/lib/dendrite/media_store"
_VERSIONS: Final = ("0.0.8", "0.0.9")
_DROP_IN: Final = "/etc/systemd/system/retentiond.service.d/store.conf"
_MINUTES: Final = 1800.0
_MISSING: Final = missing_for_systemd() or (
    None if shutil.which("debootstrap") else "there is no debootstrap (Debian: apt install debootstrap)"
)

pytestmark = [
    pytest.mark.skipif(_MISSING is not None, reason=str(_MISSING)),
    pytest.mark.skipif(not NIGHTLY, reason="a Debian is installed, twice: RETENTIOND_TEST_NIGHTLY=1"),
    pytest.mark.timeout(3600),
]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the package as two versions."""
    output = tmp_path_factory.mktemp("packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1790000000")
        _, wheel = release.build_distributions(debian.ROOT, output)
        for version in _VERSIONS:
            debian.build(wheel, version, output)
    return output


@dataclass
class Debian:
    """A Debian with a dendrite whose store has one old media item and three new ones."""

    machine: SystemdMachine
    media_path: Path

    def run(self, *words: str) -> str:
        """Run a command, and return all that it said."""
        # Without the variables of the tests, of which one moves bytecode elsewhere.
        clean = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive")
        done = self.machine.run(*clean, *words, check=False, seconds=_MINUTES)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def apt(self, *words: str) -> str:
        """Run apt-get, without a question."""
        return self.run("apt-get", "--quiet", "--yes", *words)

    def install(self, version: str) -> str:
        """Install a version of the package, without what it recommends."""
        return self.apt("install", "--no-install-recommends", f"/packages/retentiond_{version}_amd64.deb")

    def has(self, path: str) -> bool:
        """Return whether there is a file at a path, or a link that leads nowhere."""
        return self.machine.run("sh", "-c", f"[ -e {path} ] || [ -L {path} ]", check=False).returncode == 0

    def state(self, unit: str = "retentiond") -> tuple[str, str]:
        """Return whether a unit runs, and whether it is enabled."""
        return self.machine.show(unit, "ActiveState"), self.machine.show(unit, "UnitFileState")

    def media(self) -> list[str]:
        """Return the media files, without those in quarantine."""
        return [path.name for path in self.media_path.glob("?/?/*/*") if ".retentiond" not in path.parts]


@pytest.fixture(params=["bookworm", "trixie"])
def clean(
    request: pytest.FixtureRequest, packages: Path, postgres: DatabaseServer, tmp_path: Path
) -> Iterator[Debian]:
    """A Debian made by debootstrap, in $RETENTIOND_TEST_DEBIAN if that is set; nothing there is changed."""
    kept = os.environ.get("RETENTIOND_TEST_DEBIAN")
    base = Path(kept or tmp_path, request.param)
    if not base.exists():
        part = base.with_name(f"{base.name}.part")
        words = [
            "debootstrap",
            "--variant=minbase",
            "--include=systemd,systemd-sysv,sudo",
            request.param,
            part,
        ]
        subprocess.run(words, check=True, capture_output=True)
        part.rename(base)
    lab = Path(tempfile.mkdtemp(prefix="retentiond-test-", dir="/srv"))
    with asyncio.Runner() as runner:
        dsn = runner.run(postgres.clone())
        try:
            media_path = lab / "media_store"
            media_path.mkdir(mode=0o750)
            runner.run(_fill(dsn, media_path))
            for directory, _, names in os.walk(media_path):
                for path in (directory, *(os.path.join(directory, name) for name in names)):
                    os.chown(path, _UID, _UID)
            dendrite = {
                "global": {"server_name": "here.test", "database": {"connection_string": dsn}},
                "media_api": {"base_path": _MEDIA},
            }
            files = {
                "/etc/dendrite/dendrite.yaml": yaml.safe_dump(dendrite),
                "/etc/resolv.conf": Path("/etc/resolv.conf").read_text(),
            }
            with SystemdMachine(
                lab / "machine", files, {media_path: _MEDIA, packages: "/packages"}, base
            ) as machine:
                made = Debian(machine, media_path)
                # Its group is another one than that of its media.
                made.run("useradd", "--system", "--uid", str(_UID), "--user-group", "dendrite")
                made.apt("update")
                yield made
        finally:
            runner.run(postgres.drop(dsn))
            shutil.rmtree(lab)


async def _fill(dsn: str, media_path: Path) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        store = DendriteStore(connection, media_path)
        await store.add()
        for _ in range(3):
            await store.add(age=timedelta(days=1))
    finally:
        await connection.close()


def test_the_package_is_installed_upgraded_removed_and_purged(clean: Debian) -> None:
    old, new = _VERSIONS
    assert "Next: sudo retentiond init" in clean.install(old)
    assert clean.state() == ("inactive", "disabled")
    assert clean.state("retentiond-once.timer") == ("inactive", "disabled")
    assert not clean.has("/etc/retentiond/config.yaml")
    assert clean.run("retentiond", "--version").startswith("retentiond ")
    for path in (*debian.COMPLETIONS.values(), "usr/share/man/man1/retentiond.1.gz"):
        assert clean.has(f"/{path}"), path
    assert "cpython-" in clean.run("ls", "/usr/lib/retentiond/retentiond/__pycache__")

    written = clean.run("retentiond", "init", "--yes")
    assert "systemctl enable --now retentiond" in written
    assert len(clean.media()) == 4
    clean.run("systemctl", "start", "retentiond-once.service")
    assert len(clean.media()) == 3
    clean.run("systemctl", "enable", "--now", "retentiond")
    assert clean.state() == ("active", "enabled")
    clean.run("systemctl", "enable", "--now", "retentiond-once.timer")
    before = clean.machine.show("retentiond", "MainPID")

    config = clean.run("cat", "/etc/retentiond/config.yaml") + "# mine\n"
    clean.machine.write("/etc/retentiond/config.yaml", config)
    clean.machine.write("/etc/retentiond/database-url", "mine")
    assert "init" not in clean.install(new)
    assert clean.run("cat", "/etc/retentiond/config.yaml") == config
    assert clean.state() == ("active", "enabled")
    assert clean.state("retentiond-once.timer") == ("active", "enabled")
    assert clean.machine.show("retentiond", "MainPID") not in {before, "0"}

    removed = clean.apt("remove", "retentiond")
    assert "its ledger in the database and the media in quarantine stay" in removed
    assert not clean.has("/usr/bin/retentiond")
    assert not clean.has("/usr/lib/retentiond")
    assert not clean.has("/etc/systemd/system/multi-user.target.wants/retentiond.service")
    assert clean.run("cat", "/etc/retentiond/config.yaml") == config
    assert clean.has(_DROP_IN)

    # It goes on where it was.
    clean.install(new)
    assert clean.state() == ("inactive", "disabled")
    assert "quarantine" in clean.run("sudo", "-u", "dendrite", "retentiond", "status")
    purged = clean.apt("purge", "retentiond")
    assert "DROP SCHEMA IF EXISTS retentiond CASCADE;" in purged
    for path in (
        "/etc/retentiond/config.yaml",
        "/etc/systemd/system/retentiond.service.d",
        "/usr/lib/retentiond",
    ):
        assert not clean.has(path), path
    assert clean.run("cat", "/etc/retentiond/database-url") == "mine"
    assert clean.machine.run("getent", "passwd", "retentiond", check=False).returncode != 0
    assert len(clean.media()) == 3
    assert (clean.media_path / ".retentiond").is_dir()


def test_lintian_finds_no_error(packages: Path) -> None:
    if shutil.which("lintian") is None:
        pytest.skip("there is no lintian (Debian: apt install lintian)")
    package = packages / f"retentiond_{_VERSIONS[0]}_amd64.deb"
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
