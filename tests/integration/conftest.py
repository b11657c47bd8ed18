"""Real servers that several files of tests ask for."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.clickhouse_server import ClickHouseServer
from tests.support.closing_lines import not_run

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOW = "set RETENTIOND_TEST_CLICKHOUSE_URL to a server to test on, or let pip fetch chdb-core"


@pytest.fixture(scope="module")
def clickhouse_server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[ClickHouseServer | None]:
    """The server of these tests; None where one is named, which nobody kills."""
    if os.environ.get("RETENTIOND_TEST_CLICKHOUSE_URL"):
        yield None
        return
    try:
        started = ClickHouseServer(tmp_path_factory.mktemp("clickhouse"))
    except (subprocess.CalledProcessError, OSError) as error:
        not_run(request.config, "ClickHouse", _HOW)
        pytest.skip(f"chdb-core cannot be fetched ({error}); {_HOW}")
    started.start()
    try:
        yield started
    finally:
        started.stop()
