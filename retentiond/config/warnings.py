"""Warnings about a usable configuration: mistakes that lose media, or keep media that should be deleted."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from retentiond.config.document import Document
from retentiond.config.exposure import exposed_secrets
from retentiond.config.media import MediaTarget
from retentiond.config.policies import FOREVER
from retentiond.config.problems import KeyPath, Problem
from retentiond.config.resolve import MediaSettings
from retentiond.config.schema import Config
from retentiond.config.units import format_duration
from retentiond.model.policy_coverage import contradiction, shadowed

_DAY: Final = timedelta(days=1)


def warnings_of(
    path: Path, document: Document, config: Config, resolved: Mapping[str, object]
) -> tuple[Problem, ...]:
    """Return all warnings; `resolved` are the targets' settings, with the values from the files that they name."""
    names = {name: found.server_names for name, found in resolved.items() if isinstance(found, MediaSettings)}
    exposed = exposed_secrets(path, document, config, resolved)
    return (*exposed, *policy_warnings(document, config, names))


def policy_warnings(
    document: Document, config: Config, server_names: Mapping[str, frozenset[str]]
) -> Iterator[Problem]:
    """Yield the warnings about each target's keys; `server_names` are those of each, as far as they are known."""
    for name, target in config.targets.items():
        if isinstance(target, MediaTarget):
            for path, message, hint in _media(target, server_names.get(name, frozenset())):
                yield warning(document, ("targets", name, *path), message, hint)


def unmatched(
    document: Document, name: str, target: MediaTarget, counts: Mapping[str, int]
) -> Iterator[Problem]:
    """Yield a warning for each policy and quota of a target that matches no entry now; uncounted ones are fine."""
    named = {
        "policies": [policy.name for policy in target.policies],
        "quota": [quota.name for quota in target.quotas()],
    }
    for key, names in named.items():
        for place, policy in enumerate(names):
            if counts.get(policy) == 0:
                yield warning(
                    document,
                    ("targets", name, key, place, "match"),
                    "matches no entry in the database now",
                    "check how it is written, and the policies before it",
                )


def warning(document: Document, path: KeyPath, message: str, hint: str) -> Problem:
    """Make a warning at a value of the file."""
    return replace(document.problem(path, message, hint), level="warning")


def _media(target: MediaTarget, server_names: frozenset[str]) -> Iterator[tuple[KeyPath, str, str]]:
    default = MediaTarget.model_fields["settle"].default
    if target.settle < default:
        yield (
            ("settle",),
            f"is below {format_duration(default)}: a file can be purged while the same content is being uploaded",
            "leave it out",
        )
    policies = target.rules(server_names).policies
    for place, policy in enumerate(policies):
        path: KeyPath = ("policies", place)
        if (found := contradiction(policy.match, server_names)) is not None:
            yield (*path, "match", found.condition), found.message, found.hint
        if policy.match.unreferenced and policy.keep is not None and policy.keep < _DAY:
            yield (
                (*path, "keep"),
                "is below one day with `unreferenced`: a file is uploaded before the message that refers to it arrives",
                "write 1d or more",
            )
    for later, earlier in shadowed(policies, server_names):
        keep = policies[earlier].keep
        says = FOREVER if keep is None else format_duration(keep)
        yield (
            ("policies", later, "match"),
            f"never decides: policy {policies[earlier].name}, keep {says}, comes before it and matches all of this",
            "if it is meant to decide, move it before that one; otherwise remove it",
        )
    for place, quota in enumerate(target.quotas()):
        if (found := contradiction(quota.match, server_names)) is not None:
            yield ("quota", place, "match", found.condition), found.message, found.hint
