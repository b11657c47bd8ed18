"""The lock files: what is installed as a service is pinned, hashed, and the same as what was tested."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

_REPOSITORY: Final = Path(__file__).parents[2]
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def project() -> dict[str, Any]:
    return tomllib.loads((_REPOSITORY / "pyproject.toml").read_text())


def hashed(lock: str = "requirements-hashed.lock") -> dict[str, str]:
    """Return the requirements with hashes, by name."""
    text = (_REPOSITORY / lock).read_text()
    found = {}
    for entry in re.split(r"\n(?=[A-Za-z])", text.partition(f"-o {lock}\n")[2]):
        requirement, *hashes = entry.split(" \\\n")
        assert hashes, requirement
        assert all(re.fullmatch(r" *--hash=sha256:[0-9a-f]{64}\s*", one) for one in hashes), requirement
        name, _, version = requirement.partition(" ;")[0].partition("==")
        found[normal(name)] = version
    return found


def constrained() -> dict[str, str]:
    """Return the versions of the constraints file, by name."""
    lines = (_REPOSITORY / "requirements.lock").read_text().splitlines()
    pairs = (line.partition("==") for line in lines if not line.startswith("#"))
    return {normal(name): version for name, _, version in pairs}


@pytest.mark.parametrize("lock", sorted(path.name for path in _REPOSITORY.glob("requirements-*hashed.lock")))
def test_every_package_that_a_service_installs_has_the_tested_version_and_hashes(lock: str) -> None:
    versions = hashed(lock)
    needed = [_NAME.match(requirement) for requirement in project()["project"]["dependencies"]]
    assert {normal(match[0]) for match in needed if match} <= versions.keys()
    known = constrained()
    assert {name: version for name, version in versions.items() if known.get(name, version) != version} == {}


def test_the_build_backend_and_its_dependencies_are_pinned_and_hashed() -> None:
    requires = project()["build-system"]["requires"]
    assert project()["dependency-groups"]["build"] == requires
    versions = hashed()
    for requirement in requires:
        name, _, version = requirement.partition("==")
        assert versions[normal(name)] == version


def test_a_lock_file_names_no_host() -> None:
    for path in _REPOSITORY.glob("requirements*.lock"):
        assert "://" not in path.read_text()
