import os
from pathlib import Path

import pytest

from retentiond.config.load import ReferenceProblemError, resolve_reference

ENVIRONMENT = {"USER_NAME": "alice", "EMPTY": "", "NESTED": "${USER_NAME}", "LIKE_FILE": "file:/etc/passwd"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("${USER_NAME}", "alice"),
        ("postgresql://${USER_NAME}@h/${USER_NAME}", "postgresql://alice@h/alice"),
        ("a${EMPTY}b", "ab"),
        ("$USER_NAME $5 }{", "$USER_NAME $5 }{"),
        ("$${USER_NAME}", "${USER_NAME}"),
        ("$$${USER_NAME}", "$${USER_NAME}"),
        ("${NESTED}", "${USER_NAME}"),
        ("${LIKE_FILE}", "file:/etc/passwd"),
        ("postgresql://h/d?x=file:/y", "postgresql://h/d?x=file:/y"),
        ("profile:x", "profile:x"),
    ],
)
def test_a_variable_is_filled_in_once_and_its_value_is_no_reference(text: str, value: str) -> None:
    assert resolve_reference(text, ENVIRONMENT) == value


@pytest.mark.parametrize(
    "text", ["${NOBODY}", "${", "a${USER_NAME", "${}", "${user-name}", "${1}", "${USER_NAME:-x}"]
)
def test_a_variable_that_is_none_is_a_problem(text: str) -> None:
    with pytest.raises(ReferenceProblemError):
        resolve_reference(text, ENVIRONMENT)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"secret\n", "secret"),
        (b"secret", "secret"),
        (b" a b \r\n", " a b "),
        (b"a\n\n", "a\n"),
        (b"${X}", "${X}"),
    ],
)
def test_a_file_is_its_text_without_the_last_line_end(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert resolve_reference(f"file:{tmp_path}/secret", {}) == value
    assert resolve_reference("file:${DIRECTORY}/secret", {"DIRECTORY": str(tmp_path)}) == value
    assert resolve_reference("credential:secret", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == value


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff", b"x" * (64 * 1024 + 1)])
def test_a_file_that_holds_no_value_is_a_problem_that_shows_nothing_of_it(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ReferenceProblemError) as caught:
        resolve_reference(f"file:{tmp_path}/secret", {})
    assert "xxx" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize("name", ["", "secret", "./secret", "/nowhere/secret", "/", "/a\0b", "/dev/zero"])
def test_a_file_that_cannot_be_had_is_a_problem(name: str) -> None:
    with pytest.raises(ReferenceProblemError):
        resolve_reference(f"file:{name}", {})


def test_a_pipe_is_no_file_to_wait_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReferenceProblemError, match="not a plain file"):
        resolve_reference(f"file:{tmp_path}/pipe", {})


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "a/b", "/etc/passwd", "a\0b", "a b"])
def test_a_credentials_name_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("x")
    inside = tmp_path / "credentials"
    inside.mkdir()
    with pytest.raises(ReferenceProblemError, match="a credential's name"):
        resolve_reference(f"credential:{name}", {"CREDENTIALS_DIRECTORY": str(inside)})


def test_without_systemd_a_credential_is_a_problem_that_says_so() -> None:
    with pytest.raises(ReferenceProblemError, match="CREDENTIALS_DIRECTORY is not set") as caught:
        resolve_reference("credential:dsn", {})
    assert "LoadCredential=dsn" in caught.value.hint
