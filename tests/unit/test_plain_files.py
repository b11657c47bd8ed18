"""A pipe in the place of a file of ours holds nobody, and a second name of a medium is not written through."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

import pytest

from retentiond.model.errors import RefusedError
from retentiond.targets.dendrite_media.disk.layout import MARK, OWN, PROBE, STAGING
from retentiond.targets.dendrite_media.disk.staging import Staging
from retentiond.targets.dendrite_media.disk.tree import MediaTree
from retentiond.targets.dendrite_media.store.mark import Mark, read_mark, write_mark

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARKED = Mark(UUID(int=1), 7)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[MediaTree]:
    with MediaTree(tmp_path) as opened:
        opened.prepare()
        yield opened


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    """End an open that a pipe holds: nothing else would."""

    def give_up(*_arguments: object) -> NoReturn:
        raise TimeoutError("the pipe held us")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_pipe_where_the_mark_should_be_is_refused_and_holds_nobody(tree: MediaTree) -> None:
    os.mkfifo(tree.path / OWN / MARK)
    with pytest.raises(RefusedError, match="not a regular file"):
        read_mark(tree, "media")


def test_a_pipe_where_the_next_mark_is_written_holds_nobody(tree: MediaTree) -> None:
    os.mkfifo(tree.path / OWN / f"{MARK}.new")
    write_mark(tree, MARKED)
    found = read_mark(tree, "media")
    assert found is not None
    assert (found.store_id, found.last_pass) == (MARKED.store_id, MARKED.last_pass)


def test_a_medium_with_a_second_name_where_the_next_mark_is_written_stays_as_it_is(tree: MediaTree) -> None:
    medium = tree.path / "medium"
    medium.write_bytes(b"a picture")
    medium.chmod(0o644)
    os.link(medium, tree.path / OWN / f"{MARK}.new")
    write_mark(tree, MARKED)
    assert (medium.read_bytes(), medium.stat().st_mode & 0o777) == (b"a picture", 0o644)


def test_a_pipe_where_links_are_tried_holds_nobody(tree: MediaTree) -> None:
    os.mkfifo(tree.path / OWN / STAGING / f"{PROBE}.one")
    tree.probe()


def test_a_pipe_in_the_place_of_a_content_is_not_copied_and_holds_nobody(
    tree: MediaTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tree.path / "file")

    def refuse(*_arguments: object, **_options: object) -> NoReturn:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with Staging(tree, 1) as staging, pytest.raises(OSError, match="not a regular file"):
        staging.replace(tree.root, "file", tree.root)
    with suppress(FileNotFoundError):
        assert os.listdir(tree.path / OWN / STAGING) == []
