"""The usual paths of dendrite's configuration and of its media directory, and those that a docker compose file names."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from retentiond.config.document import read_document
from retentiond.config.problems import ConfigError

_NAME: Final = "dendrite.yaml"
_USUAL: Final = (
    "etc/dendrite/dendrite.yaml",
    "etc/matrix-dendrite/dendrite.yaml",
    "etc/dendrite/config/dendrite.yaml",
    "usr/local/etc/dendrite/dendrite.yaml",
    "var/lib/dendrite/dendrite.yaml",
    "opt/dendrite/dendrite.yaml",
    "srv/dendrite/dendrite.yaml",
    # matrix-docker-ansible-deploy
    "matrix/dendrite/config/dendrite.yaml",
)
_BESIDE: Final = (
    _NAME,
    f"config/{_NAME}",
    f"dendrite/{_NAME}",
    f"dendrite/config/{_NAME}",
    f"data/dendrite/{_NAME}",
)
_COMPOSE: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
UNITS: Final = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
"""The directories of systemd's units."""
_IMAGE: Final = Path("/etc/dendrite")
"""The working directory of dendrite's image."""
_MOST: Final = 10_000
"""How many mounts, processes and units are looked at."""
_LARGEST_UNIT: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Search:
    """The paths that exist, each once, and all paths that were looked at."""

    found: tuple[Path, ...]
    looked_at: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of this machine, and its path in a container."""

    source: Path
    inside: Path


def find_configuration(root: Path, directory: Path | None, mounts: Iterable[Mount]) -> Search:
    """Look for dendrite's configuration in its usual paths below `root`, beside `directory`, and in its containers."""
    paths = [root / path for path in _USUAL]
    if directory is not None:
        paths += [directory / path for path in _BESIDE]
    for mount in mounts:
        if mount.inside.name == _NAME:
            paths.append(mount.source)
        elif mount.inside == _IMAGE:
            paths.append(mount.source / _NAME)
    return _search(paths, os.path.isfile)


def find_media(base_path: Path, file: Path, root: Path, mounts: Iterable[Mount]) -> Search:
    """Look for the media directory that `file` calls `base_path`, where it may be on this machine.

    A relative path is relative to the working directory of dendrite: of the process, of its systemd unit, or of the
    image. Many installations start dendrite beside its configuration.
    """
    if base_path.is_absolute():
        inside = [base_path]
        paths = [base_path]
    else:
        inside = [_IMAGE / base_path]
        starts = [*_of_processes(root), *_of_units(root), file.parent]
        paths = [start / base_path for start in starts]
    paths += [translated for path in inside for mount in mounts if (translated := _outside(path, mount))]
    return _search(paths, os.path.isdir)


def compose_mounts(directory: Path | None) -> tuple[Mount, ...]:
    """Return the bind mounts of the compose file in a directory; a file that cannot be read has none."""
    if directory is None:
        return ()
    for name in _COMPOSE:
        file = directory / name
        if file.is_file():
            with suppress(ConfigError):
                value = read_document(file, when_missing="", foreign=True).value
                return tuple(islice(_mounts(value, directory), _MOST))
    return ()


def _mounts(value: Any, directory: Path) -> Iterator[Mount]:
    services = value.get("services") if isinstance(value, dict) else None
    for service in services.values() if isinstance(services, dict) else ():
        volumes = service.get("volumes") if isinstance(service, dict) else None
        for volume in volumes if isinstance(volumes, list) else ():
            source: Any = None
            inside: Any = None
            if isinstance(volume, str):
                source, _, inside = volume.partition(":")
                inside = inside.partition(":")[0]
            elif isinstance(volume, dict) and volume.get("type") == "bind":
                source, inside = volume.get("source"), volume.get("target")
            # A name without a slash is a volume of docker's own.
            if (
                isinstance(source, str)
                and isinstance(inside, str)
                and source.startswith(("/", "./", "../", "."))
            ):
                yield Mount(Path(os.path.normpath(directory / source)), Path(os.path.normpath(inside)))


def _outside(path: Path, mount: Mount) -> Path | None:
    try:
        return mount.source / Path(os.path.normpath(path)).relative_to(mount.inside)
    except ValueError:
        return None


def _of_processes(root: Path) -> Iterator[Path]:
    for process in islice(_listed(root / "proc"), _MOST):
        with suppress(OSError):
            if process.name.isdigit() and process.joinpath("comm").read_bytes().startswith(b"dendrite"):
                yield process.joinpath("cwd").readlink()


def _of_units(root: Path) -> Iterator[Path]:
    for directory in UNITS:
        for unit in islice(_listed(root / directory), _MOST):
            if "dendrite" not in unit.name or unit.suffix != ".service":
                continue
            with suppress(OSError), unit.open("rb") as file:
                text = file.read(_LARGEST_UNIT).decode(errors="replace")
                for line in text.splitlines():
                    key, _, value = line.partition("=")
                    if key.strip() == "WorkingDirectory" and value.strip().startswith("/"):
                        yield Path(value.strip())


def _listed(directory: Path) -> Iterator[Path]:
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            yield Path(entry.path)


def _search(paths: Iterable[Path], is_right: Any) -> Search:
    looked_at = tuple(dict.fromkeys(paths))
    found: dict[str, Path] = {}
    for path in looked_at:
        with suppress(OSError, ValueError):
            if is_right(path):
                found.setdefault(os.path.realpath(path), path)
    return Search(tuple(found.values()), looked_at)
