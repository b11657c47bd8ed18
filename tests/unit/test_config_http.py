"""The section `http`: what it refuses, and what it warns of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from retentiond.config.load import load_with_places
from retentiond.config.problems import ConfigError
from retentiond.config.warnings import certificate_problems, http_warnings
from tests.support.certificates import make_certificate
from tests.support.running_daemon import media

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.config.document import Document
    from retentiond.config.schema import Config

_TOKEN = "0123456789abcdef"


def _load(directory: Path, http: Any, **sections: Any) -> tuple[Config, Document]:
    path = directory / "config.yaml"
    document = {"targets": {"media": media()}, "http": http} | sections
    path.write_text(yaml.safe_dump(document, sort_keys=False, default_flow_style=None))
    return load_with_places(path, {})


def _problems(directory: Path, http: Any, **sections: Any) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        _load(directory, http, **sections)
    assert all(problem.line and problem.column for problem in raised.value.problems)
    return [f"{problem.key}: {problem.message}" for problem in raised.value.problems]


def test_an_empty_section_listens_on_the_loopback(tmp_path: Path) -> None:
    http = _load(tmp_path, {})[0].http
    assert http is not None
    assert (http.listen, http.socket, http.token) == ((("127.0.0.1", 19187),), None, None)
    assert http.refresh.total_seconds() == 900


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "[2001:db8::1]:80"])
def test_an_address_that_a_network_reaches_needs_a_token(tmp_path: Path, address: str) -> None:
    # TLS keeps the pages from listeners, and from no reader.
    tls = {"certificate": "/a", "key": "/b"}
    for section in ({"listen": address}, {"listen": address, "tls": tls}):
        (problem,) = _problems(tmp_path, section)
        assert "not on the loopback and needs a `token`" in problem
    assert _load(tmp_path, {"listen": address, "token": _TOKEN})


@pytest.mark.parametrize("address", ["127.0.0.1:80", "127.3.2.1:80", "[::1]:80"])
def test_an_address_of_the_loopback_needs_none(tmp_path: Path, address: str) -> None:
    assert _load(tmp_path, {"listen": address})


@pytest.mark.parametrize(
    ("metrics", "http", "key"),
    [
        ("127.0.0.1:19187", {}, "http"),
        ("127.0.0.1:80", {"listen": ["127.0.0.1:81", "127.0.0.1:80"]}, "http.listen[1]"),
        ("0.0.0.0:80", {"listen": "127.0.0.1:80"}, "http.listen"),
    ],
)
def test_two_servers_at_one_address_are_refused(
    tmp_path: Path, metrics: str, http: dict[str, Any], key: str
) -> None:
    (problem,) = _problems(tmp_path, http, metrics={"listen": metrics})
    assert problem.startswith(f"{key}: listens at the address of `metrics.listen`")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"listen": []}, "has no address"),
        ({"listen": ["127.0.0.1:80", "127.0.0.1:80"]}, "is named before"),
        ({"listen": "localhost:80"}, "not an address to listen at"),
        ({"token": "short"}, "must have at least 16 characters"),
        ({"token": "two words and more"}, "one line of ASCII text without spaces"),
        ({"hosts": ["https://media.example.org"]}, "not a host's name"),
        ({"hosts": ["media.example.org:80"]}, "not a host's name"),
        ({"refresh": "10s"}, "must be at least 1m"),
        ({"socket": "http.sock"}, "must be an absolute path"),
        ({"socket": "/run/" + "x" * 120}, "too long for a socket"),
    ],
)
def test_each_value_that_cannot_be_is_refused_with_its_place(
    tmp_path: Path, section: dict[str, Any], said: str
) -> None:
    (problem,) = _problems(tmp_path, section)
    assert said in problem


def test_a_token_in_clear_text_over_the_network_is_warned_of(tmp_path: Path) -> None:
    config, document = _load(tmp_path, {"listen": ["127.0.0.1:80", "192.0.2.1:80"], "token": _TOKEN})
    (found,) = http_warnings(document, config)
    assert (found.level, found.key) == ("warning", "http.listen")
    assert "192.0.2.1:80" in found.message
    config, document = _load(tmp_path, {"token": _TOKEN})
    assert not list(http_warnings(document, config))


def test_a_certificate_that_cannot_be_used_is_a_problem_and_a_key_that_others_read_a_warning(
    tmp_path: Path,
) -> None:
    tls = make_certificate(tmp_path)
    section = {"tls": {"certificate": str(tls.certificate), "key": str(tls.key)}}
    tls.key.chmod(0o644)
    config, document = _load(tmp_path, section)
    assert not list(certificate_problems(document, config))
    assert [w.message for w in http_warnings(document, config)] == [
        "is a private key, and every user can read it"
    ]
    tls.key.chmod(0o600)
    tls.certificate.unlink()
    (problem,) = certificate_problems(document, config)
    assert (problem.key, problem.level) == ("http.tls.certificate", "error")
    assert "No such file" in problem.message
    assert not list(http_warnings(document, config))
