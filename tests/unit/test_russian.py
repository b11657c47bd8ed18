"""What administrators of chats read, in Russian: every sentence is translated, none is stale, and numbers have their forms."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import retentiond
from retentiond.cli.app import load
from retentiond.terminal.translation import Catalogue, plural_form, read_catalogue, translator, untranslated
from retentiond.terminal.words import CHAT_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterator


_OF_SQL: Final = re.compile(
    r"::|\$[a-z]|:Identifier\}|:(?:Array|String)\b|\b(?:SELECT|DELETE FROM|LEFT JOIN|ON CLUSTER|SET LOCAL|IS NULL|IS NOT|"
    r"EXISTS \(|CASE|WHEN|UNION ALL|CREATE INDEX|DROP INDEX|JOIN|NOT IN|GRANT \{|IN PARTITION|FROM system|DEFERRABLE|"
    r"PARTITION BY|VALUES)\b|^GRANT |^CREATE TEMPORARY |^ALTER DELETE |ON \*\.\*$|^SHOW \w+$|enable_\w+ = |plan_cache_mode|synchronous_commit not|row_security|^NOT \{|^IN \(|^AND "
)
_TYPES: Final = re.compile(r"double precision|character varying|timestamp with(?:out)? time zone|bold red")
_WORD: Final = re.compile(r"[A-Za-z]{2}")
_NOT_PRINTED: Final = frozenset({"AssertionError", "Field", "compile", "example", "Option", "TypeAlias"})
"""What is called with texts that nobody reads, or that the documents have: an option's help is listed by its command."""


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each sentence of a module, with its line; what has no blank is a name, and SQL is no sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    silent = {id(inner) for node in ast.walk(tree) for inner in _silent(node)}
    for node in ast.walk(tree):
        if id(node) not in silent and isinstance(node, ast.Constant | ast.JoinedStr):
            text = _template(node)
            if text is not None and _is_sentence(text):
                yield node.lineno, text.strip(" ")


def _template(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return _numbered(node.value) if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    number = 0
    text = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value)
        else:
            text += f"{{{number}}}"
            number += 1
    return text


def _numbered(text: str) -> str:
    """Return a text for `str.format` with numbers for its names; one that has no brace of its own is left as it is."""
    if "{{" not in text:
        return text
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"{{{names.index(match[1])}}}"

    return re.sub(r"(?<!\{)\{([a-z_]+)\}(?!\})", number, text).replace("{{", "{").replace("}}", "}")


def _silent(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what is below a node and is no sentence by itself: docstrings, parts of one, what nobody reads."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from (part for part in node.values if isinstance(part, ast.Constant))
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and part.format_spec is not None:
                yield from ast.walk(part.format_spec)
    elif isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _NOT_PRINTED:
            yield from ast.walk(node)


def _is_sentence(text: str) -> bool:
    words = re.sub(r"\{\d\}", "", text)
    return (
        " " in text.strip()
        and bool(_WORD.search(words))
        and not _OF_SQL.search(text)
        and not _TYPES.fullmatch(text)
    )


ROOT: Final = Path(retentiond.__file__).parent
RUSSIAN: Final = read_catalogue("ru")
WHOLLY: Final = (
    *sorted((ROOT / "targets" / "chat_database").rglob("*.py")),
    ROOT / "cli" / "purge_chats.py",
    ROOT / "terminal" / "purge.py",
    ROOT / "model" / "floor.py",
    ROOT / "model" / "orphans.py",
    ROOT / "model" / "purge.py",
    ROOT / "model" / "errors.py",
)
"""The modules that print for chats and for nothing else."""
OTHERS: Final = (
    *(ROOT / "cli").glob("*.py"),
    ROOT / "engine" / "target.py",
    ROOT / "config" / "files.py",
    ROOT / "terminal" / "words.py",
)
"""Modules that print for other targets as well: of their sentences those that chats need are translated."""
NO_SENTENCES: Final = frozenset((Path(__file__).parent / "russian_no_sentences.txt").read_text().splitlines())
"""What has blanks and is no sentence: parts of commands, formats, internal names, and what is only printed in a sentence
that the catalogue has as a whole."""
NOUNS: Final = ("rows", "documents")
"""The things that stores have, one of which stands in a sentence of both: the catalogue has it with each of them."""
_PLACE: Final = re.compile(r"\{(\d)(?:\|[^{}]*)?\}")


def written() -> Iterator[tuple[str, str]]:
    """Yield every sentence that the catalogue must have, with where it stands."""
    for path in WHOLLY:
        for line, text in sentences(path):
            yield text, f"{path.relative_to(ROOT)}:{line}"
    for reason, text in CHAT_REASONS.items():
        yield text, f"CHAT_REASONS[{reason}]"
    command = load("purge-chats")
    for part in (command.help or "").split("\n\n"):
        yield " ".join(part.split()), "the help of purge-chats"
    for option in command.params:
        if getattr(option, "help", None) and not getattr(option, "hidden", False):
            yield str(getattr(option, "help", "")), f"the help of {option.name}"


def test_every_sentence_about_chats_is_translated() -> None:
    missing = [
        f"{where}: {text}"
        for text, where in written()
        if text not in RUSSIAN
        and text not in NO_SENTENCES
        and not any(RUSSIAN.keys() >= set(forms) for forms in with_each_noun(text))
    ]
    assert missing == []


def with_each_noun(text: str) -> Iterator[list[str]]:
    """Yield a sentence in each way in which the nouns may be in it: in one of its places, or before it."""
    yield [f"{{0}} {noun} {text}" for noun in NOUNS]
    for place in dict.fromkeys(_PLACE.findall(text)):
        yield [_renumbered(text.replace(f"{{{place}}}", noun)) for noun in NOUNS]


def _renumbered(text: str) -> str:
    """Number the places of a sentence as the catalogue does: from 0, in their order."""
    numbers = {place: number for number, place in enumerate(dict.fromkeys(_PLACE.findall(text)))}
    return _PLACE.sub(lambda found: f"{{{numbers[found[1]]}}}", text)


def test_the_catalogue_has_no_sentence_that_no_code_prints() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py"))
    known = {text for text, _ in written()}
    known |= {text for path in OTHERS for _, text in sentences(path)}
    known |= {form for text in list(known) for forms in with_each_noun(text) for form in forms}
    stale = [text for text in RUSSIAN if text not in known and not _is_composed(text, known, code)]
    assert stale == []


def _is_composed(text: str, known: set[str], code: str) -> bool:
    """Tell whether a sentence is put together from what is in code: a word, or words around a number."""
    words = [part.strip(" ,;:().") for part in re.split(r"\{\d\}", text)]
    if sum(len(part.split()) for part in words) <= 3:
        words = " ".join(words).split()
    return all(
        word in code or any(word in one for one in known) or word.rstrip("s") in code for word in words
    )


def test_a_translation_has_the_places_of_the_sentence_and_three_forms_for_a_number() -> None:
    for english, russian in RUSSIAN.items():
        assert russian.strip(), english
        assert set(_PLACE.findall(russian)) == set(_PLACE.findall(english)), english
        for forms in re.findall(r"\{\d(\|[^{}]*)\}", russian):
            assert forms.count("|") == 3, english
        assert english.count("`") == russian.count("`"), english


@pytest.mark.parametrize(
    ("number", "noun"),
    [
        *((1, "чат"), (21, "чат"), (101, "чат"), (1_001, "чат")),
        *((2, "чата"), (4, "чата"), (22, "чата"), (1_234_562, "чата")),
        *(
            (0, "чатов"),
            (5, "чатов"),
            (11, "чатов"),
            (12, "чатов"),
            (14, "чатов"),
            (25, "чатов"),
            (111, "чатов"),
        ),
    ],
)
def test_a_number_is_followed_by_its_form(number: int, noun: str) -> None:
    english = f"{number:,} chat" if number == 1 else f"{number:,} chats"
    written_out = f"{number:,}".replace(",", "\N{NO-BREAK SPACE}")
    assert Catalogue(RUSSIAN).translate(english) == f"{written_out} {noun}"


@pytest.mark.parametrize(
    ("number", "noun"), [("1", "строки"), ("21", "строки"), ("2", "строк"), ("11", "строк")]
)
def test_at_least_so_many_is_in_the_genitive(number: str, noun: str) -> None:
    assert Catalogue(RUSSIAN).translate(f"at least {number} rows") == f"не менее {number} {noun}"


def test_what_is_no_number_takes_the_form_of_many() -> None:
    assert plural_form("many") == plural_form("") == 2


@pytest.mark.parametrize(
    ("variables", "russian"),
    [
        ({}, False),
        ({"LANG": "ru_RU.UTF-8"}, True),
        ({"LANG": "ru"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LC_MESSAGES": "ru_RU.UTF-8", "LANG": "en_US.UTF-8"}, True),
        ({"LC_ALL": "C", "LC_MESSAGES": "ru_RU.UTF-8"}, False),
        ({"LC_ALL": "", "LANG": "ru_RU"}, True),
        ({"LC_ALL": "run"}, False),
    ],
)
def test_the_first_of_three_variables_decides_on_the_language(
    variables: dict[str, str], russian: bool
) -> None:
    assert (translator(variables) is not untranslated) is russian


def test_a_sentence_in_a_sentence_is_translated_and_names_in_it_are_left_alone() -> None:
    translate = Catalogue(RUSSIAN).translate
    told = translate(
        "refused by floor: 2026-01-01 (allowed: 2025-01-01); data younger than 365 days is never purged; the latest "
        "allowed date is 2025-01-01"
    )
    assert told == (
        "отклонено: floor: 2026-01-01 (допускается: 2025-01-01); данные моложе 365 дней не удаляются никогда; "
        "самая поздняя допустимая дата — 2025-01-01"
    )
    assert (
        translate("there is no account `stay`; chats has all, none")
        == "аккаунта `stay` нет; в chats есть all, none"
    )
    assert (
        translate("a sentence of another program; with its hint")
        == "a sentence of another program; with its hint"
    )


def test_a_long_text_of_a_stranger_is_printed_as_it_is_and_soon() -> None:
    translate = Catalogue(RUSSIAN).translate
    for piece in ("; ", ": ", ", ", ".", "`", "a.a, which is a, has `", "refused by a: ", "; run it again"):
        text = piece * (3900 // len(piece))
        assert isinstance(translate(text), str)
    long = "x" * 5000
    assert translate(long) is long


def test_the_catalogue_is_what_editors_of_such_files_read() -> None:
    text = (ROOT / "terminal" / "ru.po").read_text(encoding="utf-8")
    for line in text.splitlines():
        assert re.fullmatch(r'(#.*|(msgid |msgstr )?".*"|)', line), line
        if line.startswith("msg"):
            json.loads(line.partition(" ")[2])
