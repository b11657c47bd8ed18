"""A table that somebody keeps locked holds nobody up for ever, and nothing is taken that it might keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import pytest

from retentiond.adapters import postgres
from retentiond.engine.target import PassOptions
from retentiond.model.holds import HoldRequest, HoldSubject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore


@pytest.fixture(autouse=True)
def _short_patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(postgres._SETTINGS, "lock_timeout", "100ms")
        yield


@pytest.mark.parametrize(
    ("table", "protect", "limit"),
    [
        ("userapi_account_datas", ["account_data"], "protection_unreadable"),
        ("syncapi_output_room_events", [], "hold_unreadable"),
    ],
)
async def test_a_source_that_somebody_keeps_locked_refuses_the_pass_and_blames_no_right(
    store: DendriteStore, retention: Retention, database: str, table: str, protect: list[str], limit: str
) -> None:
    await store.add()
    other = await asyncpg.connect(database)
    try:
        async with retention.opened(protect=protect) as target:
            await target.holds.add(HoldRequest(HoldSubject.read("room", "!held:there.test")))
            async with other.transaction():
                await other.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                report = await target.run_pass(PassOptions(command="run"))
    finally:
        await other.close()
    assert report.refused is not None
    assert report.refused.limit == limit
    assert "try again" in report.refused.hint
    assert "GRANT" not in report.refused.hint
    assert len(await store.rows()) == 1
