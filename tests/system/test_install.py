"""The one-command installation, below a directory of the test's own; it fetches what a stranger's would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chance import NIGHTLY
from tools import debian

_REPOSITORY = Path(__file__).parents[2]
# A shared cache of compiled modules would keep those of each installation. Most of what pip would compile is never run.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPYCACHEPREFIX"} | {
    "PIP_COMPILE": "0"
}


def _install(root: Path, *words: str, clone: Path = _REPOSITORY) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [clone / "systemd/install", *words],
        umask=0o077,  # as on a hardened host
        env=_ENVIRONMENT | {"DESTDIR": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(1200)
def test_an_installation_has_command_and_unit_no_configuration_and_a_second_leaves_changes_alone(
    tmp_path: Path,
) -> None:
    done = _install(tmp_path, "matrix", "/srv/media")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Installed. Next: sudo retentiond init\n")
    # `retentiond init` makes it, and overwrites none.
    config = tmp_path / "etc/retentiond/config.yaml"
    assert os.listdir(config.parent) == ["config.schema.json"]
    # The schema comes from the installed package: its files came with it.
    assert (config.parent / "config.schema.json").read_text() == (
        _REPOSITORY / "config.schema.json"
    ).read_text()
    command = tmp_path / "usr/bin/retentiond"
    example = subprocess.check_output([command, "example-config"], text=True)
    assert example == (_REPOSITORY / "config.example.yaml").read_text()
    for shell, name in debian.COMPLETIONS.items():
        assert (tmp_path / name).read_text().strip() == debian.completion(shell).strip()
    units = tmp_path / "etc/systemd/system"
    assert (units / "retentiond.service").read_text() == (
        _REPOSITORY / "systemd/retentiond.service"
    ).read_text()
    # The service's user is neither root nor of its group.
    for place in ("usr/bin/retentiond", "opt/retentiond/bin/python", "opt/retentiond/pyvenv.cfg"):
        path = (tmp_path / place).resolve()
        assert path.stat().st_mode & 0o044 == 0o044, place
        inside = [parent for parent in path.parents if tmp_path in parent.parents]
        assert all(parent.stat().st_mode & 0o055 == 0o055 for parent in inside), place
    drop_in = (units / "retentiond.service.d/store.conf").read_text()
    assert "User=matrix\n" in drop_in
    assert "ReadWritePaths=\nReadWritePaths=/srv/media\n" in drop_in
    demo = subprocess.run(
        [command, "demo", "--media", "100"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert demo.returncode == 2
    assert "pip install 'retentiond[demo]'" in demo.stderr

    config.write_text("targets: {}\n")
    config.chmod(0o640)
    # From here on it is about the files: the packages are there, and by day they are not fetched again.
    pip = tmp_path / "opt/retentiond/bin/pip"
    if not NIGHTLY:
        pip.write_text("#!/bin/sh\n")
    again = _install(tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert "Next: sudo -u dendrite retentiond check-config --connect" in again.stdout
    assert config.read_text() == "targets: {}\n"
    assert (units / "retentiond.service.d/store.conf").read_text() == drop_in
    # Who names another store must not believe that it is the service's now.
    config.chmod(0o644)
    pip.write_text("#!/bin/sh\n")
    other = _install(tmp_path, "matrix", "/srv/other").stderr
    assert "store.conf was there, says otherwise" in other
    assert f"every user can read {config}, which may hold a password: chmod o= {config}" in other


@pytest.mark.skipif(not NIGHTLY, reason="a second installation takes its time: RETENTIOND_TEST_NIGHTLY=1")
@pytest.mark.timeout(1200)
def test_an_installation_for_chats_alone_knows_nothing_of_dendrite_and_has_the_clients_of_the_stores(
    tmp_path: Path,
) -> None:
    done = _install(tmp_path, "--chats")
    assert done.returncode == 0, done.stderr
    unit = tmp_path / "etc/systemd/system/retentiond.service"
    drop_in = unit.parent / "retentiond.service.d/store.conf"
    keys = [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]
    assert not re.search("dendrite|media", unit.read_text() + drop_in.read_text())
    assert not [line for line in keys if line.startswith(("ReadWritePaths", "RequiresMountsFor", "User"))]
    assert {
        "ProtectSystem=strict",
        "ExecStart=/usr/bin/retentiond --config /etc/retentiond/config.yaml run",
    } <= set(keys)
    assert "User=retentiond\n" in drop_in.read_text()
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", str(unit)]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stderr.splitlines()
        assert [line for line in told if "is not executable" not in line] == []
    assert "Next: sudo retentiond init --chats DATABASE" in done.stdout
    assert not (tmp_path / "etc/retentiond/config.yaml").exists()
    clients = "import clickhouse_connect, elasticsearch, opensearchpy"
    subprocess.run([tmp_path / "opt/retentiond/bin/python", "-c", clients], check=True)
    # The other kind of service would lose its rights, or get some that it must not have.
    other = _install(tmp_path)
    assert other.returncode == 2
    assert "is installed for chats alone here" in other.stderr


def test_an_installation_beside_dendrite_is_not_replaced_by_one_for_chats(tmp_path: Path) -> None:
    unit = tmp_path / "etc/systemd/system/retentiond.service"
    unit.parent.mkdir(parents=True)
    shutil.copy(_REPOSITORY / "systemd/retentiond.service", unit)
    done = _install(tmp_path, "--chats")
    assert done.returncode == 2
    assert "looks after chats, too: add a target of the kind chat_database" in done.stderr
    assert unit.read_text() == (_REPOSITORY / "systemd/retentiond.service").read_text()


def test_both_lock_files_name_the_same_packages_with_the_same_hashes() -> None:
    def packages(name: str) -> dict[str, set[str]]:
        text = re.sub(r"(?m)^ *#.*\n", "", (_REPOSITORY / name).read_text()).replace("\\\n", "")
        lines = (line.split() for line in text.splitlines())
        return {words[0]: {word for word in words if word.startswith("--hash")} for words in lines}

    chats, alone = packages("requirements-chats-hashed.lock"), packages("requirements-hashed.lock")
    # The first lines of each file have the command that makes it.
    assert {name: chats.get(name) for name in alone} == alone


@pytest.mark.timeout(1200)
def test_a_package_with_another_hash_than_the_lock_files_is_not_installed(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(_REPOSITORY / "systemd", clone / "systemd")
    locked = (_REPOSITORY / "requirements-hashed.lock").read_text()
    (clone / "requirements-hashed.lock").write_text(
        re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", locked)
    )
    done = _install(tmp_path / "root", clone=clone)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "root/opt/retentiond/bin/retentiond").exists()


@pytest.mark.timeout(1200)
def test_pipx_installs_the_command_with_the_extras_for_chats(tmp_path: Path) -> None:
    homes = {f"PIPX_{name}": str(tmp_path / name.lower()) for name in ("HOME", "BIN_DIR", "MAN_DIR")}
    lock = {"PIP_CONSTRAINT": str(_REPOSITORY / "requirements.lock")}
    subprocess.run(
        [sys.executable, "-m", "pipx", "install", ".[clickhouse,elasticsearch]"],
        env=_ENVIRONMENT | homes | lock,
        cwd=_REPOSITORY,
        check=True,
    )
    example = subprocess.check_output([tmp_path / "bin_dir/retentiond", "example-config"], text=True)
    assert example == (_REPOSITORY / "config.example.yaml").read_text()
    subprocess.run(
        [
            tmp_path / "home/venvs/retentiond/bin/python",
            "-c",
            "import clickhouse_connect, elasticsearch, opensearchpy",
        ],
        check=True,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("a b",),
        ("dendrite", "relative"),
        ("dendrite", "/srv/$(reboot)"),
        ("--chat",),
        ("--chats", "a b"),
        ("--chats", "retentiond", "/srv/media"),
    ],
)
def test_a_user_or_path_that_a_unit_would_misread_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = _install(tmp_path, *words)
    assert done.returncode == 2
    assert "install:" in done.stderr
    assert list(tmp_path.iterdir()) == []
