"""Problems of a configuration: each with its position, and one error with all of them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from retentiond.model.errors import UsageError
from retentiond.model.text import printable

KeyPath = tuple[str | int, ...]
"""The way from the top of a file to a value: keys, and places in lists (from 0)."""

_LINE_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem to correct; `line` and `column` count from 1, and are None without a position.

    A configuration with errors cannot be used; one with warnings can.
    """

    file: str
    line: int | None
    column: int | None
    key: str
    message: str
    hint: str
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place += f":{self.line}"
            if self.column is not None:
                place += f":{self.column}"
        level = "" if self.level == "error" else self.level
        text = ": ".join(part for part in (place, level, self.key, self.message) if part)
        return printable(f"{text}; {self.hint}" if self.hint else text, _LINE_LIMIT)


class ConfigError(UsageError):
    """A configuration that cannot be used; `problems` are all that were found, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def key_text(path: KeyPath) -> str:
    """Write a path as people do: `targets.media.policies[0].keep`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{shown_key(step)}" if text else shown_key(step)
    return text


def shown_key(key: str) -> str:
    """Return a key that is safe to show: cut after a forgotten blank, where a password may follow."""
    name = re.split("[:=@]", key, maxsplit=1)[0]
    return printable(name if name == key else f"{name}…", 64)
