"""What later versions bring: refused by name until then, never accepted and ignored.

Whoever builds a feature adds it to the schema, and deletes its line here. `*` stands for any name or place.
"""

from typing import Final

from retentiond.config.problems import KeyPath

_TARGET: Final = ("targets", "*")
_POLICY: Final = (*_TARGET, "policies", "*")
_ACCOUNT: Final = (*_TARGET, "accounts", "*")

_KEYS: Final[frozenset[KeyPath]] = frozenset({
})  # fmt: skip

_VALUES: Final[dict[KeyPath, frozenset[str]]] = {}


def is_later_key(path: KeyPath) -> bool:
    """Tell whether the key belongs to a later version."""
    return _pattern(path) in _KEYS


def is_later_value(path: KeyPath, value: object) -> bool:
    """Tell whether the value of a key of this version belongs to a later one."""
    return isinstance(value, str) and value in _VALUES.get(_pattern(path), ())


def _pattern(path: KeyPath) -> KeyPath:
    if path[:1] == ("targets",) and len(path) > 1:
        path = ("targets", "*", *path[2:])
    if path[2:3] == ("accounts",):
        path = (*path[:3], *("*" for _ in path[3:4]), *path[4:])
    return tuple("*" if isinstance(step, int) else step for step in path)
