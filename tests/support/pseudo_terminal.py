"""The real program on a pseudo-terminal: the bytes that a person's terminal gets."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT: Final = 500
_BAR: Final = "━"
_OURS: Final = re.compile(r"\x1b\[[0-9;]*[mABCDHJK]|\x1b\[\?25[lh]")
"""The sequences of bars and colours."""


@dataclass(frozen=True)
class Screen:
    """What came out at a terminal, and the exit status."""

    status: int
    raw: str

    @property
    def text(self) -> str:
        """The text without colours and moves of the cursor."""
        return _OURS.sub("", self.raw)

    def lines_with(self, word: str) -> list[str]:
        """The lines that have a word."""
        return [line for line in re.split(r"[\r\n]+", self.text) if word in line]

    @property
    def bars(self) -> list[str]:
        """Everything that was written into a line with a bar, up to where the cursor left it."""
        return [line for line in re.split(r"[\r\n]+", self.text) if _BAR in line]


def run_on_terminal(*words: str, columns: int = 100, environment: Mapping[str, str] | None = None) -> Screen:
    """Run `python -m retentiond` with all three streams on one terminal."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    received: list[bytes] = []

    def receive() -> None:
        # The terminal's last user hangs up: EIO.
        with suppress(OSError):
            while data := os.read(controller, 1 << 16):
                received.append(data)

    process = subprocess.Popen(
        [sys.executable, "-m", "retentiond", *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        | {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
        | dict(environment or {}),
        start_new_session=True,
    )
    os.close(terminal)
    reader = Thread(target=receive)
    reader.start()
    try:
        status = process.wait(_TIMEOUT)
    finally:
        process.kill()
        process.wait()
        reader.join()
        os.close(controller)
    return Screen(status, b"".join(received).decode())
