"""The search servers of these tests: one OpenSearch and one Elasticsearch for all of their files."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.closing_lines import not_run
from tests.support.search_index import INDEX, Chats
from tests.support.search_server import NotToBeHadError, Product, SearchServer, servers_of_each_test

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session", params=servers_of_each_test())
def server(request: pytest.FixtureRequest) -> Iterator[SearchServer | str]:
    """The server of these tests, one product after the other; the URL where one is named, which nobody kills."""
    product: Product = request.param
    named = os.environ.get(f"RETENTIOND_TEST_{product.upper()}_URL")
    if named:
        yield named
        return
    # The server runs as another user where root runs the tests, and reads every directory on its way.
    directory = Path(tempfile.mkdtemp(prefix="retentiond-test-"))
    directory.chmod(0o755)
    try:
        started = SearchServer(directory, product)
    except NotToBeHadError as error:
        how = f"set RETENTIOND_TEST_{product.upper()}_URL to a server to test on"
        not_run(request.config, f"{product} ({error})", how)
        pytest.skip(f"{error}; {how}")
    started.start()
    try:
        yield started
    finally:
        started.kill()
        shutil.rmtree(directory)


@pytest.fixture
async def chats(server: SearchServer | str) -> AsyncIterator[Chats]:
    """Indices of chats on the server, which go with the test."""
    chats = Chats(server if isinstance(server, str) else server.url)
    yield chats
    await chats.remove(f"/{INDEX}*")
