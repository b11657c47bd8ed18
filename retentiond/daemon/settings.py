"""The daemon's settings: the configuration file and the files that it refers to, read and checked as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from retentiond.config.load import load_with_places
from retentiond.config.policies import FOREVER
from retentiond.config.problems import ConfigError
from retentiond.config.schema import Records
from retentiond.config.units import format_duration
from retentiond.config.warnings import certificate_problems, warnings_of
from retentiond.targets.settings import Resolved, resolve_target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from pathlib import Path

    from retentiond.config.http import Http
    from retentiond.config.notify import Notify
    from retentiond.config.problems import Problem
    from retentiond.config.schema import Logging, Metrics, TargetConfig


@dataclass(frozen=True, slots=True)
class TargetSettings:
    """A target: its section of the file, that section with the files it refers to, and the time that records are kept.

    `resolved` is only compared: a reload opens the target again if one of those files has changed.
    """

    config: TargetConfig
    resolved: Resolved
    keep_records: timedelta = Records().keep


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a reload may change."""

    targets: Mapping[str, TargetSettings]
    logging: Logging
    metrics: Metrics | None = None
    notify: Notify | None = None
    http: Http | None = None
    warnings: tuple[Problem, ...] = ()


def read_settings(path: Path, environment: Mapping[str, str]) -> Settings:
    """Read the configuration and the files that it names; raise ConfigError with the problems of all of them."""
    config, document = load_with_places(path, environment)
    targets: dict[str, TargetSettings] = {}
    problems: list[Problem] = []
    for name, target in config.targets.items():
        try:
            targets[name] = TargetSettings(target, resolve_target(target), config.records.keep)
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    problems += certificate_problems(document, config)
    if problems:
        raise ConfigError(problems)
    resolved = {name: target.resolved for name, target in targets.items()}
    warnings = warnings_of(path, document, config, resolved)
    return Settings(targets, config.logging, config.metrics, config.notify, config.http, warnings)


def policies_as_fields(target: TargetConfig) -> list[dict[str, Any]]:
    """Return the policies (or accounts) by name and keep, for the log."""
    return [{"name": name, "keep": keep_text(keep)} for name, keep in target.keeps.items()]


def keep_text(keep: timedelta | None) -> str:
    """Write a policy's keep as the configuration does."""
    return FOREVER if keep is None else format_duration(keep)
