"""The proof of disposal: what is recorded, that it cannot be altered unseen, and how it is pruned."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from retentiond.engine.target import PassOptions, Selection
from retentiond.targets.dendrite_media.quarantine import release

if TYPE_CHECKING:
    from tests.support.media_target import Retention
    from tests.support.store import DendriteStore

    Connection = asyncpg.Connection[asyncpg.Record]

AT_ONCE = {"grace": "0s", "settle": "0s"}


async def records(retention: Retention) -> list[dict[str, Any]]:
    async with retention.opened() as target:
        return [record async for record in target.records()]


async def broken(retention: Retention) -> str:
    async with retention.opened() as target:
        return str((await target.verify_records()).broken)


async def unguarded(connection: Connection, statement: str) -> None:
    await connection.execute("ALTER TABLE retentiond.record DISABLE TRIGGER only_added_to")
    await connection.execute(statement)
    await connection.execute("ALTER TABLE retentiond.record ENABLE TRIGGER only_added_to")


async def test_a_pass_a_purge_and_their_items_are_recorded(
    retention: Retention, store: DendriteStore
) -> None:
    media = await store.add(upload_name="secret name.png", user_id="")
    async with retention.opened(**AT_ONCE) as target:
        await target.run_pass(PassOptions("once"))
    found = await records(retention)
    assert [record["kind"] for record in found] == ["pass_began", "released", "pass_ended", "purged"]
    began, released, ended, purged = (record["body"] for record in found)
    assert began["command"] == "once"
    assert len(began["policy_version"]) == 64
    assert set(began["cutoffs"]) == {"remote"}
    assert released["columns"] == ["media", "hash", "bytes", "policy"]
    assert released["items"] == [[media.uri, media.base64hash, len(media.content), "remote"]]
    assert ended["removed"]["items"] == 1
    assert purged["items"] == [[media.base64hash, len(media.content), 1]]
    assert "secret" not in str(found)
    assert await broken(retention) == "None"


async def test_a_refusal_is_recorded(retention: Retention, store: DendriteStore) -> None:
    await store.add()
    await retention.one_pass(limits={"max_share": 0.5})
    (record,) = await records(retention)
    assert (record["kind"], record["body"]["limit"]) == ("pass_refused", "max_share")


async def test_a_restore_is_recorded_with_who_and_why(retention: Retention, store: DendriteStore) -> None:
    media = await store.add()
    await retention.one_pass()
    async with retention.opened() as target:
        await target.restore(Selection(pass_id=1, reason="asked for by Ann"))
    record = (await records(retention))[-1]
    ((uri, pass_id, by, reason),) = record["body"]["items"]
    assert (record["kind"], uri, pass_id, reason) == ("restored", media.uri, 1, "asked for by Ann")
    assert "@" in by


async def test_a_content_that_was_restored_is_not_recorded_as_purged_when_its_copy_goes(
    retention: Retention, store: DendriteStore
) -> None:
    back = await store.add()
    gone = await store.add(content=b"")
    async with retention.opened(settle="0s") as target:
        await target.run_pass(PassOptions("run"))
        await target.restore(Selection(media=back.uri))
        swept = await target.end_grace()
    assert (swept.purged, swept.purged_bytes) == (2, 0)
    purged = [record["body"]["items"] for record in await records(retention) if record["kind"] == "purged"]
    assert purged == [[[gone.base64hash, 0, 1]]]


async def test_who_purges_by_hand_is_recorded(retention: Retention, store: DendriteStore) -> None:
    await store.add()
    await retention.one_pass(settle="0s")
    async with retention.opened(settle="0s") as target:
        await target.end_grace()
    ended, purged = (await records(retention))[-2:]
    assert (ended["kind"], purged["kind"]) == ("grace_ended", "purged")
    assert "@" in ended["body"]["by"]


async def test_rows_whose_record_cannot_be_written_stay(
    retention: Retention, store: DendriteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.add()

    async def fail(*_: object) -> None:
        raise asyncpg.DiskFullError("no space left")

    monkeypatch.setattr(release, "add_record", fail)
    report = await retention.one_pass()
    assert report.state == "interrupted"
    assert len(await store.rows()) == 1
    assert await store.broken_references() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE retentiond.record SET content = '{}' WHERE number = 1",
        "DELETE FROM retentiond.record",
        "TRUNCATE retentiond.record",
    ],
)
async def test_the_database_refuses_to_change_or_delete_a_record(
    retention: Retention, store: DendriteStore, connection: Connection, statement: str
) -> None:
    await store.add()
    await retention.one_pass()
    with pytest.raises(asyncpg.RaiseError, match="only ever added to"):
        await connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "UPDATE retentiond.record SET content = replace(content, 'there.test', 'other.test') WHERE number = 2",
            "record 2: its content is not what its hash was taken of",
        ),
        (
            "DELETE FROM retentiond.record WHERE number = 2",
            "record 2: it is missing; record 3 stands in its place",
        ),
        ("DELETE FROM retentiond.record WHERE number = 3", "record 3: it is missing, and all up to record 3"),
        (
            "DELETE FROM retentiond.record WHERE number = 1",
            "record 1: it is missing; record 2 stands in its place",
        ),
        (
            """WITH gone AS (DELETE FROM retentiond.record WHERE number = 1 RETURNING hash)
            UPDATE retentiond.record_chain SET pruned = 1, pruned_hash = (SELECT hash FROM gone)""",
            "record 1: it and all before it are gone, and no record says that they were pruned",
        ),
        ("UPDATE retentiond.record SET content = 'no json' WHERE number = 1", "record 1: it bears no number"),
    ],
)
async def test_verify_names_the_first_record_that_somebody_meddled_with(
    retention: Retention, store: DendriteStore, connection: Connection, statement: str, named: str
) -> None:
    await store.add()
    await retention.one_pass()
    await unguarded(connection, statement)
    assert await broken(retention) == named


async def age(connection: Connection, through: int) -> None:
    """Make records old; the chain does not rest on this column."""
    await unguarded(
        connection, f"UPDATE retentiond.record SET at = at - interval '4 years' WHERE number <= {through}"
    )


async def test_records_older_than_their_time_are_pruned_and_the_rest_still_holds(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass()
    await age(connection, through=2)
    async with retention.opened() as target:
        await target.run_pass(PassOptions(command="run", keep_records=timedelta(days=3 * 365)))
    found = await records(retention)
    assert [record["number"] for record in found] == [3, 4, 5, 6]
    assert found[-1]["kind"] == "records_pruned"
    assert found[-1]["body"]["through"] == 2
    assert await broken(retention) == "None"
    # It is told once, and not with every pass from then on.
    async with retention.opened() as target:
        await target.run_pass(PassOptions(command="run", keep_records=timedelta(days=3 * 365)))
    assert [record["kind"] for record in await records(retention)].count("records_pruned") == 1


async def test_a_pass_that_was_refused_prunes_nothing(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass()
    await age(connection, through=3)
    # By a clock that is wrong, every record is old.
    await connection.execute(
        "UPDATE retentiond.store SET last_pass_at = clock_timestamp() + interval '1 day'"
    )
    async with retention.opened() as target:
        report = await target.run_pass(PassOptions(command="run", keep_records=timedelta(days=365)))
    assert report.refused is not None
    assert (await records(retention))[0]["number"] == 1


async def test_a_pass_that_died_is_closed_in_the_records_by_the_next(
    retention: Retention, store: DendriteStore, connection: Connection
) -> None:
    await store.add()
    await retention.one_pass()
    await connection.execute("UPDATE retentiond.pass SET state = 'running'")
    await retention.one_pass()
    ended = [
        (record["pass_id"], record["body"]["state"])
        for record in await records(retention)
        if record["kind"] == "pass_ended"
    ]
    assert ended == [(1, "finished"), (1, "interrupted"), (2, "finished")]
