"""The configuration as a JSON Schema, for editors: every key with its description, its form and its default."""

import json
from datetime import timedelta
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema

from retentiond.config.schema import Config
from retentiond.config.units import format_duration

FILE: Final = "config.schema.json"
"""Its name beside a configuration; the first line of the example refers to it."""


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Write a default as the file would have it."""
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def json_schema() -> str:
    """Return the schema as the text of `config.schema.json`."""
    schema = Config.model_json_schema(by_alias=True, schema_generator=_Generator)
    head = {"$schema": _Generator.schema_dialect, "title": "The configuration of retentiond"}
    return (
        json.dumps({**head, **{key: value for key, value in schema.items() if key != "title"}}, indent=1)
        + "\n"
    )
