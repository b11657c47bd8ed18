"""Warnings about a usable configuration: mistakes that lose media, or keep media that should be deleted."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from retentiond.config.connection import ConnectionStringError, to_url
from retentiond.config.media import MediaTarget
from retentiond.config.policies import FOREVER
from retentiond.config.problems import KeyPath, Problem
from retentiond.config.resolve import MediaSettings
from retentiond.config.units import format_duration
from retentiond.model.policy_coverage import contradiction, shadowed
from retentiond.model.text import printable

if TYPE_CHECKING:
    from retentiond.config.document import Document
    from retentiond.config.schema import Config

_CREDENTIAL: Final = "credential:"
_FILE: Final = "file:"
_VARIABLE: Final = re.compile(r"(?<!\$)\$\{")
"""The beginning of `${VARIABLE}`; `$${` stands for two characters."""


def exposed_secrets(
    path: Path, document: Document, config: Config, resolved: Mapping[str, object]
) -> Iterator[Problem]:
    """Yield a warning for each file with a secret that others can read: the configuration and the files that it names."""
    secrets = dict(_secrets(document, config))
    in_clear = [key for key, secret in secrets.items() if _in_clear(document.written[key], secret)]
    if in_clear and (readers := _readers(path)):
        yield _warning(
            document.problem(in_clear[0], "", ""),
            f"is a secret in clear text, and {readers} can read this file",
            f"chmod 640 it and give it the service's group, or write {_FILE}PATH or credential:NAME",
        )
    for key in secrets:
        written = document.written[key]
        file = Path(written.removeprefix(_FILE))
        if written.startswith(_FILE) and (readers := _readers(file)):
            yield _warning(
                document.problem(key, "", ""),
                f"is in a file that {readers} can read",
                f"chmod 600 {printable(str(file))}",
            )
    for file in _dendrite_files(config, resolved):
        if readers := _readers(file):
            message = f"has a database password, and {readers} can read this file"
            hint = "chmod 640 it and give it dendrite's group"
            yield Problem(printable(str(file), 300), None, None, "", message, hint, "warning")


def _warning(place: Problem, message: str, hint: str) -> Problem:
    return Problem(place.file, place.line, place.column, place.key, message, hint, "warning")


def _in_clear(written: str, secret: str) -> bool:
    """Return whether a value as written shows the secret; of a connection string with variables, its password."""
    if written.startswith((_FILE, _CREDENTIAL)):
        return False
    if not _VARIABLE.search(written):
        return True
    password = _password(secret)
    return bool(password) and password in written


def _secrets(document: Document, config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Yield the keys of the file whose values are secret, with these; a connection string only if it has a password."""
    for path, secret in _walk((), config):
        value = secret.get_secret_value()
        if path in document.written and _password(value):
            yield path, value


def _walk(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, SecretStr]]:
    if isinstance(value, SecretStr):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _walk((*path, field.alias or name), getattr(value, name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _walk((*path, name), inner)
    elif isinstance(value, list | tuple):
        for place, inner in enumerate(value):
            yield from _walk((*path, place), inner)


def _password(secret: str) -> str:
    """Return a secret that is no connection string, or the password in one; empty without a password."""
    try:
        return unquote(urlsplit(to_url(secret)).password or "")
    except (ConnectionStringError, ValueError):
        return secret


def _dendrite_files(config: Config, resolved: Mapping[str, object]) -> Iterable[Path]:
    """Return dendrite's own files from which a database's password is taken, each once."""
    files: dict[Path, None] = {}
    for name, target in config.targets.items():
        settings = resolved.get(name)
        if not isinstance(target, MediaTarget) or not isinstance(settings, MediaSettings):
            continue
        ours = {
            target.database,
            *(getattr(target.databases, part) for part in type(target.databases).model_fields),
        }
        named = {to_url(secret.get_secret_value()) for secret in ours if secret is not None}
        taken = {settings.database, *settings.databases.values()} - named
        if target.dendrite_config is not None and any(map(_password, taken)):
            files[target.dendrite_config] = None
    return files


def _readers(path: Path) -> str:
    """Name the readers of a plain file: every user, or its group if that is neither root's nor this process's."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return ""
    if not stat.S_ISREG(about.st_mode):
        return ""
    if about.st_mode & stat.S_IROTH:
        return "every user"
    # Run as root, the service's group is not known.
    known = {0, os.getegid()}
    if about.st_mode & stat.S_IRGRP and os.geteuid() != 0 and about.st_gid not in known:
        return f"the group {about.st_gid}"
    return ""


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
