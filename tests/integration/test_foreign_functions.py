"""What other roles make in a schema that our role's search path names is never called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.foreign_functions import called, plant

if TYPE_CHECKING:
    import asyncpg

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]


async def test_no_foreign_function_is_called(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    assert await plant(connection) > 1000
    report = await retention.one_pass()
    assert report.error is None
    assert report.removed_items == 1
    assert await called(connection) == 0
