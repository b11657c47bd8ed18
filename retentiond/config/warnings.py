"""Warnings about a usable configuration: mistakes that lose media, or keep media that should be deleted."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, SecretStr

from retentiond.config.connection import password_of
from retentiond.config.http import is_loopback
from retentiond.config.problems import KeyPath, Problem
from retentiond.model.text import printable

if TYPE_CHECKING:
    from retentiond.config.document import Document
    from retentiond.config.schema import Config
    from retentiond.config.target import ResolvedSettings, TargetSection

_CREDENTIAL: Final = "credential:"
_FILE: Final = "file:"
_VARIABLE: Final = re.compile(r"(?<!\$)\$\{")
"""The beginning of `${VARIABLE}`; `$${` stands for two characters."""


def exposed_secrets(
    path: Path, document: Document, config: Config, resolved: Mapping[str, ResolvedSettings]
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
    # A file that several targets name is reported once.
    for file in dict.fromkeys(file for settings in resolved.values() for file in settings.secret_files):
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
    password = password_of(secret)
    return bool(password) and password in written


def _secrets(document: Document, config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Yield the keys of the file whose values are secret, with these; a connection string only if it has a password."""
    for path, secret in _walk((), config):
        value = secret.get_secret_value()
        if path in document.written and password_of(value):
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


def warnings_of(
    path: Path, document: Document, config: Config, resolved: Mapping[str, ResolvedSettings]
) -> tuple[Problem, ...]:
    """Return all warnings; `resolved` are the targets' settings, with the values from the files that they name."""
    names = {name: settings.server_names for name, settings in resolved.items()}
    exposed = exposed_secrets(path, document, config, resolved)
    return (*exposed, *http_warnings(document, config), *policy_warnings(document, config, names))


def certificate_problems(document: Document, config: Config) -> Iterator[Problem]:
    """Yield the problem of a certificate or a key that cannot be used."""
    if config.http is None or config.http.tls is None:
        return
    try:
        config.http.tls.context()
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        yield document.problem(("http", "tls", "certificate"), message, hint)


def http_warnings(document: Document, config: Config) -> Iterator[Problem]:
    """Yield the warnings about a token that a network can read, and a private key that other users can."""
    http = config.http
    if http is None:
        return
    outside = [f"{host}:{port}" for host, port in http.listen if not is_loopback(host)]
    if outside and http.tls is None:
        yield warning(
            document,
            ("http", "listen"),
            f"sends the token and the names of users in clear text over the network ({', '.join(outside)})",
            "add `tls`, or listen at 127.0.0.1 behind a proxy with TLS",
        )
    if http.tls is not None and (readers := _readers(http.tls.key)):
        yield warning(
            document,
            ("http", "tls", "key"),
            f"is a private key, and {readers} can read it",
            f"chmod 600 {printable(str(http.tls.key))}",
        )


def policy_warnings(
    document: Document, config: Config, server_names: Mapping[str, frozenset[str]]
) -> Iterator[Problem]:
    """Yield the warnings about each target's keys; `server_names` are those of each, as far as they are known."""
    for name, target in config.targets.items():
        for path, message, hint in target.warnings(server_names.get(name, frozenset())):
            yield warning(document, ("targets", name, *path), message, hint)


def unmatched(
    document: Document, name: str, target: TargetSection, counts: Mapping[str, int]
) -> Iterator[Problem]:
    """Yield a warning for each policy and quota of a target that matches no entry now; uncounted ones are fine."""
    for key, rules in target.counted_rules.items():
        for place, rule in enumerate(rules):
            if counts.get(rule) == 0:
                yield warning(
                    document,
                    ("targets", name, key, place, "match"),
                    "matches no entry in the database now",
                    "check how it is written, and the policies before it",
                )


def warning(document: Document, path: KeyPath, message: str, hint: str) -> Problem:
    """Make a warning at a value of the file."""
    return replace(document.problem(path, message, hint), level="warning")
