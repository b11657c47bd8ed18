"""Names that others chose: stored, logged, printed, purged and brought back without harm."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.command_line import RealCommandLine, Terminal, log_entries
from tests.support.store import COMMON_THUMBNAILS

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.model.media import MediaKey, MediaRow
    from tests.support.command_line import Connection
    from tests.support.store import DendriteStore

HOSTILE = (
    "'; DROP TABLE mediaapi_media_repository; --",
    '"double" \\"escaped\\"',
    "[bold red]urgent[/bold red] [link=https://a.test]x[/link] [/]",
    "two\nlines\r\nand\ttabs",
    "../../../etc/passwd",
    "/etc/passwd",
    "%00 \\u0000 \\x00 \\0",
    "\x1b[2J\x1b]0;title\x07\x7f\x9b31m",
    "photo\u202egnp.exe\u2066\u200f\ufeff",
    "{not} {a[format]} %s %(name)s $1 ${HOME} $(reboot) `reboot`",
    "<script>alert(1)</script>&amp;",
    "☃ ٣ e\u0301 \U0001f9f9",
    "x" * 10_000,
    '{NULL,"array"}',
)


@pytest.fixture
def line(tmp_path: Path, database: str, media_path: Path) -> RealCommandLine:
    line = RealCommandLine(tmp_path, database=database, media_path=media_path)

    async def fill(store: DendriteStore, _connection: Connection) -> None:
        for number, name in enumerate(HOSTILE):
            # A row of a btree has its bounds: what is longer, dendrite's own index refuses.
            key = name[:1000]
            origin = key.replace("/", "|") if number % 2 else f"server{number}.test"
            await store.add(
                media_id=key,
                origin=origin,
                upload_name=name,
                content_type=name,
                thumbnails=COMMON_THUMBNAILS[:1],
            )
            await store.add(media_id=f"missing {key}", origin=origin, upload_name=name, file=False)
            await store.add(media_id=f"no hash {key}", origin=origin, base64hash=name[:5000])

    line.arrange(fill)
    return line


def rows(line: RealCommandLine) -> dict[MediaKey, MediaRow]:
    async def look(store: DendriteStore, _connection: Connection) -> dict[MediaKey, MediaRow]:
        return await store.rows()

    return line.arrange(look)


def showable(text: str) -> bool:
    """Whether nothing in it can move a cursor, hide or turn round."""
    return not {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs"}} - {"\n"}


def test_hostile_names_are_listed_one_a_line_and_bring_no_terminal_out_of_order(
    line: RealCommandLine,
) -> None:
    listed = line.type("plan", "--list")
    assert listed.status == 0
    assert showable(listed.stdout)
    assert len(listed.stdout.splitlines()) == 3 * len(HOSTILE)
    assert all(len(text) < 1000 for text in listed.stdout.splitlines())
    assert "[bold red]urgent[/bold red]" in listed.stdout
    as_json = line.type("plan", "--list", "--json")
    items = [json.loads(text) for text in as_json.stdout.splitlines()]
    assert {item["media"] for item in items} == {key.uri for key in rows(line)}


def test_hostile_names_are_purged_logged_and_brought_back_as_they_were(line: RealCommandLine) -> None:
    before = rows(line)

    async def files(store: DendriteStore, _connection: Connection) -> tuple[Any, ...]:
        return store.files(), await store.thumbnail_rows()

    files_before = line.arrange(files)
    line.keys = {"limits": {"max_share": 1.0, "max_missing_files": 1.0}}
    done = line.type("once", "--json")
    assert done.status == 0, done.stderr
    (told,) = done.document["passes"]
    assert told["removed"]["items"] == 2 * len(HOSTILE)
    assert told["kept"]["by_reason"] == {"invalid_hash": len(HOSTILE)}
    assert told["inconsistencies"]["missing_file"] == len(HOSTILE)
    assert set(rows(line)) == {key for key in before if key.media_id.startswith("no hash")}
    # The log has one JSON object a line, whatever is in it.
    missing = [entry["media"] for entry in log_entries(done.stderr) if entry.get("kind") == "missing_file"]
    assert len(done.stderr.splitlines()) == len(log_entries(done.stderr))
    assert len(missing) == len(HOSTILE)
    held = line.type("quarantine", "list")
    assert showable(held.stdout)
    for key in [key for key in before if not key.media_id.startswith(("no hash", "missing"))]:
        back = line.type("quarantine", "restore", "--media", key.uri)
        assert back.status == 0, back.stderr
        assert showable(back.stdout + back.stderr)
    after = rows(line)
    assert after == {key: row for key, row in before.items() if not key.media_id.startswith("missing")}
    assert line.arrange(files) == files_before


def test_hostile_names_do_not_reach_a_terminal_by_a_pass_either(line: RealCommandLine) -> None:
    line.keys = {"limits": {"max_share": 1.0, "max_missing_files": 1.0}}
    screen, errors = Terminal(), Terminal()
    assert line.type("once", stdout=screen, stderr=errors).status == 0
    # What is left after the colours and bars are taken away has nothing of theirs.
    assert "\x1b[2J" not in screen.getvalue() + errors.getvalue()
    assert "\x1b]0;" not in screen.getvalue() + errors.getvalue()
    assert "\u202e" not in screen.getvalue() + errors.getvalue()
