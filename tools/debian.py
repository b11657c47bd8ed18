"""The Debian package: the program, with every package that it needs for the Python of Debian 12 and of Debian 13.

The packages come from requirements-package-hashed.lock as wheels, for the architecture of the package, not of this
machine. They are in one directory for both versions: files of Python's own must be the same, and compiled modules have
the version in their names. docs/adr/0011-debian-package.md has the reasons.
"""

from __future__ import annotations

import filecmp
import gzip
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml
from typer.completion import get_completion_script  # type: ignore[attr-defined] # it is what --show-completion prints

from retentiond.cli.options import PROGRAM
from tools.manual import FILE as MANUAL

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[1]
PYTHONS: Final = ("3.11", "3.13")
"""The versions of Debian 12 and 13; debian/nfpm.yaml depends on no other."""
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
COMPLETIONS: Final = {
    "bash": f"usr/share/bash-completion/completions/{PROGRAM}",
    "zsh": f"usr/share/zsh/vendor-completions/_{PROGRAM}",
    "fish": f"usr/share/fish/vendor_completions.d/{PROGRAM}.fish",
}
_COMMANDS: Final = frozenset({f"usr/bin/{PROGRAM}", f"usr/share/python3/runtime.d/{PROGRAM}.rtupdate"})
_GLIBC: Final = "2_28"
_DROPPED: Final = frozenset({"RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json"})
"""Files of an installation that differ by machine or Python, and that nothing reads."""
_SBOM: Final = re.compile(r"\.dist-info/sboms/")
"""Lists of a compiled module's own parts, which differ by Python."""


def build(wheel: Path, version: str, output: Path, architecture: str = "amd64") -> Path:
    """Build the package from a wheel of this program into `output`; the time of its files is $SOURCE_DATE_EPOCH."""
    package = output / f"{PROGRAM}_{version}_{architecture}.deb"
    with tempfile.TemporaryDirectory(prefix="retentiond-deb-") as directory:
        tree = Path(directory, "tree")
        _add_packages(tree / "usr/lib/retentiond", Path(directory), wheel, architecture)
        _add_files(tree, version)
        for path in (tree, *tree.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or str(path.relative_to(tree)) in _COMMANDS else 0o644)
            os.utime(path, (_epoch(), _epoch()), follow_symlinks=False)
        variables = {"VERSION": version, "ARCH": architecture, "HOMEPAGE": homepage(), "TREE": str(tree)}
        subprocess.run(
            [tool("nfpm"), "package", "--config", "debian/nfpm.yaml", "--packager", "deb", "--target", package.absolute()],
            cwd=ROOT,
            env=os.environ | variables | {"SOURCE_DATE_EPOCH": str(_epoch())},
            check=True,
        )  # fmt: skip
    return package


def homepage() -> str:
    """Return the URL of the project."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    return str(urls["Homepage"])


def unit(text: str, user: str = PROGRAM) -> str:
    """Return a unit without its lines for dendrite, as `systemd/install --chats` makes it, with a user of its own."""
    alone = re.sub(r"(?ms)^# dendrite:.*?^# end of dendrite\n", "", text)
    return alone.replace("# Who it runs as.\n", f"# Who it runs as.\nUser={user}\n", 1)


def _add_packages(target: Path, directory: Path, wheel: Path, architecture: str) -> None:
    lock = ROOT / "requirements-package-hashed.lock"
    for python in PYTHONS:
        installed = directory / python
        for what in (("--require-hashes", "-r", str(lock)), (str(wheel),)):
            subprocess.run(
                [
                    tool("uv"), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-config",
                    "--link-mode", "copy", "--target", installed, "--python-version", python,
                    "--python-platform", f"{ARCHITECTURES[architecture]}-manylinux_{_GLIBC}", *what,
                ],
                check=True,
            )  # fmt: skip
        merge(installed, target)


def merge(source: Path, target: Path) -> None:
    """Move the files of an installation into another one's directory; raise ValueError if two of a name differ."""
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if path.is_dir() or _is_dropped(name):
            continue
        place = target / name
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
        elif not _SBOM.search(str(name)) and not filecmp.cmp(path, place, shallow=False):
            raise ValueError(f"{name} is not the same for each version of Python")


def _is_dropped(name: Path) -> bool:
    inside = name.parts[0]
    return (
        inside == "bin" or name.name == ".lock" or (inside.endswith(".dist-info") and name.name in _DROPPED)
    )


def _add_files(tree: Path, version: str) -> None:
    texts = dict(_texts(version))
    for name, text in texts.items():
        place = tree / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".gz"):
            place.write_bytes(gzip.compress(text.encode(), mtime=0))
        else:
            place.write_text(text, encoding="utf-8")
    schema = tree / "etc/retentiond/config.schema.json"
    schema.parent.mkdir(parents=True)
    # The first line of the configuration names the file beside it.
    schema.symlink_to("/usr/share/retentiond/config.schema.json")


def _texts(version: str) -> Iterator[tuple[str, str]]:
    def text(name: str) -> str:
        return (ROOT / name).read_text(encoding="utf-8")

    yield f"usr/bin/{PROGRAM}", text("debian/retentiond")
    yield f"usr/share/python3/runtime.d/{PROGRAM}.rtupdate", text("debian/rtupdate")
    for name in ("retentiond.service", "retentiond-once.service"):
        yield f"usr/lib/systemd/system/{name}", unit(text(f"systemd/{name}"))
    yield "usr/lib/systemd/system/retentiond-once.timer", text("systemd/retentiond-once.timer")
    yield f"usr/share/man/man1/{PROGRAM}.1.gz", text(MANUAL)
    yield from ((COMPLETIONS[shell], completion(shell)) for shell in COMPLETIONS)
    yield "usr/share/retentiond/config.schema.json", text("config.schema.json")
    documents = f"usr/share/doc/{PROGRAM}"
    yield f"{documents}/examples/config.example.yaml", text("config.example.yaml")
    yield f"{documents}/copyright", text("debian/copyright").replace("${HOMEPAGE}", homepage())
    yield f"{documents}/NEWS.gz", text("CHANGELOG.md")
    yield f"{documents}/changelog.gz", _changelog(version)
    yield f"usr/share/lintian/overrides/{PROGRAM}", text("debian/lintian-overrides")


def completion(shell: str) -> str:
    """Return what a shell reads to complete the command line; it asks the program itself."""
    return (
        get_completion_script(prog_name=PROGRAM, complete_var=f"_{PROGRAM.upper()}_COMPLETE", shell=shell)
        + "\n"
    )


def _changelog(version: str) -> str:
    maintainer = yaml.safe_load((ROOT / "debian/nfpm.yaml").read_text(encoding="utf-8"))["maintainer"]
    date = format_datetime(datetime.fromtimestamp(_epoch(), UTC))
    return f"{PROGRAM} ({version}) unstable; urgency=medium\n\n  * NEWS has the changes.\n\n -- {maintainer}  {date}\n"


def _epoch() -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        raise ValueError("SOURCE_DATE_EPOCH is not set: the time of the files of a package")
    return int(given)


def tool(name: str) -> str:
    """Return the path of a program of the extra `release`, beside this Python; raise FileNotFoundError."""
    found = shutil.which(
        name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    )
    if found is None:
        raise FileNotFoundError(f"{name} is not here; pip install -c requirements.lock -e '.[release]'")
    return found
