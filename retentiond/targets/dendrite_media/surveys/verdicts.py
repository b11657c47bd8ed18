"""The policies as an SQL expression: PostgreSQL computes the verdict of each row that is plain enough.

`decide` remains the definition. The expression yields the code of the same verdict, or `ASKED` where case, escapes or
references need `decide` itself. Values are parameters; the text of a policy never becomes SQL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.fields import all_handled
from retentiond.model.match import Match, day_start_ms
from retentiond.model.policy import CLOCK_TOLERANCE_MS, FIRST_BELIEVABLE_MS, Keep, Policy, Remove, Rules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from retentiond.model.policy import KeepReason, Removes

SQL: Final = {
    name: re.sub(r"(?m)^--.*\n", "", text)
    for name, text in named_queries(__package__, "verdicts.sql").items()
}
ASKED: Final = -1
"""The code of rows that are left to `decide`."""
FOREIGN: Final = -2
"""The code of rows with users of foreign servers."""
_LARGEST: Final = 2**63 - 1
_MOST_POLICIES: Final = 100
# The white space of ASCII that Python strips.
_WHITE: Final = " \t\n\v\f\r\x1c\x1d\x1e\x1f"
_LIKE: Final = {"*": "%", "?": "_", "%": r"\%", "_": r"\_", "\\": r"\\"}


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression over a row `m` that yields a code, the arguments of its parameters, and the verdicts by code.

    No row is due that was created after `newest`, in milliseconds.
    """

    text: str
    arguments: tuple[Any, ...]
    verdicts: tuple[Keep | Remove, ...]
    newest: int

    @property
    def indexes(self) -> list[int | None]:
        """The policy that removes the rows with each code, by its index; None for codes that keep."""
        return [verdict.index if isinstance(verdict, Remove) else None for verdict in self.verdicts]

    def due_rows(self, statement: str, largest: int) -> tuple[str, tuple[Any, ...]]:
        """Return the statement that takes the due rows, with its arguments; their sizes are at most `largest`."""
        indexes = self.indexes
        further = {
            "policies": (indexes, "integer[]"),
            "due": ([code for code, index in enumerate(indexes) if index is not None], "integer[]"),
            "largest": (largest, "bigint"),
            "first": (FIRST_BELIEVABLE_MS, "bigint"),
            "newest": (self.newest, "bigint"),
        }
        parts = {
            name: f"${number}::{kind}"
            for number, (name, (_, kind)) in enumerate(further.items(), len(self.arguments) + 1)
        }
        arguments = (*self.arguments, *(value for value, _ in further.values()))
        return _with(statement, verdict=f"({self.text})", **parts), arguments


@dataclass(slots=True)
class _Expression:
    """The parameters and verdicts of an expression while it is put together."""

    names: frozenset[str]
    now_ms: int
    newest: int = 0
    arguments: list[Any] = field(default_factory=list)
    verdicts: list[Keep | Remove] = field(default_factory=lambda: [Keep("no_policy")])

    def value(self, value: Any, kind: str) -> str:
        """Add an argument, and return its parameter."""
        self.arguments.append(value)
        return f"${len(self.arguments)}::{kind}"

    def code(self, verdict: Keep | Remove) -> str:
        """Add a verdict, and return its code."""
        self.verdicts.append(verdict)
        return str(len(self.verdicts) - 1)

    def local(self) -> str:
        """Return the condition that a row has a name of this server, or, if no name is known, a user."""
        if not self.names:
            return SQL["has_user"]
        # In UTF-8, U+212A has two bytes more than the k that is its lower case.
        lengths = sorted({len(name) + 2 * more for name in self.names for more in range(name.count("k") + 1)})
        return _with(
            SQL["is_local_with_k" if any("k" in name for name in self.names) else "is_local"],
            lengths=self.value(lengths, "integer[]"),
            names=self.value(sorted(self.names), "text[]"),
        )

    def glob(self, pattern: str, *, ignore_case: bool = False) -> str | None:
        """Return the parameter of a glob as a pattern of LIKE; None for one that Python alone understands."""
        if not (_plain(pattern) if ignore_case else _storable(pattern)):
            return None
        like = "".join(_LIKE.get(char, char) for char in re.sub(r"\*+", "*", pattern))
        return self.value(like.lower() if ignore_case else like, "text")


def _plain(text: str) -> bool:
    """Return whether a text is of ASCII that the server can store."""
    return text.isascii() and "\0" not in text


def _storable(text: str) -> bool:
    """Return whether a text can be sent to the server."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _with(fragment: str, **parts: str) -> str:
    for name, part in parts.items():
        fragment = fragment.replace("{" + name + "}", part)
    return fragment


def _origin(made: _Expression, origin: str) -> str:
    if origin in {"local", "remote"}:
        return _with(SQL[f"origin_{origin}"], local=made.local())
    glob = made.glob(origin, ignore_case=True)
    if glob is None:
        return SQL["unknown"]
    parts = {"glob": glob, "origin": made.value(origin.lower(), "text"), "local": made.local()}
    return _with(SQL["origin_glob"], **parts)


def _of_glob(name: str, *, ignore_case: bool = False) -> Callable[[_Expression, str], str]:
    def condition(made: _Expression, pattern: str) -> str:
        glob = made.glob(pattern, ignore_case=ignore_case)
        if glob is None:
            return SQL["unknown"]
        fragment = SQL[name]
        return _with(fragment, glob=glob, white=made.value(_WHITE, "text") if "{white}" in fragment else "")

    return condition


def _larger_than(made: _Expression, size: int) -> str:
    if not -_LARGEST <= size <= _LARGEST:
        return SQL["unknown"]
    return _with(SQL["larger_than"], size=made.value(size, "bigint"))


_CONDITIONS: Final[Mapping[str, Callable[[_Expression, Any], str]]] = {
    "origin": _origin,
    "user": _of_glob("user"),
    "content_type": _of_glob("content_type", ignore_case=True),
    "larger_than": _larger_than,
    "uploaded_before": lambda made, day: _with(
        SQL["uploaded_before"], before=made.value(day_start_ms(day), "bigint")
    ),
    "upload_name": _of_glob("upload_name"),
    # The survey joins the references for the rows that reach these.
    "room": lambda _made, _room: SQL["unknown"],
    "unreferenced": lambda _made, _true: SQL["unknown"],
}
"""The fragment of each condition of a match. A condition without a line would match by being skipped."""

all_handled(Match, {*_CONDITIONS, "accepts"}, "surveys/verdicts.py: _CONDITIONS")
# An access is never before the creation: rows of a policy with `since: accessed` are due here, and their files are
# looked at later.
all_handled(Policy, {"name", "match", "keep", "removes", "since"}, "surveys/verdicts.py: _step and _age")
all_handled(Rules, {"policies", "server_names"}, "surveys/verdicts.py: compiled")


def compiled(rules: Rules, now: datetime, removes: Removes = "media") -> Compiled:
    """Compile the policies that remove media, or thumbnails alone, as `decide` judges them at the time `now`."""
    made = _Expression(rules.server_names, int(now.timestamp() * 1000))
    policies = [(index, policy) for index, policy in enumerate(rules.policies) if policy.removes == removes]
    text = "0"
    if len(policies) > _MOST_POLICIES or not all(map(_plain, rules.server_names)):
        return Compiled(str(ASKED), (), (), made.now_ms)
    for index, policy in reversed(policies):
        text = _step(made, index, policy, text)
    foreign = "false"
    if rules.server_names:
        names = made.value(sorted(rules.server_names), "text[]")
        foreign = _with(SQL["foreign_user"], names=names)
    text = _with(SQL["verdict"], foreign=foreign, policies=text, refused=str(FOREIGN), asked=str(ASKED))
    return Compiled(text, tuple(made.arguments), tuple(made.verdicts), made.newest)


def _step(made: _Expression, index: int, policy: Policy, following: str) -> str:
    match = " AND ".join(
        f"({_CONDITIONS[name](made, getattr(policy.match, name))})" for name in policy.match.conditions
    )
    parts = {"match": match, "verdict": _age(made, index, policy), "asked": str(ASKED)}
    return _with(SQL["step"], **parts, next=following)


def _age(made: _Expression, index: int, policy: Policy) -> str:
    if policy.keep is None:
        return made.code(Keep("not_due", policy.name))
    reasons: tuple[KeepReason, ...] = ("undated", "not_due", "invalid_hash")
    newest = made.now_ms - policy.keep // timedelta(milliseconds=1)
    made.newest = max(made.newest, newest)
    return _with(
        SQL["age"],
        first=made.value(FIRST_BELIEVABLE_MS, "bigint"),
        latest=made.value(made.now_ms + CLOCK_TOLERANCE_MS, "bigint"),
        newest=made.value(newest, "bigint"),
        due=made.code(Remove(policy.name, index)),
        **{reason: made.code(Keep(reason, policy.name)) for reason in reasons},
    )
