"""Become another program, under another user, that ends when its parent does.

This file runs alone, without other imports: `python -I -S exec_with_death_signal.py PARENT UID GID PROGRAM …`.
A process of its own, since code between fork and exec in a parent with threads may deadlock.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1


def become(parent: int, uid: int, gid: int, command: list[str]) -> NoReturn:
    """Run the command (its first word a path) in this process; SIGINT reaches it when `parent` ends.

    Raise OSError for an unusable user or program.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # Not sooner: the kernel clears this setting at each change of user.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not signal a parent's death")
    if os.getppid() != parent:
        # The parent ended before the setting, so that no signal will come any more.
        sys.exit("the parent is gone")
    os.umask(0o077)
    os.execv(command[0], command)  # noqa: S606 - runs without a shell, as intended


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
