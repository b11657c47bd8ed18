"""Uploads in progress, `tmp/<name>/content`: an upload without a write for a day is stale."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from retentiond.model.audit import Finding
from retentiond.targets.dendrite_media.audit.scan import UPLOADS, odd_entry
from retentiond.targets.dendrite_media.disk.tree import inside

if TYPE_CHECKING:
    from retentiond.targets.dendrite_media.disk.tree import MediaTree

CONTENT: Final = "content"


@dataclass(slots=True)
class Uploads:
    """The directory of uploads: stale ones, odd paths, and unreadable ones."""

    findings: list[Finding] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def look_at_uploads(tree: MediaTree, before: float) -> Uploads:
    """Find uploads unchanged since `before`; newer ones are in use, of any kind."""
    found = Uploads()
    try:
        with tree.directory(UPLOADS) as uploads, os.scandir(uploads) as entries:
            for entry in entries:
                _look(found, uploads, entry, before)
    except FileNotFoundError:
        pass
    except OSError:
        found.unreadable.append(UPLOADS)
    found.findings.sort(key=lambda finding: finding.path)
    return found


def _look(found: Uploads, uploads: int, entry: os.DirEntry[str], before: float) -> None:
    path = f"{UPLOADS}/{entry.name}"
    try:
        about = entry.stat(follow_symlinks=False)
        if not stat.S_ISDIR(about.st_mode):
            if about.st_mtime <= before:
                odd = odd_entry(UPLOADS, entry)
                found.findings.append(Finding("unknown_path", odd.path, odd.size))
            return
        found.findings += _look_inside(uploads, entry.name, about.st_mtime, before)
    except FileNotFoundError:
        return  # the upload has just ended
    except OSError:
        found.unreadable.append(path)


def _look_inside(uploads: int, name: str, modified: float, before: float) -> list[Finding]:
    path = f"{UPLOADS}/{name}"
    with inside(uploads, name) as upload, os.scandir(upload) as entries:
        files = {entry.name: entry.stat(follow_symlinks=False) for entry in entries}
        odd = [
            Finding("unknown_path", f"{path}/{inner}", about.st_size if stat.S_ISREG(about.st_mode) else 0)
            for inner, about in sorted(files.items())
            if about.st_mtime <= before and (inner != CONTENT or not stat.S_ISREG(about.st_mode))
        ]
    if odd:
        return odd
    times = [about.st_mtime for about in files.values()] or [modified]
    if max(times) > before:
        return []
    return [Finding("stale_upload", path, sum(about.st_size for about in files.values()))]
