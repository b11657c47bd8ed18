"""The JSON Schema: it takes what the program takes, and an editor can complete and explain every key by it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from retentiond.config.example import example_config
from retentiond.config.json_schema import FILE, json_schema
from retentiond.config.schema import KINDS
from tests.unit.test_config_example import uncommented

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import Draft202012Validator

SHIPPED = Path(__file__).parents[2] / FILE
SCHEMA = json.loads(json_schema())


@cache
def validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - it takes seconds, of each process that collects the tests

    return Draft202012Validator(SCHEMA)


def errors(text: str) -> list[str]:
    return [error.message for error in validator().iter_errors(yaml.safe_load(text))]


def test_the_shipped_schema_is_the_one_that_is_printed() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == json_schema()


def test_the_schema_is_a_valid_schema() -> None:
    validator().check_schema(SCHEMA)


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_takes_the_example_and_every_comment_of_it(kind: str) -> None:
    assert errors(example_config(kind)) == []
    assert errors(uncommented(example_config(kind))) == []


def test_the_example_names_the_schema_beside_it_in_its_first_line() -> None:
    assert example_config().partition("\n")[0] == f"# yaml-language-server: $schema={FILE}"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("keep: 30d", "keep: 30"),
        ("keep: 30d", "kep: 30d"),
        ("grace: 24h", "grace: 24x"),
        ("origin: remote", "origins: remote"),
        ("kind: dendrite_media", "kind: dendrite_medium"),
    ],
)
def test_the_schema_finds_a_wrong_value_or_key(right: str, wrong: str) -> None:
    text = example_config()
    assert right in text
    assert errors(text.replace(right, wrong))


def test_every_key_has_a_description() -> None:
    def keys(part: Any, where: str) -> Iterator[str]:
        for name, key in part.get("properties", {}).items():
            if "description" not in key:
                yield f"{where}.{name}"
        for name, inner in part.get("$defs", {}).items():
            yield from keys(inner, name)

    assert list(keys(SCHEMA, "")) == []
