"""Fail closed where a set of fields is handled name by name: a new field that a place does not handle is an error."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def all_handled(section: type, handled: Collection[str], where: str) -> None:
    """Raise TypeError unless `handled` are exactly the fields of a dataclass or of a section of the configuration.

    Called where the module is imported, so that no rule is executed with a condition that the module leaves out. `where`
    names the place that has to be completed.
    """
    known = (
        {field.name for field in fields(section)} if is_dataclass(section) else set(section.__annotations__)
    )
    missing, unknown = sorted(known - set(handled)), sorted(set(handled) - known)
    if missing or unknown:
        raise TypeError(
            f"{where} must handle the fields of {section.__name__}: missing {', '.join(missing) or 'none'}, "
            f"unknown {', '.join(unknown) or 'none'}"
        )
