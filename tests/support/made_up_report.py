"""Reports of stores that do not exist: the same for each test and picture."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

from retentiond.config.schedule import Schedule
from retentiond.model.limits import Headroom
from retentiond.model.notices import Notice, Sent
from retentiond.model.records import Link
from retentiond.model.report import Backlog, QuarantineSummary, Tally, TargetStatus
from retentiond.model.statistics import AgeCurve, Freed, PassTotals, StoreStatistics
from retentiond.model.usage import Sample, UsageRow
from retentiond.report.target_report import TargetReport, TargetState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retentiond.model.usage import UsageBy

NOW: Final = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
HOSTILE: Final = (
    "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">\u202e{{7*7}}"
)
_GIB: Final = 2**30
_SERVERS: Final = (
    "matrix.org",
    "big.example",
    "cats.example",
    "uni.example",
    "tchncs.example",
    "here.example",
)
_TYPES: Final = ("video/mp4", "image/jpeg", "image/png", "application/octet-stream", "audio/ogg")
_ROOMS: Final = ("!news:matrix.org", "!cats:cats.example", "!office:here.example", "!q8Zf:uni.example")


def made_up_samples(days: int, *, gaps: Sequence[int] = ()) -> list[Sample]:
    """Return samples of a store that grows, with a sawtooth of weekly passes, and without the days `gaps` before the end."""
    chance = Random(days)
    samples = []
    for ago in range(days - 1, -1, -1):
        if ago in gaps:
            continue
        day = NOW.date() - timedelta(days=ago)
        stored = int((410 - 0.55 * ago + 6 * ((ago * 3) % 7) / 7 + chance.gauss(0, 0.8)) * _GIB)
        local = stored // 6
        taken = int((3 + chance.random() * 2) * _GIB)
        samples.append(
            Sample(
                day,
                datetime(day.year, day.month, day.day, 3, 40, tzinfo=UTC),
                Tally(stored // 900_000, stored),
                {
                    "local": Tally(stored // 4_000_000, local),
                    "remote": Tally(stored // 1_200_000, stored - local),
                },
                free_bytes=max(520 * _GIB - stored - ago * _GIB // 9, 0),
                database_bytes=(9 * _GIB) - ago * 2**23,
                taken=Tally(taken // 1_000_000, taken),
                purged=Tally(taken // 1_100_000, int(taken * 0.97)),
                restored=3 if ago % 29 == 0 else 0,
            )
        )
    return samples


def made_up_curve(policy: str, keep: int | None, seed: int, size: float) -> AgeCurve:
    """Return a policy with items of many ages."""
    chance = Random(seed)
    curve = AgeCurve(policy, keep)
    for age in range(0, 900, 3):
        items = int(chance.random() * 900 * size / (1 + age / 120))
        curve.add(age, items, items * int(chance.uniform(0.4, 1.6) * 2**20))
    return curve


def _rows(names: Sequence[str], most: int) -> list[UsageRow]:
    return [
        UsageRow(name, max(140_000 // (place + 1), 1), int(most * 0.62**place))
        for place, name in enumerate(names)
    ]


def media_report(
    name: str = "media",
    *,
    days: int = 90,
    gaps: Sequence[int] = (20, 21, 22, 23, 24),
    policies: Sequence[AgeCurve] | None = None,
    refused: dict[str, Any] | None = None,
    hostile: str = "",
) -> TargetReport:
    """Return the report of a busy media target; with `hostile` each name in it is that text."""
    samples = made_up_samples(days, gaps=gaps)
    if policies is None:
        policies = (
            made_up_curve("big-remote-video", 7, 1, 0.8),
            made_up_curve("remote", 30, 2, 4.0),
            made_up_curve("local", None, 3, 1.1),
        )
    stored = samples[-1].stored if samples else Tally(12, 1 << 20)
    state = "refused" if refused else "finished"
    last_pass = {
        "pass_id": 212,
        "state": state,
        "started_at": NOW - timedelta(hours=4, minutes=30),
        "finished_at": NOW - timedelta(hours=4, minutes=21),
        "removed": {"items": 4211, "bytes": 4 * _GIB},
        "kept": {"items": 1, "by_reason": {}},
        "refused": refused,
    }
    status = TargetStatus(
        name,
        "dendrite_media",
        ledger=True,
        last_pass=last_pass,
        last_audit={
            "finished_at": NOW - timedelta(days=2),
            "findings": {"orphan_blob": {"items": 0, "bytes": 0}},
        },
        quarantine=QuarantineSummary(
            4190, {"kept": Tally(4001, 4 * _GIB)}, NOW + timedelta(hours=19, minutes=39)
        ),
        holds=3,
        daemon="pid 812 on matrix.here.example",
        last_success=NOW - timedelta(hours=4, minutes=21),
        backlog=Backlog(NOW - timedelta(hours=4, minutes=21), 0, 0, None),
    )
    schedule = Schedule.model_validate({"cron": "30 3 * * *", "timezone": "UTC"})
    keys: dict[UsageBy, list[UsageRow]] = {
        "server": _rows([hostile] * 10 if hostile else [*_SERVERS, "(others)"], 150 * _GIB),
        "room": _rows([hostile] * 10 if hostile else [*_ROOMS, "(several rooms)", "(not known)"], 90 * _GIB),
        "user": _rows(
            [hostile] * 10 if hostile else ["(not known)", "@ann:here.example", "@bob:here.example"],
            200 * _GIB,
        ),
        "type": _rows([hostile] * 10 if hostile else _TYPES, 220 * _GIB),
        "age": _rows(
            ["up to a week", "up to a month", "up to three months", "up to a year", "older"], 180 * _GIB
        ),
        "file": [
            UsageRow(hostile or f"mxc://{server}/Zk{place}fGhQwErTyUiOp", 1, (900 - 77 * place) * 2**20)
            for place, server in enumerate(_SERVERS)
        ],
    }
    statistics = StoreStatistics(
        name,
        "dendrite_media",
        NOW,
        stored,
        curves=tuple(policies),
        freed=tuple(Freed(sample.day, sample.taken.items, sample.taken.bytes) for sample in samples[-60:]),
        kept={"not_due": 311_204, "no_policy": 8120, "profile_avatars": 4016, "room_state": 388, "hold": 12}
        | ({hostile: 1} if hostile else {}),
        findings={"missing_file": 0, "orphan_thumbnail_row": 0} | ({hostile: 1} if hostile else {}),
        totals=PassTotals(Tally(1_204_551, 3 * 2**40), Tally(1_180_014, 2900 * _GIB), 214),
        limits=(Headroom("max_share", 0.0131, 0.5), Headroom("max_items", 4211, 1_000_000)),
    )
    return TargetReport(
        TargetState(
            hostile or name, "dendrite_media", schedule, status, NOW + timedelta(hours=19, minutes=30)
        ),
        statistics,
        keys,
        samples,
        {
            "!news:matrix.org": "Matrix News",
            "!cats:cats.example": "Cats of the day",
            "!office:here.example": "Office",
        }
        | ({hostile: hostile} if hostile else {}),
        Link(8812, "5b1d" * 16),
        Sent(
            Notice("recovery", name, "", NOW), "webhook chat.here.example", NOW - timedelta(days=2, hours=4)
        ),
    )


def chats_report(name: str = "chats") -> TargetReport:
    """Return the report of a target without a quarantine, sizes, policies or a disk."""
    status = TargetStatus(
        name,
        "chat_database",
        ledger=True,
        last_pass={"state": "interrupted", "started_at": NOW - timedelta(days=8), "finished_at": None},
        daemon=None,
    )
    statistics = StoreStatistics(
        name,
        "chat_database",
        NOW,
        Tally(98_112, 0),
        freed=(Freed(date(2026, 11, 8), 1200, 0), Freed(date(2026, 11, 22), 1100, 0)),
        kept={"open": 41, "newer": 12},
        totals=PassTotals(Tally(40_112, 0), Tally(), 0),
    )
    schedule = Schedule.model_validate({"cron": "0 4 * * 0", "timezone": "UTC"})
    usage: dict[UsageBy, list[UsageRow]] = {
        "account": [UsageRow("shop", 90_000, 0), UsageRow("bank", 8112, 0)]
    }
    return TargetReport(TargetState(name, "chat_database", schedule, status, NOW), statistics, usage)


def lost_report(
    name: str = "lost", error: str = "the database cannot be reached; check <that>"
) -> TargetReport:
    """Return the report of a target that cannot be reached."""
    return TargetReport(TargetState(name, "dendrite_media", None, error=error))


def empty_report(name: str = "new") -> TargetReport:
    """Return the report of a target that has neither data nor a pass."""
    status = TargetStatus(name, "dendrite_media", ledger=False)
    return TargetReport(
        TargetState(name, "dendrite_media", None, status),
        StoreStatistics(name, "dendrite_media", NOW, Tally(), curves=(AgeCurve("remote", 30),)),
    )
