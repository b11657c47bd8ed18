"""The image, built and run as compose.yaml has it: start, reload, stop, users, a read-only root, and a replaced container."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import asyncpg
import pytest
import yaml

from tests.support.chance import NIGHTLY
from tests.support.closing_lines import not_run
from tests.support.store import DendriteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


_REPOSITORY: Final = Path(__file__).parents[2]
_COMPOSE: Final[dict[str, Any]] = yaml.safe_load((_REPOSITORY / "compose.yaml").read_text())
_IMAGE: Final = "localhost/retentiond"
_UID: Final = 64_018
"""The user of dendrite, which has no entry in the image's /etc/passwd."""
_MEDIA: Final = "/var/dendrite/media"
_LARGEST: Final = 120_000_000

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="session")
def podman(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman, with the image."""
    missing = None if NIGHTLY else "building an image takes minutes: RETENTIOND_TEST_NIGHTLY=1"
    missing = missing or missing_for_containers()
    if missing is not None:
        not_run(request.config, "the container image", missing)
        pytest.skip(missing)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retentiond-tests"
    directory = tmp_path_factory.mktemp("podman")
    with Podman(directory) as opened:
        opened.build(_REPOSITORY, _IMAGE, debian(cache), VERSION="1.2.3")
        yield opened
    shutil.rmtree(directory, ignore_errors=True)


class Beside:
    """dendrite's store, with the containers beside it as compose.yaml describes them."""

    def __init__(self, podman: Podman, directory: Path, database: str, media_path: Path) -> None:
        self.podman = podman
        self.database = database
        self.media_path = media_path
        self.config = directory / "config"
        self.config.mkdir()
        self._containers = 0
        self.configure()

    def configure(self, **changes: Any) -> None:
        """Write dendrite's configuration, with the paths of its container, and ours."""
        dendrite = {
            "global": {"server_name": "here.test", "database": {"connection_string": self.database}},
            "media_api": {"base_path": _MEDIA},
        }
        (self.config / "dendrite.yaml").write_text(yaml.safe_dump(dendrite))
        target = {
            "kind": "dendrite_media",
            "dendrite_config": "/etc/dendrite/dendrite.yaml",
            "limits": {"max_share": 1.0},
            "settle": "30s",
            "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
        }
        (self.config / "retentiond.yaml").write_text(json.dumps({"targets": {"media": target | changes}}))

    def options(self, service: str, **values: str) -> list[str]:
        """Return the options of `podman run` for a service of compose.yaml; `values` are variables of its `.env`."""
        values = {
            "DENDRITE_CONFIG": str(self.config),
            "DENDRITE_MEDIA": str(self.media_path),
            "RETENTIOND_USER": f"{_UID}:{_UID}",
        } | values

        def filled(text: str) -> str:
            return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: values.get(found[1], found[2]), text)

        made = _COMPOSE["services"][service]
        return [
            f"--user={filled(made['user'])}",
            f"--hostname={filled(made['hostname'])}",
            *(["--read-only", "--read-only-tmpfs=false"] if made["read_only"] else []),
            *(f"--tmpfs={path}" for path in made["tmpfs"]),
            *(f"--cap-drop={name}" for name in made["cap_drop"]),
            *(f"--security-opt={option.removesuffix(':true')}" for option in made["security_opt"]),
            *(f"--volume={filled(volume)}" for volume in made["volumes"]),
            *(f"--env={name}={filled(value)}" for name, value in made["environment"].items()),
        ]

    def once(self, *words: str, **values: str) -> tuple[int, str]:
        """Run one command as `docker compose run --rm retentiond-once` does; return its exit status and what it said."""
        options = ["--rm", *self.options("retentiond-once", **values)]
        done = self.podman.run(_IMAGE, options, *words, check=False)
        return done.returncode, done.stdout + done.stderr

    def start(self) -> Container:
        """Start the daemon."""
        self._containers += 1
        name = f"daemon-{self._containers}"
        self.podman.run(_IMAGE, ["--detach", "--name", name, *self.options("retentiond")])
        container = Container(self.podman, name)
        container.until(lambda: container.events("config_loaded"), "the start")
        return container

    def fill(self, media: int) -> None:
        """Make that many old remote media, owned as dendrite's are."""

        async def add_all() -> None:
            connection = await asyncpg.connect(self.database)
            try:
                store = DendriteStore(connection, self.media_path)
                for _ in range(media):
                    await store.add(age=timedelta(days=100))
            finally:
                await connection.close()

        with asyncio.Runner() as runner:
            runner.run(add_all())
        for directory, _, names in os.walk(self.media_path):
            for path in (directory, *(os.path.join(directory, name) for name in names)):
                os.chown(path, _UID, _UID)

    def ask(self, query: str) -> Any:
        """Return the first value of a query to the database."""

        async def asked() -> Any:
            connection = await asyncpg.connect(self.database)
            try:
                return await connection.fetchval(query)
            finally:
                await connection.close()

        with asyncio.Runner() as runner:
            return runner.run(asked())

    @property
    def files(self) -> int:
        """How many files are in the media directory, out of quarantine."""
        return sum(1 for path in self.media_path.rglob("file") if ".retentiond" not in path.parts)


@pytest.fixture
def beside(podman: Podman, tmp_path: Path, database: str, media_path: Path) -> Iterator[Beside]:
    yield Beside(podman, tmp_path, database, media_path)
    podman.do("rm", "--all", "--force", "--time", "0")


def health(beside: Beside, container: Container) -> tuple[int, str]:
    """Run the health check of the image, as the engine does."""
    kind, *words = beside.podman.config(_IMAGE)["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = container.exec(*words)
    return done.returncode, done.stdout + done.stderr


def test_an_image_is_small_and_says_what_it_is(podman: Podman) -> None:
    assert podman.compressed_size(_IMAGE) <= _LARGEST
    config = podman.config(_IMAGE)
    assert config["Labels"]["org.opencontainers.image.version"] == "1.2.3"
    assert config["User"] != "0"
    assert config["Healthcheck"]["Test"] == ["CMD", "retentiond", "health"]


def test_a_daemon_starts_reloads_is_healthy_and_stops_within_five_seconds(beside: Beside) -> None:
    beside.fill(3)
    container = beside.start()
    container.until(lambda: health(beside, container)[0] == 0, "health")
    assert health(beside, container)[1] == "media: the daemon works on this host, retentiond\n"
    status = container.exec("retentiond", "status")
    assert status.returncode == 0, status.stderr
    assert re.search(r"daemon +retentiond, pid \d+", status.stdout)

    beside.configure(grace="48h")
    container.signal("HUP")
    container.until(lambda: len(container.events("config_loaded")) == 2, "the reload")
    beside.configure(grace="two days")
    container.signal("HUP")
    container.until(lambda: container.events("config_rejected"), "the refusal")
    # The daemon goes on by the old configuration, and would not start again by this one.
    assert health(beside, container)[0] == 2

    # A process whose parent is gone is the first process's to reap.
    assert container.exec("sh", "-c", "(sh -c 'exit 0' &) ; sleep 0.2").returncode == 0
    states = container.exec("sh", "-c", "cat /proc/[0-9]*/status").stdout
    assert "State:" in states
    assert "State:\tZ" not in states

    beside.configure()
    assert container.stop(5) == 0
    assert [entry["event"] for entry in container.events()][-1] == "daemon_stopping"
    assert beside.once("health")[0] == 1


def test_a_wrong_user_learns_whose_the_media_are_and_which_line_to_write(beside: Beside) -> None:
    beside.fill(1)
    beside.media_path.chmod(0o750)
    for words in (("check-config", "--connect"), ("plan",), ("once",)):
        status, said = beside.once(*words, RETENTIOND_USER="1234:1234")
        assert status == 4, said
        assert f"{_MEDIA} belongs to user and group {_UID}:{_UID}, and this process runs as 1234:1234" in said
        assert f'`user: "{_UID}:{_UID}"` in the compose file' in said


def test_what_is_missing_is_said_with_the_next_step(beside: Beside) -> None:
    beside.fill(1)
    empty = beside.media_path.with_name("empty")
    empty.mkdir()
    os.chown(empty, _UID, _UID)
    status, said = beside.once("once", DENDRITE_MEDIA=str(empty))
    assert status == 3, said
    assert f"the database has media and {_MEDIA} has none: check that the disk is mounted" in said

    beside.configure(media_path="/var/dendrite/elsewhere")
    status, said = beside.once("once")
    assert status == 4, said
    assert "cannot be opened: No such file or directory; check that it is mounted" in said

    beside.configure(database="postgresql://dendrite@postgres.invalid/dendrite")
    status, said = beside.once("once")
    assert status == 4, said
    assert "has a host name that cannot be resolved" in said
    assert "the name of a container is known while it runs, to containers of the same network" in said

    (beside.config / "retentiond.yaml").unlink()
    status, said = beside.once("plan")
    assert (status, "there is no such file; make one with `retentiond init`" in said) == (2, True), said


def test_init_finds_dendrites_configuration_and_a_pass_follows(beside: Beside) -> None:
    beside.fill(4)
    (beside.config / "retentiond.yaml").unlink()
    os.chown(beside.config, _UID, _UID)
    status, said = beside.once("init", "--yes")
    assert (beside.config / "retentiond.yaml").exists(), said
    assert status == 0, said
    assert (
        "docker compose … run --rm retentiond-once once media --yes\n  docker compose … up -d retentiond"
        in said
    )
    beside.configure()
    status, said = beside.once("once", "media", "--yes")
    assert (status, beside.files) == (0, 0), said


def test_a_replaced_container_goes_on_where_the_killed_one_was(beside: Beside) -> None:
    """Without a fixed host name the killed daemon would look like another host's for minutes."""
    beside.fill(40)
    beside.configure(pace={"batch": 1, "concurrency": 1, "max_items_per_second": 2})
    daemon = beside.start()
    daemon.until(lambda: health(beside, daemon)[0] == 0, "health")
    beside.podman.run(_IMAGE, ["--detach", "--name=pass", *beside.options("retentiond-once")], "once")
    daemon.until(lambda: beside.files < 38, "the first batches")
    Container(beside.podman, "pass").kill_and_remove()
    daemon.kill_and_remove()
    assert 0 < beside.files < 40

    beside.configure()
    daemon = beside.start()
    daemon.until(lambda: health(beside, daemon)[0] == 0, "health")
    status, said = beside.once("once")
    assert (status, beside.files) == (0, 0), said
    assert daemon.events("standing_by") == []
    states = beside.ask("SELECT array_agg(state ORDER BY pass_id) FROM retentiond.pass")
    assert states == ["interrupted", "finished"]
    assert beside.ask("SELECT array_agg(host) FROM retentiond.daemon") == ["retentiond"]
    assert daemon.stop(5) == 0


def test_a_stop_in_the_midst_of_the_start_does_not_wait_for_a_kill(beside: Beside) -> None:
    """The first process of a container ignores a signal for which it has no handler yet."""
    podman = beside.podman
    podman.run(_IMAGE, ["--detach", "--name", "begins", *beside.options("retentiond")])
    assert Container(podman, "begins").stop(5) in (0, 128 + 15)
