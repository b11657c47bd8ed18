"""A real systemd as the first process of namespaces of its own, over a throw-away copy of a root, such as this machine's.

Nothing outside changes: what is written goes to memory and is gone at the end. The network is this machine's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_SYSTEMD = Path("/lib/systemd/systemd")
_START_SECONDS = 120.0

# Run inside the new namespaces: $1 is the working directory, $2 the root that is copied. It builds a root, puts it in the
# place of the old one, and becomes systemd.
_BOOT = r"""
set -eu
lab=$1
mount -t tmpfs retentiond "$lab/memory"
mkdir "$lab/memory/upper" "$lab/memory/work"
root=$lab/root
mount -t overlay retentiond -o "lowerdir=$2,upperdir=$lab/memory/upper,workdir=$lab/memory/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
# A unit with devices of its own copies these.
for device in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
  read -r name major minor <<<"$device"
  mknod -m 0666 "$root/dev/$name" c "$major" "$minor"
done
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
while IFS='|' read -r source target; do
  mkdir -p "$root$target"
  mount --rbind "$source" "$root$target"
done <"$lab/binds"
: >"$root/etc/machine-id"
: >"$root/etc/fstab"
# What belongs to a whole machine (kernel modules, sysctl, devices, temporary files) stays as it is.
find "$root/lib/systemd/system/sysinit.target.wants/" -type l ! -name 'systemd-journal*' -delete
cp -a "$lab/files/." "$root/"
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
# In a container systemd takes this for done; without it no unit gets its credentials.
mount --make-rshared /
exec env -i container=retentiond PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --unit=machine.target --show-status=no --log-target=journal-or-kmsg
"""

_TARGET = """\
[Unit]
Description=Nothing but the journal
DefaultDependencies=no
Wants=systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket
After=systemd-journald.service
"""


def missing_for_systemd() -> str | None:
    """Say what this machine lacks for a systemd of our own; None where it has all."""
    if os.geteuid() != 0:
        return "only root can boot a systemd in namespaces"
    if not _SYSTEMD.exists():
        return "there is no systemd on this machine (Debian: apt install systemd)"
    tools = [
        tool
        for tool in ("unshare", "nsenter", "setpriv", "pivot_root", "journalctl")
        if shutil.which(tool) is None
    ]
    if tools:
        return f"missing: {', '.join(tools)}"
    if _cgroup_root() is None:
        return "there is no cgroup v2 to be had"
    return None


def _cgroup_root() -> Path | None:
    for place in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (place / "cgroup.procs").exists():
            return place
    return None


class SystemdMachine:
    """A context manager: `files` (path within the root, to text) are there before systemd starts.

    `binds` make directories of this machine visible at other places; `base` is the root to copy. `directory` must not be below /tmp or /var/tmp,
    which units with a private /tmp do not see.
    """

    def __init__(
        self, directory: Path, files: dict[str, str], binds: dict[Path, str], base: Path = Path("/")
    ) -> None:
        self._lab = directory
        self._base = base
        for name in ("memory", "root", "files"):
            (directory / name).mkdir(parents=True)
        self.write("/etc/systemd/system/machine.target", _TARGET, before=True)
        for path, text in files.items():
            self.write(path, text, before=True)
        (directory / "binds").write_text("".join(f"{source}|{target}\n" for source, target in binds.items()))
        (directory / "boot").write_text(_BOOT)
        self._cgroup: Path | None = None
        self._outer: subprocess.Popen[bytes] | None = None
        self._inner = 0

    def __enter__(self) -> Self:
        root = _cgroup_root()
        assert root is not None
        self._cgroup = root / f"retentiond-test-{os.getpid()}"
        self._cgroup.mkdir()
        words = "echo $$ > {0}/cgroup.procs && exec unshare --mount --propagation private --pid --fork --kill-child"
        words += " --cgroup --ipc --uts bash {1}/boot {1} {2}"
        with (self._lab / "boot.log").open("wb") as log:
            self._outer = subprocess.Popen(
                # It ends with us, also when nobody is left to end it.
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    "bash",
                    "-c",
                    words.format(self._cgroup, self._lab, self._base),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._outer is not None:
            # Its first process takes all others of its namespace with it.
            self._outer.kill()
            self._outer.wait()
            self._outer = None
        if self._cgroup is not None:
            deadline = time.monotonic() + 60
            while self._cgroup.exists() and time.monotonic() < deadline:
                for child in sorted(self._cgroup.rglob("*"), reverse=True):
                    if child.is_dir():
                        _rmdir(child)
                _rmdir(self._cgroup)

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            self._inner = self._first_process()
            if (
                self._inner
                and self.run("systemctl", "is-active", "machine.target", check=False).returncode == 0
            ):
                return
            time.sleep(0.05)
        raise AssertionError(f"systemd did not come up: {(self._lab / 'boot.log').read_text()}")

    def _first_process(self) -> int:
        assert self._outer is not None
        try:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
        except FileNotFoundError:
            return 0
        return int(children[0]) if children else 0

    def write(self, path: str, text: str, *, before: bool = False) -> None:
        """Write a file of the machine; `before` it is started."""
        place = Path(f"{self._lab}/files{path}" if before else f"/proc/{self._inner}/root{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o755 if text.startswith("#!") else 0o644)

    def run(self, *words: str, check: bool = True, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        command = [
            "nsenter",
            "-t",
            str(self._inner),
            "--mount",
            "--pid",
            "--cgroup",
            "--ipc",
            "--uts",
            *words,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=check, timeout=seconds)

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", unit, "--value", "-p", name).stdout.strip()


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        # A process of it is still on its way out.
        time.sleep(0.05)
