"""Commands and flags of later versions: refused by name until then, whatever follows them.

Whoever builds one deletes its line here. A command of a group, and a flag, stand behind the command they belong to.
"""

from typing import Final

_LATER: Final = ("purge-chats --purge-elastic",)


def later_commands(group: str = "") -> list[str]:
    """Return the commands of a group, or of the top, that are not there yet."""
    return [word for word in _words(group) if not word.startswith("-")]


def later_flags(command: str) -> list[str]:
    """Return the flags of a command that are not there yet."""
    return [word for word in _words(command) if word.startswith("-")]


def _words(parent: str) -> list[str]:
    return [word for owner, _, word in (line.rpartition(" ") for line in _LATER) if owner == parent]
