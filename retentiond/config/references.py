"""Values that stand elsewhere: `${VARIABLE}` in the environment, `file:PATH`, `credential:NAME`.

What they lead to may be a secret: no message shows it, only the reference itself.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from retentiond.config.files import UnreadableError, read_text

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}|\$\{")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9_@.:-]{1,255}", re.ASCII)
_DIRECTORY: Final = "CREDENTIALS_DIRECTORY"
_LARGEST_SECRET: Final = 64 * 1024


class ReferenceProblemError(Exception):
    """Why a reference leads nowhere; the message and the hint show the reference alone."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def resolve_reference(text: str, environment: Mapping[str, str]) -> str:
    """Return the text with its references resolved; `$${` becomes `${`.

    A file's last line end is not part of its value. Raise ReferenceProblemError.
    """
    kind, colon, rest = text.partition(":")
    if colon and kind == "file":
        return _read(Path(_filled(rest, environment)), "the file")
    if colon and kind == "credential":
        return _read(_credential(_filled(rest, environment), environment), "the credential")
    return _filled(text, environment)


def _filled(text: str, environment: Mapping[str, str]) -> str:
    def fill(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name = match[1]
        if name is None or not _VARIABLE_NAME.fullmatch(name):
            raise ReferenceProblemError(
                "a ${ must be followed by a variable's name and }",
                "write ${VARIABLE}, or $${ for the two characters themselves",
            )
        if name not in environment:
            raise ReferenceProblemError(
                f"the environment variable {name} is not set",
                "set it for retentiond, or write the value here",
            )
        return environment[name]

    return _VARIABLE.sub(fill, text)


def _credential(name: str, environment: Mapping[str, str]) -> Path:
    if not _CREDENTIAL_NAME.fullmatch(name) or name in {".", ".."}:
        raise ReferenceProblemError(
            "a credential's name has letters, digits and _ @ . : - only",
            "write credential:NAME, as in LoadCredential=",
        )
    directory = environment.get(_DIRECTORY)
    if not directory:
        raise ReferenceProblemError(
            f"there are no credentials here: ${_DIRECTORY} is not set",
            f"start retentiond by systemd with LoadCredential={name}:PATH, or write file:PATH",
        )
    return Path(directory, name)


def _read(path: Path, noun: str) -> str:
    if not path.is_absolute():
        raise ReferenceProblemError(f"{noun} must be named by an absolute path", "write file:/PATH")
    try:
        # Opening a pipe without a writer would block forever.
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ReferenceProblemError(f"{noun} is not a plain file", "name a plain file")
        value = read_text(path, when_missing="make it, or correct the name", largest=_LARGEST_SECRET)
    except UnreadableError as error:
        raise ReferenceProblemError(f"{noun} cannot be used: {error.message}", error.hint) from None
    except (OSError, ValueError):
        raise ReferenceProblemError(
            f"{noun} cannot be looked at", "look at the path and its permissions"
        ) from None
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise ReferenceProblemError(f"{noun} is empty", "write the value into it")
    return value
