"""Targets of a configuration, as the kind that a test knows them to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retentiond.config.media import MediaTarget

if TYPE_CHECKING:
    from retentiond.config.schema import Config, TargetConfig


def media_target(config: Config, name: str = "media") -> MediaTarget:
    """Return a configuration's target of dendrite's media."""
    return as_media(config.targets[name])


def as_media(target: TargetConfig) -> MediaTarget:
    """Return a target that is one of dendrite's media."""
    assert isinstance(target, MediaTarget)
    return target
