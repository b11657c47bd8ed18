"""YAML's own traps end at the reader."""

from pathlib import Path

import pytest

from retentiond.config import document
from retentiond.config.document import Document, read_document
from retentiond.config.problems import ConfigError, Problem


def read(tmp_path: Path, text: str | bytes, *, foreign: bool = False) -> Document:
    path = tmp_path / "file.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path, when_missing="make it", foreign=foreign)


def refused(tmp_path: Path, text: str | bytes) -> Problem:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    (problem,) = caught.value.problems
    return problem


def test_plain_values_are_read_as_yaml_has_them(tmp_path: Path) -> None:
    document = read(tmp_path, 'a: [1, -2, 0.5, true, no, text, "5", 2020-01-31]\nb: {c: d}\n')
    assert not document.problems
    assert isinstance(document.value, dict)
    assert document.value["a"][:7] == [1, -2, 0.5, True, False, "text", "5"]
    assert str(document.value["a"][7]) == "2020-01-31"
    assert document.value["b"] == {"c": "d"}


def test_lines_and_columns_count_from_one(tmp_path: Path) -> None:
    document = read(tmp_path, "a:\n  - b: c\n    ä: d\n")
    assert document.keys["a",] == (1, 1)
    assert document.values["a", 0, "b"] == (2, 8)
    assert document.keys["a", 0, "ä"] == (3, 5)
    assert document.values["a", 0, "ä"] == (3, 8)


def test_a_key_is_text_whatever_yaml_takes_it_for(tmp_path: Path) -> None:
    assert read(tmp_path, "yes: a\n5: b\n~: c\n2020-01-31: d\n").value == {
        "yes": "a",
        "5": "b",
        "~": "c",
        "2020-01-31": "d",
    }


@pytest.mark.parametrize(
    "text",
    [
        "1:30",
        "0777",
        "010",
        "0x1f",
        "0b1",
        "1_000",
        ".inf",
        "-.inf",
        ".nan",
        "1.0e+3",
        "9" * 5000,
        "2024-13-45",
        "0000-01-01",
        "!!int x",
        "!!float x",
        "!!bool x",
        "!!timestamp x",
        "!!binary aGk=",
        "!x y",
        "!!python/name:os.system",
        "!!python/object/apply:os.system [x]",
        "!!set {a}",
        "!!omap [a: b]",
        "=",
        "~",
        "",
        "null",
        "!x [a]",
    ],
)
def test_a_value_that_yaml_turns_into_something_else_is_a_problem(tmp_path: Path, text: str) -> None:
    document = read(tmp_path, f"a: {text}\n")
    (problem,) = document.problems
    assert (problem.line, problem.key) == (1, "a")
    assert problem.hint
    assert document.spoiled == {("a",)}


def test_text_in_quotes_is_text(tmp_path: Path) -> None:
    document = read(tmp_path, "a: ['1:30', \"yes\", '~', '', '0777']\n")
    assert document.value == {"a": ["1:30", "yes", "~", "", "0777"]}
    assert not document.problems


def test_duplicate_keys_are_a_problem_at_each_level(tmp_path: Path) -> None:
    document = read(tmp_path, "a: {b: 1, b: 2}\na: 3\n")
    assert [(problem.line, problem.column) for problem in document.problems] == [(1, 11), (2, 1)]
    assert document.value == {"a": {"b": 1}}


def test_keys_that_yaml_takes_for_the_same_value_are_two_keys(tmp_path: Path) -> None:
    assert not read(tmp_path, "yes: 1\ntrue: 2\n").problems


def test_a_key_that_is_no_text_is_a_problem(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, "? [a, b]\n: c\n").problems
    assert problem.message == "a key must be plain text"


def test_an_alias_is_what_it_names(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &x {b: 1}\nc: *x\n")
    assert document.value == {"a": {"b": 1}, "c": {"b": 1}}
    assert not document.problems


def test_merge_keys_are_refused_in_our_own_file(tmp_path: Path) -> None:
    document = read(tmp_path, "a: &x {b: 1}\nc: {<<: *x, d: 2}\n")
    (problem,) = document.problems
    assert (problem.line, problem.column, problem.key) == (2, 5, "c")
    assert "merge keys" in problem.message


def test_merge_keys_and_duplicates_of_another_program_are_its_affair(tmp_path: Path) -> None:
    text = (
        "x: &x {b: 1, e: 1}\ny: &y {b: 2, f: 2}\nc: {b: 3, <<: [*x, *y], d: 2, d: 4}\n? [a]\n: b\nn: 1:30\n"
    )
    document = read(tmp_path, text, foreign=True)
    assert not document.problems
    assert isinstance(document.value, dict)
    assert document.value["c"] == {"b": 3, "e": 1, "f": 2, "d": 4}


def test_aliases_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    layers = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    assert "too many values" in refused(tmp_path, f"a0: &a0 [x]\n{layers}").message


def test_merges_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    layers = "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))
    with pytest.raises(ConfigError, match="too many values"):
        read(tmp_path, f"a0: &a0 {{x: y}}\n{layers}", foreign=True)


@pytest.mark.parametrize("times", [1.2, 2.2])
def test_more_values_than_any_configuration_has_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: float
) -> None:
    monkeypatch.setattr(document, "MOST_VALUES", 1000)
    assert "too many values" in refused(tmp_path, f"[{'a,' * int(1000 * times)}]").message


@pytest.mark.parametrize("text", ["a: &x [*x]\n", "a: &x {b: *x}\n", "&x {<<: *x}\n"])
def test_an_alias_of_itself_is_refused(tmp_path: Path, text: str) -> None:
    assert "too many values or levels" in refused(tmp_path, text).message


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "a: " + "[" * 51 + "]" * 51])
def test_deep_nesting_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    problem = refused(tmp_path, text)
    assert "levels" in problem.message
    assert problem.line == 1


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: b: c\n", 1, 5),
        ("a: 1\n\tb: 2\n", 2, 1),
        ("a: [1, 2\n", 2, 1),
        ("a: 'x\n", 2, 1),
        ("a: @x\n", 1, 4),
        ("a: *nobody\n", 1, 4),
        ("a: 1\n---\nb: 2\n", 2, 1),
        ("a: 1\nb: x\x07\n", 2, 5),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place(tmp_path: Path, text: str, line: int, column: int) -> None:
    problem = refused(tmp_path, text)
    assert problem.message.startswith("YAML: ")
    assert (problem.line, problem.column) == (line, column)


def test_what_yaml_cannot_read_is_not_shown(tmp_path: Path) -> None:
    problem = refused(tmp_path, 'a: "postgresql://u:hunter2@h/d\n')
    assert "hunter2" not in str(problem)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [(b"a: b\nc: d\xff\n", 2, 5), ("a: b".encode("utf-16"), 1, 1), (b"a: \xc3\xa4\xe4", 1, 5)],
)
def test_what_is_not_utf_8_is_told_with_its_place(
    tmp_path: Path, text: bytes, line: int, column: int
) -> None:
    problem = refused(tmp_path, text)
    assert problem.message == "is not UTF-8 text"
    assert (problem.line, problem.column) == (line, column)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfa: b\n").value == {"a": "b"}


def test_a_file_of_more_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    text = b"a: b\n#".ljust(1024 * 1024, b"x")
    assert read(tmp_path, text).value == {"a": "b"}
    assert "larger than 1048576 bytes" in refused(tmp_path, text + b"x").message


def test_control_characters_of_a_key_or_a_name_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2J\u202e.yaml"
    path.write_text('"\\e[1mb": ~\n')
    (problem,) = read_document(path, when_missing="make it").problems
    assert "\x1b" not in str(problem)
    assert "\u202e" not in str(problem)
    assert "\\u{1B}[2J\\u{202E}" in str(problem)
    assert problem.key == "\\u{1B}[1mb"
