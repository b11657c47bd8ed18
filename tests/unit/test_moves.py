"""What the disk must have written before the ledger may say so."""

from __future__ import annotations

import errno
import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.ledger.session import Guard
from retentiond.model.media import Hash
from retentiond.targets.dendrite_media.disk import kernel
from retentiond.targets.dendrite_media.disk import tree as trees
from retentiond.targets.dendrite_media.disk.layout import PURGING, EntryPath, Thumbnail, blob_parts
from retentiond.targets.dendrite_media.disk.look import file_missing
from retentiond.targets.dendrite_media.disk.mounts import Mount
from retentiond.targets.dendrite_media.disk.moves import purge_entries, quarantine_blobs, take_purges_back
from retentiond.targets.dendrite_media.disk.thumbnails import ThumbnailMove, quarantine_thumbnails
from retentiond.targets.dendrite_media.disk.tree import DirectoryCache, MediaTree

if TYPE_CHECKING:
    from pathlib import Path

ENTRIES = [EntryPath(3, Hash(first * 43), number) for number, first in enumerate("abcAB")]


@pytest.fixture
def media_path(tmp_path: Path) -> Path:
    for entry in ENTRIES:
        directory = tmp_path.joinpath(*blob_parts(entry.hash))
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(b"x")
    return tmp_path


@pytest.fixture(params=["whole", "each"])
def unsynced(media_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> set[int]:
    """The inodes of directories that were changed and not synced since; those that are gone need no sync."""
    # Where one sync of the whole file system may do nothing, each directory is synced.
    monkeypatch.setattr(MediaTree, "synced_whole", request.param == "whole")
    changed: set[int] = set()
    rename, unlink, rmdir, mkdir, fsync = os.rename, os.unlink, os.rmdir, os.mkdir, os.fsync
    sync = kernel.sync_file_system

    def note(descriptor: int | None) -> None:
        assert descriptor is not None
        changed.add(os.fstat(descriptor).st_ino)

    def noted_rename(*names: Any, src_dir_fd: int, dst_dir_fd: int) -> None:
        rename(*names, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        note(src_dir_fd)
        note(dst_dir_fd)

    def noted_unlink(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)

    def noted_rmdir(name: str, *, dir_fd: int) -> None:
        about = os.stat(name, dir_fd=dir_fd).st_ino
        rmdir(name, dir_fd=dir_fd)
        changed.discard(about)
        note(dir_fd)

    def noted_mkdir(name: str, mode: int, *, dir_fd: int) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        note(dir_fd)

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        changed.discard(os.fstat(descriptor).st_ino)

    def noted_sync(descriptor: int) -> None:
        sync(descriptor)
        changed.clear()

    monkeypatch.setattr(kernel, "sync_file_system", noted_sync)
    for name, wrapped in (
        ("rename", noted_rename),
        ("unlink", noted_unlink),
        ("rmdir", noted_rmdir),
        ("mkdir", noted_mkdir),
        ("fsync", noted_fsync),
    ):
        monkeypatch.setattr(os, name, wrapped)
    return changed


def test_both_sides_of_each_rename_are_on_disk_before_the_ledger_hears_of_it(
    media_path: Path, unsynced: set[int]
) -> None:
    with MediaTree(media_path) as tree:
        tree.prepare()
        assert {result.outcome for result in quarantine_blobs(tree, Guard())(ENTRIES)} == {"moved"}
        assert unsynced == set()
        # Done again after a crash, it says what it finds.
        assert {result.outcome for result in quarantine_blobs(tree, Guard())(ENTRIES)} == {"already"}


def test_thumbnails_that_move_alone_are_on_disk_with_every_directory_that_was_made_for_them(
    media_path: Path, unsynced: set[int]
) -> None:
    entry, thumbnail = ENTRIES[0], Thumbnail(32, 32, "crop")
    media_path.joinpath(*blob_parts(entry.hash), thumbnail.name).write_bytes(b"t")
    with MediaTree(media_path) as tree:
        tree.prepare()
        [result] = quarantine_thumbnails(tree, Guard())([ThumbnailMove(entry, [thumbnail])])
        assert result.outcome == "moved"
        assert unsynced == set()


def test_whether_a_file_is_missing_is_not_asked_behind_a_link(media_path: Path, tmp_path: Path) -> None:
    directory = media_path.joinpath(*blob_parts(ENTRIES[0].hash))
    directory.rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "file").unlink()
    directory.symlink_to(tmp_path / "elsewhere")
    with MediaTree(media_path) as tree:
        # What a link leads to is not looked at; and a link is not nothing.
        assert file_missing(tree)([ENTRIES[0].hash]) == [False]


def test_what_is_purged_is_gone_from_the_disk_before_the_ledger_forgets_it(
    media_path: Path, unsynced: set[int]
) -> None:
    with MediaTree(media_path) as tree:
        tree.prepare()
        quarantine_blobs(tree, Guard())(ENTRIES)
        held = [media_path.joinpath(".retentiond", *entry.shelf) for entry in ENTRIES]
        own = {os.stat(path).st_ino for path in held} | {
            os.stat(media_path / ".retentiond/quarantine/3").st_ino
        }
        assert {result.outcome for result in purge_entries(tree, Guard())(ENTRIES)} == {"moved"}
        # Our own empty directories may come up again after a power cut, and go with the next purge.
        quarantine = os.stat(media_path / ".retentiond/quarantine").st_ino
        assert unsynced - own - {quarantine} == set()
    assert list((media_path / ".retentiond/purging").iterdir()) == []


def test_many_more_directories_than_may_be_open_at_once_are_synced_all_the_same(
    media_path: Path, unsynced: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DirectoryCache.__init__, "__defaults__", (2,))
    with MediaTree(media_path) as tree:
        tree.prepare()
        before = len(os.listdir("/proc/self/fd"))
        quarantine_blobs(tree, Guard())(ENTRIES)
        assert len(os.listdir("/proc/self/fd")) == before
    assert unsynced == set()


def test_thumbnails_that_move_alone_cost_a_batch_one_sync_of_the_file_system(
    media_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thumbnail = Thumbnail(32, 32, "crop")
    syncs: list[int] = []
    for entry in ENTRIES:
        media_path.joinpath(*blob_parts(entry.hash), thumbnail.name).write_bytes(b"t")
    monkeypatch.setattr(MediaTree, "synced_whole", True)
    monkeypatch.setattr(kernel, "sync_file_system", syncs.append)
    with MediaTree(media_path) as tree:
        tree.prepare()
        moves = [ThumbnailMove(entry, [thumbnail]) for entry in ENTRIES]
        assert {result.outcome for result in quarantine_thumbnails(tree, Guard())(moves)} == {"moved"}
    assert len(syncs) == 1


def test_an_error_of_the_disk_that_one_thread_is_told_is_not_hidden_from_the_other(
    media_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells such an error once for each opened file; two threads that share one share the answer."""

    def fail_once(descriptor: int) -> None:
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        if not flags & os.O_NONBLOCK:
            # A mark that all descriptors of the same opened file have.
            fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    both = Barrier(2)

    class Together(Guard):
        def ensure(self) -> None:
            both.wait()

    monkeypatch.setattr(MediaTree, "synced_whole", True)
    monkeypatch.setattr(kernel, "sync_file_system", fail_once)
    with MediaTree(media_path) as tree, ThreadPoolExecutor(2) as threads:
        tree.prepare()
        move = quarantine_blobs(tree, Together())
        outcomes = [threads.submit(move, [entry]) for entry in ENTRIES[:2]]
        assert [type(outcome.exception()) for outcome in outcomes] == [OSError, OSError]


def test_a_journal_that_failed_is_noticed_where_the_sync_of_the_file_system_is_silent_about_it(
    media_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(MediaTree, "synced_whole", True)
    monkeypatch.setattr(kernel, "sync_file_system", lambda _descriptor: None)
    with MediaTree(media_path) as tree:
        tree.prepare()
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            quarantine_blobs(tree, Guard())(ENTRIES)


@pytest.mark.parametrize(
    "kind", ["fuse.mergerfs", "nfs4", "overlay", "of-tomorrow", "unlisted", "unreadable"]
)
def test_a_file_system_that_may_answer_a_sync_of_all_without_doing_it_is_synced_by_directories(
    media_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def mounts() -> list[Mount]:
        if kind == "unreadable":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return []

    def mount_of(_descriptor: int, _mounts: list[Mount]) -> Mount | None:
        listed = kind != "unlisted"
        return Mount("1", "0:1", str(media_path), frozenset(), kind, frozenset()) if listed else None

    monkeypatch.setattr(trees, "read_mounts", mounts)
    monkeypatch.setattr(trees, "mount_of", mount_of)
    with MediaTree(media_path) as tree:
        assert tree.synced_whole is False


def test_a_purge_is_taken_back_where_another_removes_the_empty_shelf_at_that_moment(
    media_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, rename = ENTRIES[0], os.rename
    with MediaTree(media_path) as tree:
        tree.prepare()
        quarantine_blobs(tree, Guard())([entry])
        shelf = media_path.joinpath(".retentiond", *entry.shelf)
        rename(shelf / entry.name, media_path / ".retentiond" / PURGING / entry.purging_name)

        def rename_after_another(*names: Any, **descriptors: Any) -> None:
            monkeypatch.undo()
            shelf.rmdir()
            rename(*names, **descriptors)

        monkeypatch.setattr(os, "rename", rename_after_another)
        [result] = take_purges_back(tree, Guard())([entry])
    assert result.outcome == "moved"
    assert (shelf / entry.name / "file").read_bytes() == b"x"
