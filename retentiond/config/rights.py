"""The owner of a path, and how to run as that user: the end of errors about missing rights."""

import os
import pwd
from pathlib import Path
from typing import Final

from retentiond.model.text import printable

_LONGEST: Final = 300


def beside_owner(path: Path) -> str:
    """Return the owner of a path, the user of this process, and the setting that makes them one; empty if they are.

    Of a path that cannot be seen it is the first directory above it that can: that one denies the way.
    """
    about = _seen(path)
    if about is None or about[1].st_uid == os.geteuid():
        return ""
    place, stat = about
    owner = f"{stat.st_uid}:{stat.st_gid}"
    try:
        user = pwd.getpwuid(stat.st_uid).pw_name
    except KeyError:
        user = str(stat.st_uid)
    return (
        f"; {printable(str(place), _LONGEST)} belongs to user and group {owner}, and this process runs as "
        f'{os.geteuid()}:{os.getegid()}: set `User={user}` in the unit, or `user: "{owner}"` in the compose file'
    )


def _seen(path: Path) -> tuple[Path, os.stat_result] | None:
    for place in (path, *path.parents):
        try:
            return place, place.stat()
        except OSError:
            continue
    return None
