"""How often a pass calls the kernel for a medium, counted: what makes it slow on every machine alike."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from base64 import urlsafe_b64encode
from hashlib import sha256
from itertools import count, islice
from typing import TYPE_CHECKING

import pytest

from tests.support.store import COMMON_THUMBNAILS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.store import DendriteStore

_STRACE = shutil.which("strace") or ""
_MEDIA = 200
# Waits and memory differ from run to run; these calls are exact.
_DISK = (
    "openat",
    "close",
    "stat",
    "fcntl",
    "lseek",
    "getdents",
    "faccess",
    "rename",
    "unlink",
    "mkdir",
    "link",
)
_SYNCS = ("fsync", "fdatasync", "syncfs", "sync")

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not _STRACE, reason="strace is not installed, which counts the calls"),
]


def counts_of(calls: Path) -> dict[str, int]:
    """Return the calls by name in a table of strace: % time, seconds, microseconds a call, calls, errors if any, name."""
    lines = re.findall(r"^ +[\d.]+ +[\d.]+ +\d+ +(\d+)(?: +\d+)? +(\w+)$", calls.read_text(), re.MULTILINE)
    return {name: int(times) for times, name in lines if name != "total"}


def neighbours() -> Iterator[bytes]:
    """Contents whose blobs share their two upper directories, as those of a large store's batch do."""
    for number in count():
        content = b"%d" % number
        if urlsafe_b64encode(sha256(content).digest()).startswith(b"AA"):
            yield content


async def count_calls(config: Path, calls: Path) -> tuple[int, dict[str, int]]:
    """Return how many media a pass removed, and its calls by name."""
    traced = await asyncio.create_subprocess_exec(
        *(_STRACE, "-f", "-c", "-o", calls),
        *(sys.executable, "-m", "retentiond", "--config", config, "once", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # Modules that changed since their last start are compiled by both runs, and the copies kept by neither.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    output, errors = await traced.communicate()
    if b"ptrace" in errors:
        pytest.skip(f"strace may not trace here: {errors.decode()}")
    return json.loads(output)["passes"][0]["removed"]["items"], counts_of(calls)


async def test_a_medium_costs_a_pass_no_more_times_than_its_files_need(
    store: DendriteStore, database: str, media_path: Path, tmp_path: Path
) -> None:
    for content in islice(neighbours(), _MEDIA):
        await store.add(content=content, thumbnails=COMMON_THUMBNAILS)
    target = {
        "kind": "dendrite_media",
        "database": database,
        "media_path": str(media_path),
        "server_name": "here.test",
        "grace": "0s",
        "settle": "0s",
        "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
        "limits": {"max_share": 1.0},
    }
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"targets": {"media": target}}))
    removed, calls = await count_calls(config, tmp_path / "calls")
    assert removed == _MEDIA
    removed, fixed = await count_calls(config, tmp_path / "calls")
    assert removed == 0
    medium = {name: (calls[name] - fixed.get(name, 0)) / _MEDIA for name in calls}
    disk = {name: times for name, times in medium.items() if any(part in name for part in _DISK)}
    # Three of these are of the sample of missing files, which has a small store's media all.
    assert sum(disk.values()) <= 24, disk
    # Its four files, and their directory once in and once away: nothing is touched twice.
    assert 5 <= medium["unlinkat"] < 5.2
    assert 2 <= medium["renameat"] < 2.2
    # One sync of a batch in and one away, whatever it holds; the others are of the store's mark.
    assert sum(calls.get(name, 0) for name in _SYNCS) <= 12, calls
