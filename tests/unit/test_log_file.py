"""A log that is followed loses no line and gives none twice, whatever rotates it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from retentiond.adapters import log_file
from retentiond.adapters.log_file import LogPosition, read_block

if TYPE_CHECKING:
    from pathlib import Path


class Follower:
    """Reads a log as far as it goes, each time it is asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position: LogPosition | None = None
        self.gaps = 0

    def read(self) -> list[str]:
        lines = []
        while True:
            block = read_block(self.path, self.position)
            self.position = block.position or self.position
            self.gaps += block.gap
            lines += [line.decode() for line in block.lines]
            if block.last:
                return lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text("one\ntwo\n")
    return path


def age(path: Path, seconds: int) -> None:
    os.utime(path, (1_700_000_000 - seconds, 1_700_000_000 - seconds))


def test_each_line_comes_once_and_a_partial_one_when_it_is_whole(log: Path) -> None:
    follower = Follower(log)
    assert follower.read() == ["one", "two"]
    with log.open("a") as file:
        file.write("three\nfo")
    assert follower.read() == ["three"]
    with log.open("a") as file:
        file.write("ur\n")
    assert follower.read() == ["four"]
    assert follower.read() == []


def test_a_rotated_file_is_finished_before_the_next_is_begun(log: Path) -> None:
    follower = Follower(log)
    follower.read()
    rotated = log.rename(log.with_name("access.log.1"))
    log.write_text("")
    with rotated.open("a") as file:
        file.write("three\n")
    age(rotated, 60)
    assert follower.read() == ["three"]
    log.write_text("four\n")
    assert follower.read() == ["four"]
    assert follower.gaps == 0


def test_two_rotations_between_two_looks_lose_nothing(log: Path) -> None:
    follower = Follower(log)
    follower.read()
    with log.open("a") as file:
        file.write("three\n")
    for number, text in ((2, "four\n"), (1, "five\n")):
        age(log, number * 60)
        log.rename(log.with_name(f"access.log-2026-01-0{number}"))
        log.write_text(text)
    assert follower.read() == ["three", "four", "five"]
    assert follower.gaps == 0


def test_a_log_that_was_copied_and_cut_is_gone_on_with(log: Path) -> None:
    follower = Follower(log)
    follower.read()
    with log.open("a") as file:
        file.write("three\n")
    copy = log.with_name("access.log.1")
    shutil.copy(log, copy)
    age(copy, 60)
    log.write_text("four\n")
    assert follower.read() == ["three", "four"]
    assert follower.gaps == 0


def test_a_new_file_under_the_old_number_is_not_taken_for_the_old_one(log: Path) -> None:
    follower = Follower(log)
    follower.read()
    # Written in place, the file keeps its inode, as one does that gets the number of a removed one.
    log.write_text("other\nlonger than what was there before\n")
    assert follower.read() == ["other", "longer than what was there before"]
    assert follower.gaps == 1


def test_a_rotated_file_that_was_packed_leaves_a_gap(log: Path) -> None:
    follower = Follower(log)
    follower.read()
    log.rename(log.with_name("access.log.1.gz"))
    log.write_text("later\n")
    assert follower.read() == ["later"]
    assert follower.gaps == 1


def test_a_rotated_file_that_may_not_be_read_leaves_a_gap_and_stops_nothing(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = Follower(log)
    follower.read()
    old = log.rename(log.with_name("access.log.1"))
    log.write_text("later\n")
    really_open = os.open

    def refuse(path: Path, *arguments: int) -> int:
        if path == old:
            raise PermissionError
        return really_open(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    assert follower.read() == ["later"]
    assert follower.gaps == 1


def test_a_line_longer_than_a_block_is_skipped_in_bounded_memory(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "BLOCK", 8)
    log.write_text("x" * 50 + "\ntwo\n")
    assert Follower(log).read()[-1] == "two"


def test_a_pipe_in_place_of_the_log_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        read_block(path, None)


def test_after_a_rotation_a_first_line_longer_than_a_block_does_not_hold_up_the_rest(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "BLOCK", 8)
    follower = Follower(log)
    follower.read()
    age(log.rename(log.with_name("access.log.1")), 60)
    log.write_text("x" * 50 + "\nthree\n")
    assert follower.read()[-1:] == ["three"]


@pytest.mark.parametrize(
    "rotated",
    [
        "access.log.1",
        "access.log-20260102",
        "access-20260102.log",
        "access-2026-01-02T03-04-05.678.log",
        "access-2026-01-02T03-04-05.678-size.log",
    ],
)
def test_another_log_beside_it_is_not_taken_for_its_next_file(log: Path, rotated: str) -> None:
    follower = Follower(log)
    follower.read()
    age(log.rename(log.with_name(rotated)), 60)
    for other in ("access.error.log", "access-other.log", "access_ssl.log", "access.log.1.gz"):
        log.with_name(other).write_text("of another\n")
        age(log.with_name(other), 30)
    log.write_text("three\n")
    assert follower.read() == ["three"]
    assert follower.gaps == 0


def test_a_log_behind_a_link_is_followed_where_it_is_rotated(log: Path, tmp_path: Path) -> None:
    link = tmp_path / "logs" / "dendrite.log"
    link.parent.mkdir()
    link.symlink_to(log)
    follower = Follower(link)
    follower.read()
    with log.open("a") as file:
        file.write("three\n")
    age(log.rename(log.with_name("access.log.1")), 60)
    log.write_text("four\n")
    assert follower.read() == ["three", "four"]
    assert follower.gaps == 0


def test_a_link_that_leads_to_the_next_file_each_day_is_followed(log: Path) -> None:
    days = [log.with_name(f"access-2026010{day}.log") for day in (1, 2)]
    age(log.rename(days[0]), 60)
    log.symlink_to(days[0])
    follower = Follower(log)
    follower.read()
    days[1].write_text("three\n")
    log.unlink()
    log.symlink_to(days[1])
    assert follower.read() == ["three"]
    assert follower.gaps == 0
