"""Make a release: its changelog, its tag, and its artefacts with a list of their parts and their checksums.

    python tools/release.py prepare 0.2.0           # show what a release would change
    python tools/release.py prepare 0.2.0 --yes     # change it, commit it, and tag the commit
    python tools/release.py build --tag v0.2.0      # wheel, sdist, Debian packages, SBOM, SHA256SUMS in dist/

CONTRIBUTING.md, "Releasing", has the whole way. `build` runs at each tag in .github/workflows/release.yml as well. The
artefacts have the time of the commit: two builds of its sdist and wheel have the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.version import Version

from retentiond.cli.options import PROGRAM
from tools import debian

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT: Final = debian.ROOT
SUMS: Final = "SHA256SUMS"
_VERSION: Final = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_HEADING: Final = re.compile(r"(?m)^## (?P<version>\S+) \((?P<date>[^)]*)\)\n")
_OPEN: Final = "unreleased"


class RefusedError(Exception):
    """The release is refused; the message ends with the next step."""


def checked_version(version: str, released: Iterable[str]) -> str:
    """Return the version; raise RefusedError unless it has the form X.Y.Z and is higher than each released one."""
    if not _VERSION.fullmatch(version):
        raise RefusedError(f"{version} is not a semantic version; write X.Y.Z, such as 0.2.0")
    highest = max(released, key=Version, default=None)
    if highest is not None and Version(version) <= Version(highest):
        raise RefusedError(f"{version} is not higher than {highest}, which is released; choose a higher one")
    return version


def section(changelog: str, version: str | None = None) -> re.Match[str]:
    """Return the heading of a version, or of the changes that are not released; raise RefusedError.

    A section without a line counts as missing.
    """
    for heading in _HEADING.finditer(changelog):
        if heading["version"] == version or (version is None and heading["date"] == _OPEN):
            if not notes(changelog, heading):
                raise RefusedError(
                    f"the section {heading[0].strip()} of CHANGELOG.md is empty; write what users see"
                )
            return heading
    wanted = f"{version} (DATE)" if version else f"X.Y.Z ({_OPEN})"
    raise RefusedError(
        f"CHANGELOG.md has no section `## {wanted}`; add it, with a line for each change that users see"
    )


def notes(changelog: str, heading: re.Match[str]) -> str:
    """Return the text below a heading."""
    following = _HEADING.search(changelog, heading.end())
    return changelog[heading.end() : following.start() if following else None].strip()


def released(changelog: str, tags: Iterable[str]) -> list[str]:
    """Return the versions that are released, by the changelog or by a tag."""
    dated = [heading["version"] for heading in _HEADING.finditer(changelog) if heading["date"] != _OPEN]
    return dated + [tag[1:] for tag in tags if tag[:1] == "v" and _VERSION.fullmatch(tag[1:])]


def dated(changelog: str, version: str, day: date) -> str:
    """Return the changelog with the changes that were not released as those of a version."""
    heading = section(changelog)
    return f"{changelog[: heading.start()]}## {version} ({day})\n{changelog[heading.end() :]}"


def sums(directory: Path) -> str:
    """Return the checksums of the files of a directory, as `sha256sum --check` reads them."""
    files = sorted(path for path in directory.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def check_clean(root: Path) -> None:
    """Raise RefusedError if files of the clone are changed or unknown to git."""
    changed = _git(root, "status", "--porcelain")
    if changed:
        raise RefusedError(f"the clone has changes; commit or remove them:\n{changed}")


def prepare(root: Path, version: str, *, yes: bool, day: date) -> None:
    """Write changelog, version and generated files, commit and tag; without `yes` only say so."""
    check_clean(root)
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    checked_version(version, released(changelog, _git(root, "tag", "--list").split()))
    text = dated(changelog, version, day)
    print(f"{version}, {day}:", notes(text, section(text, version)), sep="\n")
    if not yes:
        print(f"\nNothing was changed; `prepare {version} --yes` commits this and tags it v{version}.")
        return
    (root / "CHANGELOG.md").write_text(text, encoding="utf-8")
    about = root / "retentiond/__init__.py"
    about.write_text(
        re.sub(r'(?m)^__version__ = ".*"$', f'__version__ = "{version}"', about.read_text(encoding="utf-8")),
        encoding="utf-8",
    )
    # In a process of its own: this one has imported the version before.
    environment = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "tools/documents.py"], cwd=root, env=environment, check=True)
    _git(root, "commit", "--quiet", "--all", "--message", f"Release {version}")
    _git(root, "tag", "--annotate", f"v{version}", "--message", f"{PROGRAM} {version}")
    print(f"\nTagged v{version}. Next: git push origin HEAD v{version}")


def build(root: Path, output: Path, tag: str | None, architectures: Sequence[str]) -> None:
    """Build all artefacts of this commit into `output`; raise RefusedError for a tag of another version."""
    check_clean(root)
    version = _version(root)
    if tag is not None:
        if tag != f"v{version}":
            raise RefusedError(
                f"the tag {tag} is not that of version {version}; prepare a release, and push its tag"
            )
        section((root / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    output.mkdir(parents=True, exist_ok=True)
    if any(output.iterdir()):
        raise RefusedError(f"{output} is not empty; remove it, or name another one with --output")
    os.environ["SOURCE_DATE_EPOCH"] = _git(root, "log", "-1", "--format=%ct")
    sdist, wheel = build_distributions(root, output)
    _run(root, "twine", "check", "--strict", str(sdist), str(wheel))
    for architecture in architectures:
        debian.build(wheel, version, output, architecture)
    write_sbom(root, output / f"{PROGRAM}-{version}.cdx.json")
    (output / SUMS).write_text(sums(output), encoding="utf-8")
    print((output / SUMS).read_text(encoding="utf-8"), end="")


def build_distributions(root: Path, output: Path) -> tuple[Path, Path]:
    """Build the source distribution and the wheel into `output`, and return both."""
    for target in ("sdist", "wheel"):
        # The build backend is that of the extra `release`: the same versions as in pyproject.toml, and no network.
        subprocess.run(
            [
                sys.executable,
                "-m",
                "hatchling",
                "build",
                "--target",
                target,
                "--directory",
                output.absolute(),
            ],
            cwd=root,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return sdist, wheel


def write_sbom(root: Path, path: Path) -> None:
    """Write what the Debian packages consist of, in the format CycloneDX, with the hashes of each part."""
    _run(
        root, "cyclonedx-py", "requirements", "requirements-package-hashed.lock", "--pyproject", "pyproject.toml",
        "--mc-type", "application", "--output-reproducible", "--output-format", "JSON", "--output-file", str(path.absolute()),
    )  # fmt: skip


def _version(root: Path) -> str:
    return subprocess.check_output(
        [sys.executable, "-m", "hatchling", "version"], cwd=root, text=True
    ).strip()


def _git(root: Path, *words: str) -> str:
    return subprocess.check_output(["git", "-C", str(root), *words], text=True).strip()


def _run(root: Path, tool: str, *words: str) -> None:
    subprocess.run([debian.tool(tool), *words], cwd=root, check=True)


def main(words: Sequence[str] | None = None) -> int:
    """Run a command of this script, and return its exit status."""
    parser = argparse.ArgumentParser(prog="tools/release.py", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("prepare", help="date the changelog, set the version, commit and tag")
    first.add_argument("version", metavar="X.Y.Z")
    first.add_argument("--yes", action="store_true", help="do it; without this it is only shown")
    second = commands.add_parser("build", help="build all artefacts of this commit")
    second.add_argument(
        "--tag", help="refuse unless this is the tag of the version, and the changelog has its section"
    )
    second.add_argument(
        "--output", type=Path, default=ROOT / "dist", help="an empty directory; default: dist"
    )
    second.add_argument(
        "--architecture",
        action="append",
        choices=debian.ARCHITECTURES,
        help="of a Debian package; default: all",
    )
    given = parser.parse_args(words)
    try:
        if given.command == "prepare":
            prepare(ROOT, given.version, yes=given.yes, day=datetime.now(UTC).date())
        else:
            build(ROOT, given.output, given.tag, given.architecture or list(debian.ARCHITECTURES))
    except RefusedError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
