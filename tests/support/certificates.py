"""Certificates that sign themselves, for servers of the tests."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from retentiond.config.http import Tls

if TYPE_CHECKING:
    from pathlib import Path


def make_certificate(directory: Path, name: str = "localhost") -> Tls:
    """Make a certificate of its own for this machine; skip the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl on this machine; Debian: apt install openssl")
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    request = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
    )
    names = f"subjectAltName=DNS:{name},IP:127.0.0.1"
    files = ["-addext", names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*request.split(), *files], check=True, capture_output=True)
    return Tls(certificate=certificate, key=key)
