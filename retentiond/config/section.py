"""The base of every part of the configuration: frozen, closed to unknown keys, with all its problems at once."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from retentiond.config.problems import KeyPath


class Conflict(NamedTuple):
    """A problem between keys of one section: its path from that section, and the reason."""

    where: KeyPath
    message: str


class Section(BaseModel):
    """A part of the configuration; conflicts between its keys are reported together with errors in them."""

    # A value may be a password: it never gets into an error's text.
    # The validator of a whole is built when it is used, and with it those of its parts: not each of them beforehand.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the problems between the keys as given, before any of them is read."""
        del given
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _all_at_once(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        conflicts = list(cls.conflicts(given)) if isinstance(given, Mapping) else []
        lines = [
            InitErrorDetails(type="value_error", loc=where, input=None, ctx={"error": ValueError(message)})
            for where, message in conflicts
        ]
        try:
            section = handler(given)
        except ValidationError as error:
            lines = [
                InitErrorDetails(
                    type=line["type"], loc=line["loc"], input=line["input"], ctx=line.get("ctx", {})
                )
                for line in error.errors(include_url=False)
            ] + lines
        else:
            if not lines:
                return section
        raise ValidationError.from_exception_data(cls.__name__, lines, hide_input=True) from None
