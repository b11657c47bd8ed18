"""A release: which version and changelog it takes, what it refuses, and that its files are those of the commit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from datetime import date
from pathlib import Path

import pytest

from tests.support.chance import NIGHTLY
from tools import debian, release

_REPOSITORY = Path(__file__).parents[2]
_DAY = date(2026, 11, 30)
_CHANGELOG = """\
# Changelog

## 0.2.0 (unreleased)

- New.

## 0.1.0 (2026-10-01)

- Old.
"""


def git(root: Path, *words: str) -> str:
    identity = {
        f"GIT_{who}_{part}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")
    }
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    return subprocess.check_output(
        ["git", "-C", root, *words], env=os.environ | identity | settings, text=True
    )


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of this repository as they are now, in a repository of their own with one commit."""
    if shutil.which("git") is None or not (_REPOSITORY / ".git").exists():
        pytest.skip("the tests run from no clone, or there is no git")
    root = tmp_path / "copy"
    names = subprocess.check_output(
        ["git", "-C", _REPOSITORY, "ls-files", "--cached", "--others", "--exclude-standard"], text=True
    ).splitlines()
    for name in names:
        if (_REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_REPOSITORY / name, root / name)
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "All")
    return root


@pytest.mark.parametrize("version", ["0.2", "v0.2.0", "0.2.0rc1", "0.02.0", "", "0.2.0\n"])
def test_a_version_that_is_not_semantic_is_refused(version: str) -> None:
    with pytest.raises(release.RefusedError, match=r"write X\.Y\.Z"):
        release.checked_version(version, [])


@pytest.mark.parametrize(
    ("version", "before"), [("0.9.0", "0.10.0"), ("0.10.0", "0.10.0"), ("1.2.3", "2.0.0")]
)
def test_a_version_that_is_not_higher_is_refused(version: str, before: str) -> None:
    with pytest.raises(release.RefusedError, match=f"not higher than {re.escape(before)}"):
        release.checked_version(version, ["0.1.0", before])


def test_a_higher_version_is_taken_and_the_first_one_is() -> None:
    assert release.checked_version("0.10.0", ["0.9.0", "0.2.0"]) == "0.10.0"
    assert release.checked_version("0.1.0", []) == "0.1.0"


def test_versions_of_tags_and_of_the_changelog_are_released() -> None:
    assert release.released(_CHANGELOG, ["v0.1.1", "nightly", "vNext"]) == ["0.1.0", "0.1.1"]


def test_the_open_section_becomes_that_of_the_version_and_nothing_else_changes() -> None:
    text = release.dated(_CHANGELOG, "0.3.0", _DAY)
    assert text == _CHANGELOG.replace("0.2.0 (unreleased)", "0.3.0 (2026-11-30)")
    assert release.notes(text, release.section(text, "0.3.0")) == "- New."


@pytest.mark.parametrize(
    "changelog", [_CHANGELOG.replace("unreleased", "2026-11-01"), _CHANGELOG.replace("- New.\n", ""), ""]
)
def test_a_changelog_without_changes_to_release_is_refused(changelog: str) -> None:
    with pytest.raises(release.RefusedError, match=r"CHANGELOG\.md"):
        release.dated(changelog, "0.3.0", _DAY)


def test_a_release_is_shown_first_then_committed_and_tagged(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = git(copy, "rev-parse", "HEAD")
    (copy / "CHANGELOG.md").write_text(_CHANGELOG)
    with pytest.raises(release.RefusedError, match="the clone has changes"):
        release.prepare(copy, "0.2.0", yes=True, day=_DAY)
    git(copy, "commit", "--quiet", "--all", "--amend", "--no-edit")
    before = git(copy, "rev-parse", "HEAD")
    release.prepare(copy, "0.2.0", yes=False, day=_DAY)
    assert "- New." in capsys.readouterr().out
    assert (git(copy, "rev-parse", "HEAD"), git(copy, "status", "--porcelain")) == (before, "")
    release.prepare(copy, "0.2.0", yes=True, day=_DAY)
    assert git(copy, "status", "--porcelain") == ""
    assert git(copy, "describe", "--exact-match", "HEAD").strip() == "v0.2.0"
    assert sorted(git(copy, "diff", "--name-only", "HEAD~1").split()) == [
        "CHANGELOG.md",
        "man/retentiond.1",
        "retentiond/__init__.py",
    ]
    with pytest.raises(release.RefusedError, match=r"not higher than 0\.2\.0"):
        release.prepare(copy, "0.2.0", yes=True, day=_DAY)
    for tag in ("v0.1.0", "0.2.0"):
        with pytest.raises(release.RefusedError, match="not that of version"):
            release.build(copy, copy.parent / "dist", tag, [])
    (copy.parent / "dist").mkdir()
    (copy.parent / "dist/old.whl").touch()
    with pytest.raises(release.RefusedError, match="is not empty"):
        release.build(copy, copy.parent / "dist", "v0.2.0", [])


def files_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def test_a_build_has_the_same_bytes_again_and_the_source_distribution_makes_the_same_wheel(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # it is set anew, and that is undone
    outputs = [tmp_path / name for name in (("first", "second") if NIGHTLY else ("first",))]
    for output in outputs:
        release.build(copy, output, None, [])
        for path in copy.rglob("*"):
            os.utime(path, (0, 10**9))
    first, *others = ({path.name: path.read_bytes() for path in output.iterdir()} for output in outputs)
    assert all(other == first for other in others)
    (sdist,), (wheel,) = outputs[0].glob("*.tar.gz"), outputs[0].glob("*.whl")
    with tarfile.open(sdist) as opened:
        opened.extractall(tmp_path / "sdist", filter="data")
        inside = {name.partition("/")[2] for name in opened.getnames()}
    # A stranger runs the tests from it.
    assert set(git(copy, "ls-files").split("\n")) - {""} == inside - {"PKG-INFO"}
    (unpacked,) = (tmp_path / "sdist").iterdir()
    again = tmp_path / "again"
    again.mkdir()
    _, from_sdist = release.build_distributions(unpacked, again)
    assert from_sdist.read_bytes() == wheel.read_bytes()
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", release.SUMS], cwd=outputs[0], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sbom = json.loads((outputs[0] / f"retentiond-{debian_version()}.cdx.json").read_text())
    parts = {part["name"]: part for part in sbom["components"]}
    assert sbom["bomFormat"] == "CycloneDX"
    assert parts["asyncpg"]["purl"].startswith("pkg:pypi/asyncpg@")
    assert all(
        reference.get("hashes")
        for reference in parts["asyncpg"]["externalReferences"]
        if reference["type"] == "distribution"
    )
    metadata = next(
        text.decode() for name, text in files_of(wheel).items() if name.endswith(".dist-info/METADATA")
    )
    targets = re.findall(r"\]\(([^)]+)\)", metadata)
    home = debian.homepage()
    picture = f"{home.replace('github.com', 'raw.githubusercontent.com')}/v{debian_version()}/docs/images/report.png"
    assert picture in targets
    assert [target for target in targets if not target.startswith("https://")] == []


def debian_version() -> str:
    text = (_REPOSITORY / "retentiond/__init__.py").read_text()
    return text.rpartition(' = "')[2].rstrip('"\n')


def test_every_url_of_the_project_is_below_its_home() -> None:
    text = (_REPOSITORY / "pyproject.toml").read_text()
    home = debian.homepage()
    urls = re.findall(r"https://[^\s'\"\\]+", text)
    raw = home.replace("github.com", "raw.githubusercontent.com")
    assert [url for url in urls if not url.startswith((home, raw))] == []
    assert "README.md" in {
        fragment["path"]
        for fragment in tomllib.loads(text)["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"][
            "fragments"
        ]
    }


def test_modules_of_two_pythons_share_a_directory_but_not_files_that_differ(tmp_path: Path) -> None:
    for python, inside in (("3.11", "a"), ("3.13", "a")):
        (tmp_path / python / "one").mkdir(parents=True)
        (tmp_path / python / "one/a.py").write_text(inside)
        (tmp_path / python / f"one/b.cpython-{python}.so").write_text(python)
        (tmp_path / python / "one-1.dist-info").mkdir()
        (tmp_path / python / "one-1.dist-info/RECORD").write_text(python)
        debian.merge(tmp_path / python, tmp_path / "all")
    assert sorted(os.listdir(tmp_path / "all/one")) == ["a.py", "b.cpython-3.11.so", "b.cpython-3.13.so"]
    assert not (tmp_path / "all/one-1.dist-info").exists()
    (tmp_path / "other/one").mkdir(parents=True)
    (tmp_path / "other/one/a.py").write_text("b")
    with pytest.raises(ValueError, match=r"one/a\.py is not the same"):
        debian.merge(tmp_path / "other", tmp_path / "all")


def test_a_unit_of_the_package_has_a_user_of_its_own_and_no_media() -> None:
    for name in ("retentiond.service", "retentiond-once.service"):
        text = debian.unit((_REPOSITORY / "systemd" / name).read_text())
        keys = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert "User=retentiond" in keys
        assert not re.search(r"dendrite|ReadWritePaths|RequiresMountsFor", text)
