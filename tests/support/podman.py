"""Images built by buildah and run by podman, as root, with a store of their own; the network is this machine's own.

No registry is needed: the base is a Debian made by debootstrap, which is kept in the cache directory.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TOOLS: Final = ("buildah", "podman", "runc", "debootstrap", "gzip")
_SUITE: Final = "bookworm"
_PATIENCE: Final = 120.0
_CERTIFICATES: Final = ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def missing_for_containers() -> str | None:
    """Say what this machine lacks for containers; None where it has all."""
    if os.geteuid() != 0:
        return "only root can make containers here"
    tools = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"missing: {', '.join(tools)} (Debian: apt install {' '.join(_TOOLS[:-1])})" if tools else None


def debian(directory: Path) -> Path:
    """Return a minimal Debian as a tar archive; it is made once, below `directory`."""
    archive = directory / f"debian-{_SUITE}.tar"
    if not archive.exists():
        directory.mkdir(parents=True, exist_ok=True)
        root = directory / f"debian-{_SUITE}.{os.getpid()}"
        try:
            command = ["debootstrap", "--variant=minbase", _SUITE, str(root)]
            subprocess.run(command, check=True, capture_output=True, timeout=1500)
            # Devices are the runtime's, and the packages are installed.
            left_out = ("./dev/*", "./var/cache/apt/*", "./var/lib/apt/lists/*")
            exclude = [f"--exclude={pattern}" for pattern in left_out]
            partial = archive.with_suffix(".partial")
            subprocess.run(["tar", "-C", root, *exclude, "-cf", partial, "."], check=True)
            partial.rename(archive)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    return archive


class Podman:
    """A context manager: images and containers in a directory, which are removed at the end."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._store = ("--root", str(directory / "images"), "--runroot", str(directory / "running"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.do("rm", "--all", "--force", "--time", "0", check=False)
        self.do("rmi", "--all", "--force", check=False)
        subprocess.run(["umount", self._directory / "images" / "overlay"], check=False, capture_output=True)

    def do(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of podman."""
        # There need be no systemd for its groups, its events and its timers.
        settings = ("--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file")
        done = subprocess.run(
            ["podman", *self._store, *settings, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def build(self, context: Path, image: str, base: Path, **arguments: str) -> None:
        """Build an image of a directory with a Dockerfile, on a base from an archive."""
        self.do("import", str(base), "localhost/base")
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        command = ["buildah", *self._store, "build", "--isolation", "chroot", "--network", "host"]
        command += ["--format", "docker", "--build-arg", "BASE=localhost/base", *given, *self._certificates()]
        done = subprocess.run(
            [*command, "-t", image, context], capture_output=True, text=True, check=False, timeout=1500
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]

    def _certificates(self) -> list[str]:
        """Let pip trust the same authorities in the build as here."""
        own = next((os.environ[name] for name in _CERTIFICATES if os.environ.get(name)), None)
        if own is None:
            return []
        config = self._directory / "pip.conf"
        config.write_text("[global]\ncert = /run/authorities.pem\n")
        return [f"--volume={own}:/run/authorities.pem:ro", f"--volume={config}:/etc/pip.conf:ro"]

    def config(self, image: str) -> dict[str, Any]:
        """Return the configuration of an image."""
        (about,) = json.loads(self.do("image", "inspect", image).stdout)
        return dict(about["Config"], Healthcheck=about["Healthcheck"])

    def compressed_size(self, image: str) -> int:
        """Return the size of an image as it is sent to a registry, in bytes."""
        script = 'podman "$@" | gzip | wc -c'
        command = ["sh", "-c", script, "sh", *self._store, "save", image]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    def run(
        self, image: str, options: list[str], *words: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a container on this machine's network: `options` of `podman run`, and the words of its command."""
        limits = []
        for name, kind in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
            # podman would raise them, which not every root may do.
            soft = min(1024, resource.getrlimit(kind)[0] % 2**63)
            limits += ["--ulimit", f"{name}={soft}:{soft}"]
        fixed = ["--network=host", "--no-healthcheck", "--log-driver=k8s-file", *limits]
        return self.do("run", *fixed, *options, image, *words, check=check)


class Container:
    """A container that runs in the background."""

    def __init__(self, podman: Podman, name: str) -> None:
        self._podman = podman
        self.name = name

    def exec(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        return self._podman.do("exec", self.name, *words, check=False)

    def signal(self, name: str) -> None:
        """Send a signal to its first process."""
        self._podman.do("kill", "--signal", name, self.name)

    def stop(self, seconds: int) -> int:
        """Ask it to end, kill it after so many seconds, and return its exit status: 137 if it was killed."""
        self._podman.do("stop", "--time", str(seconds), self.name)
        return int(self._podman.do("inspect", "--format", "{{.State.ExitCode}}", self.name).stdout)

    def kill_and_remove(self) -> None:
        """End it at once, and remove it."""
        self._podman.do("rm", "--force", "--time", "0", self.name)

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of its log."""
        lines = self._podman.do("logs", self.name).stdout.splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if event in {None, entry["event"]}]

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for something to come about."""
        deadline = time.monotonic() + _PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come about: {self.events()}")
            time.sleep(0.1)
