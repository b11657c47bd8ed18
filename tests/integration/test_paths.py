"""Below the media directory nothing leads out of it: links, special files and odd names are told, and never touched."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.support.media_target import Retention

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.store import DendriteStore


def outside(media_path: Path) -> Path:
    """A directory beside the media, with a file in it that nobody may touch."""
    directory = media_path.parent / "outside"
    directory.mkdir(exist_ok=True)
    (directory / "file").write_bytes(b"precious")
    return directory


def link_to_the_blob(blob: Path, media_path: Path) -> None:
    empty(blob)
    blob.rmdir()
    blob.symlink_to(outside(media_path))


def link_to_a_parent(blob: Path, media_path: Path) -> None:
    moved = media_path.parent / "moved"
    blob.parent.parent.rename(moved)
    blob.parent.parent.symlink_to(moved)
    outside(media_path)


def link_for_the_file(blob: Path, media_path: Path) -> None:
    (blob / "file").unlink()
    (blob / "file").symlink_to(outside(media_path) / "file")


def link_for_a_thumbnail(blob: Path, media_path: Path) -> None:
    (blob / "thumbnail-32x32-crop").symlink_to(outside(media_path) / "file")


def file_for_the_blob(blob: Path, media_path: Path) -> None:
    empty(blob)
    blob.rmdir()
    blob.write_bytes(b"x")
    outside(media_path)


def directory_for_the_file(blob: Path, media_path: Path) -> None:
    (blob / "file").unlink()
    (blob / "file").mkdir()
    outside(media_path)


def fifo_in_it(blob: Path, media_path: Path) -> None:
    os.mkfifo(blob / "thumbnail-32x32-crop")
    outside(media_path)


def socket_in_it(blob: Path, media_path: Path) -> None:
    # A socket's path is bounded in length; a name relative to where we are is short.
    here = os.getcwd()
    os.chdir(blob)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("s")
    finally:
        os.chdir(here)
    outside(media_path)


def odd_name(name: str) -> Callable[[Path, Path], None]:
    def make(blob: Path, media_path: Path) -> None:
        (blob / name).write_bytes(b"x")
        outside(media_path)

    return make


def empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


ODDITIES: dict[str, Callable[[Path, Path], None]] = {
    "link to the blob": link_to_the_blob,
    "link to a parent": link_to_a_parent,
    "link for the file": link_for_the_file,
    "link for a thumbnail": link_for_a_thumbnail,
    "file for the blob": file_for_the_blob,
    "directory for the file": directory_for_the_file,
    "fifo": fifo_in_it,
    "socket": socket_in_it,
    "leading zero": odd_name("thumbnail-032x32-crop"),
    "other method": odd_name("thumbnail-32x32-fit"),
    "other digits": odd_name("thumbnail-٣x3-crop"),
    "newline": odd_name("file\n"),
    "hidden": odd_name(".nfs0001"),
}


async def test_what_dendrite_would_not_have_made_stays_with_its_row_and_is_told(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    odd = {name: await store.add(media_id=name) for name in ODDITIES}
    for name, make in ODDITIES.items():
        make(store.path_of(odd[name].base64hash), media_path)
    before = everything(media_path.parent)
    plain = await store.add(media_id="plain")
    plan, items = await retention.one_plan()
    with capture_logs() as log:
        report = await retention.one_pass()
    reasons = {item.media.rpartition("/")[2]: item.reason for item in items}
    assert reasons == dict.fromkeys(ODDITIES, "unsafe_path") | {"plain": "due"}
    assert report.kept == plan.kept == {"unsafe_path": len(ODDITIES)}
    assert {key.media_id for key in await store.rows()} == set(ODDITIES)
    told = {entry["media"] for entry in log if entry.get("kind") == "unsafe_path"}
    assert told == {media.uri for media in odd.values()}
    parents = set(store.path_of(plain.base64hash).parents)
    assert everything(media_path.parent) - parents == before - parents
    assert (media_path.parent / "outside/file").read_bytes() == b"precious"


def everything(directory: Path) -> set[Path]:
    """All that lies there, links unfollowed, but for what is ours."""
    return {path for path in directory.rglob("*") if ".retentiond" not in path.parts}


async def test_an_unsafe_path_is_told_before_marks_and_protections(
    store: DendriteStore, retention: Retention
) -> None:
    media = await store.add()
    await store.add_profile("alice", media.uri)
    (store.path_of(media.base64hash) / "odd").write_bytes(b"x")
    assert (await retention.one_pass()).kept == {"unsafe_path": 1}


async def test_a_link_where_our_own_directory_should_be_is_refused(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    await store.add()
    (media_path / ".retentiond").symlink_to(outside(media_path))
    report = await retention.one_pass()
    assert report.refused is not None
    assert report.refused.limit in {"quarantine_not_a_directory", "another_store"}
    assert len(await store.rows()) == 1
    assert os.listdir(media_path.parent / "outside") == ["file"]


@pytest.mark.parametrize("where", ["quarantine", "quarantine/2"])
async def test_a_link_within_our_own_directory_leads_nowhere(
    where: str, store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    await retention.one_pass()
    media = await store.add()
    link = media_path / ".retentiond" / where
    if link.exists():
        link.rmdir()
    link.symlink_to(outside(media_path))
    report = await retention.one_pass()
    assert report.state in {"interrupted", "finished_with_failures"}
    assert os.listdir(media_path.parent / "outside") == ["file"]
    assert list(store.files().values()) == [media.content]


async def test_the_media_directory_itself_may_be_a_link_that_the_administrator_chose(
    store: DendriteStore, database: str, media_path: Path
) -> None:
    await store.add()
    link = media_path.parent / "link"
    link.symlink_to(media_path)
    assert (await Retention(database, link).one_pass()).removed_items == 1


async def test_what_stands_beside_the_media_is_left_alone(
    store: DendriteStore, retention: Retention, media_path: Path
) -> None:
    await store.add()
    (media_path / "tmp/random").mkdir(parents=True)
    (media_path / "tmp/random/content").write_bytes(b"in flight")
    (media_path / "README").write_bytes(b"of the administrator")
    await retention.one_pass()
    assert store.files() == {"tmp/random/content": b"in flight", "README": b"of the administrator"}
