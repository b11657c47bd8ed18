"""Sentences for people in Russian: whole sentences are looked up where they are printed, with the values in them.

Code writes English, and the same sentences go to JSON, the log and the ledger, which stay English. Where a terminal gets
them they are complete: gettext, which translates a template before its values are filled in, would be too early. So a
catalogue (ru.po, with numbered places for values) is matched with the sentence, and each value may be a sentence itself.
What the catalogue does not have is printed as it is.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

Translate = Callable[[str], str]
"""Returns a sentence in the language of the user."""

_PLACE: Final = re.compile(r"\{(\d)(?:\|([^|{}]*)\|([^|{}]*)\|([^|{}]*))?\}")
_NUMBER: Final = re.compile(r"[0-9]{1,3}(?:,[0-9]{3}){1,6}|[0-9]{1,18}", re.ASCII)
_THOUSANDS: Final = re.compile(r"(?<=[0-9]),(?=[0-9]{3})", re.ASCII)
_ENGLISH: Final = re.compile(r"[A-Za-z]{3,}", re.ASCII)
_NAMES: Final = re.compile(r"(?:at least )?[^\s;]+(?:, [^\s;]+){0,20}")
_PREDICATES: Final = ("is ", "has ", "was ", "cannot ", "did ", "refused ", "gave ", "takes ")
_AT_LEAST: Final = "at least "
_STATES: Final = frozenset(
    {"planned", "finished", "finished_with_failures", "refused", "interrupted", "pending", "running"}
)
"""Single words that are translated within a sentence."""
_FEW: Final = 12
_LONGEST: Final = 4000
_MOST_LOOKS: Final = 200
"""The number of parts of a text that are looked up, limited since the text may be untrusted."""
_DEEPEST: Final = 8
_JOINTS: Final = ("; ", ": ", ", ", ". ")
_OF_HELP: Final = ("Usage:", "Options:", "Examples:", "Example:", "[required]", "Show this message and exit.")
_NOT_TRANSLATED: Final = frozenset({"C", "POSIX"})


def untranslated(text: str) -> str:
    """Return the sentence as it is."""
    return text


def translator(variables: Mapping[str, str]) -> Translate:
    """Return the translation that LC_ALL, LC_MESSAGES or LANG asks for: the first that is set decides."""
    named = (variables.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next((name for name in named if name), "C")
    language = re.split(r"[_.@]", locale, maxsplit=1)[0]
    if locale in _NOT_TRANSLATED or language != "ru":
        return untranslated
    return Catalogue(read_catalogue("ru")).translate


def translate_help(command: Any, translate: Translate) -> None:
    """Let the help of a command of Typer be in the language: its text, its options, and the words around them."""
    of_command = command.get_help

    def get_help(context: Any) -> str:
        help_text: str = of_command(context)
        for word in _OF_HELP:
            help_text = help_text.replace(word, translate(word))
        return help_text

    command.help = "\n\n".join(
        translate(" ".join(part.split())) for part in (command.help or "").split("\n\n")
    )
    for option in command.params:
        if getattr(option, "help", None):
            option.help = translate(option.help)
    # The words that Typer itself adds are in the finished text only.
    command.get_help = get_help


def read_catalogue(language: str) -> dict[str, str]:
    """Return the sentences of a language by the English ones; the file is of the format of gettext."""
    text = (resources.files(__package__) / f"{language}.po").read_text(encoding="utf-8")
    pairs: dict[str, str] = {}
    parts: dict[str, str] = {}
    keyword = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith(("msgid ", "msgstr ")):
            keyword, _, line = line.partition(" ")  # noqa: PLW2901 - the rest of it
        if line.startswith('"'):
            parts[keyword] = parts.get(keyword, "") + json.loads(line)
        elif not line and parts.get("msgid"):
            if parts["msgid"] in pairs:
                raise ValueError(f"{language}.po has twice: {parts['msgid']}")
            pairs[parts["msgid"]] = parts["msgstr"]
        if not line:
            parts = {}
    return pairs


@dataclass(frozen=True, slots=True)
class _Template:
    """An English sentence with places: the words between them, and the translation."""

    words: tuple[str, ...]
    places: tuple[str, ...]
    translated: str

    def match(self, text: str) -> dict[str, str] | None:
        """Return the texts in the places, each as short as possible; None for another sentence."""
        first, *between = self.words
        last = between.pop()
        end = len(text) - len(last)
        if not text.startswith(first) or not text.endswith(last) or end <= len(first):
            return None
        values: dict[str, str] = {}
        at = len(first)
        for place, words in zip(self.places, [*between, None], strict=True):
            to = end if words is None else text.find(words, at + 1, end)
            if to <= at or values.setdefault(place, text[at:to]) != text[at:to]:
                return None
            at = to + len(words or "")
        return values if not self.is_weak or all(map(_NAMES.fullmatch, values.values())) else None

    @property
    def is_weak(self) -> bool:
        """Whether so few words fit into many a sentence: then they are one only between names and numbers."""
        words = "".join(self.words)
        return len(words) < _FEW and ":" not in words


@dataclass(slots=True)
class Catalogue:
    """The sentences of a language."""

    sentences: Mapping[str, str]
    _templates: list[_Template] = field(init=False)
    _looks: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        templates = [
            _template(english, other) for english, other in self.sentences.items() if "{0}" in english
        ]
        # `is closed: …` is printed behind the name of an index.
        templates += [
            _template(f"{{9}} {english}", f"{{9}} {other}")
            for english, other in self.sentences.items()
            if english.startswith(_PREDICATES)
        ]
        self._templates = sorted(templates, key=lambda one: -sum(map(len, one.words)))

    def translate(self, text: str) -> str:
        """Return a sentence in the language; parts without a template stay."""
        if len(text) > _LONGEST:
            return text
        if _NUMBER.fullmatch(text):
            return self._value(text, 0)
        indent = text[: len(text) - len(text.lstrip(" "))]
        self._looks = 0
        return indent + self._translate(text[len(indent) :], 0)

    def _translate(self, text: str, depth: int) -> str:
        whole = self._whole(text, depth)
        if whole is not None:
            return whole
        # Several sentences that were joined: one that is known is taken off, and the rest looked at by itself.
        for joint in _JOINTS:
            at = text.find(joint)
            while at > 0 and self._looks < _MOST_LOOKS:
                first = self._whole(text[:at], depth + 1)
                rest = self._whole(text[at + len(joint) :], depth + 1)
                if first is not None:
                    return first + joint + (rest or self._translate(text[at + len(joint) :], depth + 1))
                if rest is not None:
                    return self._translate(text[:at], depth + 1) + joint + rest
                at = text.find(joint, at + 1)
        return text

    def _whole(self, text: str, depth: int) -> str | None:
        """Return the translation of one sentence; of several that fit, the one that leaves the least in English."""
        # A single word may be a name; only at the top, as the heading of a table, it is surely ours.
        exact = self.sentences.get(text) if " " in text or not depth or text in _STATES else None
        self._looks += 1
        if exact is not None or depth > _DEEPEST or self._looks > _MOST_LOOKS:
            return exact
        found: list[str] = []
        for template in self._templates:
            values = template.match(text)
            if values is not None:
                shown = {place: self._value(value, depth + 1) for place, value in values.items()}
                found.append(_fill(template.translated, values, shown))
        return min(found, key=lambda one: len(_ENGLISH.findall(one)), default=None)

    def _value(self, value: str, depth: int) -> str:
        if _NUMBER.fullmatch(value):
            return _THOUSANDS.sub("\N{NO-BREAK SPACE}", value)
        # A name is one word, and is left alone.
        return self._translate(value, depth) if " " in value or value in _STATES else value


def _template(english: str, translated: str) -> _Template:
    words = tuple(_PLACE.sub("\0", english).split("\0"))
    return _Template(words, tuple(match[1] for match in _PLACE.finditer(english)), translated)


def _fill(template: str, values: Mapping[str, str], shown: Mapping[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        if match[2] is None:
            return shown[match[1]]
        return match[2 + plural_form(values[match[1]])]

    return _PLACE.sub(one, template)


def plural_form(number: str) -> int:
    """Return which of the three forms follows a number in Russian: 1 чат, 2 чата, 5 чатов."""
    at_least, digits = number.startswith(_AT_LEAST), number.removeprefix(_AT_LEAST).replace(",", "")
    if not digits.isascii() or not digits.isdigit():
        return 2
    ones, tens = int(digits[-1]), int(digits[-2:])
    if ones == 1 and tens != 11:  # noqa: PLR2004 - eleven is of the many
        # In the genitive: не менее 21 чата.
        return 1 if at_least else 0
    if at_least:
        return 2
    return 1 if ones in {2, 3, 4} and tens not in {12, 13, 14} else 2
