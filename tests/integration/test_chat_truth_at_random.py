"""Chats of a made-up product at random, with the truth of each beside: exactly what is due goes, and is counted."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.config.chats import ChatTarget
from retentiond.engine.target import Erasure, PassOptions, PurgeRequest
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database import orphan_batch, orphan_removal
from retentiond.targets.chat_database.target import ChatDatabase, open_chat_database
from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.chat_truth import Truth

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from retentiond.model.purge import PurgeReport

_SEEDS = 40 if NIGHTLY else 4


def went(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Count the rows that went, by table."""
    return {table: before[table].total() - after[table].total() for table in before}


def counted(report: PurgeReport) -> dict[str, int]:
    """Return what a report, or a plan, says of it."""
    told = Counter(report.entities)
    told.update(report.orphans.removed)
    if report.dry_run and report.orphans.requested and report.orphans.found and not report.orphans.refused:
        told.update(report.orphans.found.due)
    if report.refused is not None:
        told.clear()
    return dict(told)


async def put_on_holds(target: ChatDatabase, truth: Truth) -> None:
    """Put the holds on."""
    for hold in truth.holds:
        narrowing = Narrowing(chat=hold.chat, visitor=hold.visitor, begin=hold.begin, before=hold.end)
        await target.holds.add(HoldRequest(HoldSubject("account", hold.account, narrowing)))


@pytest.mark.parametrize("number", range(_SEEDS))
async def test_purges_orphans_and_erasures_take_exactly_what_is_due_from_any_tables(
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
) -> None:
    chance = Random(f"{SEED} {number}")
    truth = Truth(chance, datetime.now(UTC))
    truth.fill()
    await truth.write(connection)
    config = ChatTarget.model_validate(
        {
            "kind": "chat_database",
            "database": database,
            "layout": truth.layout(tmp_path / "layout.yaml"),
            "accounts": truth.accounts(),
            "timezone": truth.zone.key,
            "pace": {"batch": chance.choice([1, 2, 7, 1000])},
            "create_index": True,
        }
    )
    most = chance.choice([1, 3, 10_000])
    for module in (orphan_batch, orphan_removal):
        monkeypatch.setattr(module, "MOST_ROWS", most)
    said = f"{AGAIN}; number {number}"
    recorded: Counter[str] = Counter()
    async with open_chat_database("chats", config) as target:
        await put_on_holds(target, truth)
        for _ in range(chance.randint(1, 4)):
            before = await truth.read(connection)
            account = chance.choice(list(truth.accounts()))
            if chance.random() < 0.5:
                files, orphans = chance.random() < 0.5, chance.random() < 0.7
                request = PurgeRequest(account, truth.to_date, file_messages=files, orphans=orphans)
                what = f"{said}; {request}"
                planned = await target.purge_chats(request, PassOptions("purge-chats"), dry_run=True)
                report = await target.purge_chats(request, PassOptions("purge-chats"), dry_run=False)
                truth.purge(account, files=files, orphans=orphans)
            else:
                visitor, even = truth.visitor(chance.choice([1, 2, 3])), chance.random() < 0.4
                erasure = Erasure(account, visitor, even, "asked for" if even else "")
                what = f"{said}; {erasure}"
                planned = await target.erase(erasure, PassOptions("purge-chats"), dry_run=True)
                report = await target.erase(erasure, PassOptions("purge-chats"), dry_run=False)
                refused = truth.erase(account, visitor, even_under_floor=even)
                assert (report.refused and report.refused.limit) == refused, what
            after = await truth.read(connection)
            assert not report.failed, what
            assert {t: after[t] - truth.expected()[t] for t in after} == {t: Counter() for t in after}, what
            assert {t: truth.expected()[t] - after[t] for t in after} == {t: Counter() for t in after}, what
            gone = went(before, after)
            recorded.update(gone)
            assert {t: counted(report).get(t, 0) for t in gone} == gone, what
            assert {t: counted(planned).get(t, 0) for t in gone} == gone, what
        assert (await target.verify_records()).broken is None
        bodies = [one["body"] async for one in target.records() if one["kind"] == "purged"]
    on_record: Counter[str] = Counter()
    for body in bodies:
        on_record.update(body["rows"])
    assert +on_record == +recorded, said
