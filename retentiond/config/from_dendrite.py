"""A configuration without a file of our own: only dendrite's file and a number of days."""

from pathlib import Path

from pydantic import ValidationError

from retentiond.config.schema import Config
from retentiond.config.units import LONGEST
from retentiond.model.errors import UsageError


def from_dendrite_config(path: Path, days: int, *, local: bool) -> Config:
    """Make the configuration of one target, `media`, whose remote media stay this many days; local ones, too, if so said.

    All else is as it is by default. Raise UsageError for a number of days that cannot be.
    """
    if not 0 <= days <= LONGEST.days:
        raise UsageError(f"{days} days cannot be; write a number from 0 to {LONGEST.days}")
    origins = ["remote", "local"] if local else ["remote"]
    policies = [{"name": origin, "match": {"origin": origin}, "keep": f"{days}d"} for origin in origins]
    target = {"kind": "dendrite_media", "dendrite_config": path.absolute(), "policies": policies}
    try:
        return Config.model_validate({"targets": {"media": target}})
    except ValidationError:
        raise UsageError(
            "the path of dendrite's configuration cannot be used; write it without `..`"
        ) from None
