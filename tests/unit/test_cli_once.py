"""What `once` orders, what it tells of its pass, and how a signal ends it."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from typing import TYPE_CHECKING

import pytest

from retentiond.model.errors import Refusal, UnreachableError
from retentiond.model.report import QuarantineSummary, Tally, TargetStatus
from tests.support.command_line import CommandLine, Terminal, log_entries
from tests.support.fake_target import STARTED, FakeTarget, make_report

if TYPE_CHECKING:
    from pathlib import Path

    from retentiond.engine.target import PassOptions


async def interrupt(order: PassOptions | None) -> None:
    """Press Ctrl-C, and wait until that is heard."""
    signal.raise_signal(signal.SIGINT)
    while order is None or not order.stop.asked:
        await asyncio.sleep(0)


async def interrupt_twice(order: PassOptions | None) -> None:
    await interrupt(order)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.Event().wait()


def test_a_pass_waits_ten_seconds_for_another_and_keeps_the_limits(tmp_path: Path) -> None:
    target = FakeTarget()
    assert CommandLine(tmp_path, (target,)).type("once").status == 0
    (order,) = target.orders
    assert (order.command, order.over_limits, order.patience) == ("once", False, 10.0)


@pytest.mark.parametrize("command", ["once", "delete --media mxc://there.test/a --yes"])
def test_wait_sets_how_long_a_command_waits_for_another(tmp_path: Path, command: str) -> None:
    report = make_report()
    target = FakeTarget(report=report)
    CommandLine(tmp_path, (target,)).type(*command.split(), "--wait", "1h")
    assert [order.patience for order in target.orders] == [3600.0]


def test_a_wait_without_a_unit_is_wrong_usage(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("once", "--wait", "30")
    assert outcome.status == 2
    assert "30d, 30h or 30m" in outcome.stderr


def test_yes_goes_over_the_limits(tmp_path: Path) -> None:
    target = FakeTarget()
    CommandLine(tmp_path, (target,)).type("once", "--yes")
    assert target.orders[0].over_limits


def test_json_is_one_document_and_nothing_else_is_said(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("once", "--json")
    assert outcome.document == {"passes": [make_report().as_json()]}
    assert outcome.stderr == ""


def test_the_account_tells_the_command_that_brings_everything_back(tmp_path: Path) -> None:
    told = CommandLine(tmp_path).type("once").stdout
    assert "For 24 hours one command restores all of it:" in told
    assert "`retentiond quarantine restore media --pass 7`" in told


def test_the_account_tells_what_is_left_in_quarantine(tmp_path: Path) -> None:
    left = QuarantineSummary(3, {"quarantined": Tally(2, 2048)}, STARTED)
    target = FakeTarget(standing=TargetStatus("media", "dendrite_media", ledger=True, quarantine=left))
    told = CommandLine(tmp_path, (target,)).type("once").stdout
    assert "3 items can be restored; quarantined: 2 files, 2.0 KiB" in told


def test_without_a_configuration_the_account_tells_that_restoring_needs_one(tmp_path: Path) -> None:
    told = CommandLine(tmp_path).type("once", "--dendrite-config", "/etc/dendrite.yaml").stdout
    assert "retentiond --config FILE quarantine restore --pass 7" in told


def test_items_that_failed_make_the_exit_status_1_and_are_counted(tmp_path: Path) -> None:
    report = make_report(state="finished_with_failures")
    report.failed.update(not_moved=2)
    outcome = CommandLine(tmp_path, (FakeTarget(report=report),)).type("once")
    assert outcome.status == 1
    assert "not_moved" in outcome.stdout


def test_a_refused_pass_exits_3_and_shows_the_hint(tmp_path: Path) -> None:
    report = make_report(state="refused")
    report.refused = Refusal("max_items", 2_000_000, 1_000_000, "then `retentiond once media --yes`")
    outcome = CommandLine(tmp_path, (FakeTarget(report=report),)).type("once")
    assert outcome.status == 3
    assert "max_items: 2,000,000 (allowed: 1,000,000)" in outcome.stdout
    assert "then `retentiond once media --yes`" in outcome.stdout


@pytest.mark.parametrize("words", [("once",), ("once", "--json"), ("plan",)])
def test_without_a_configuration_a_limit_is_gone_over_by_a_command_that_needs_none(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    report = make_report(state="refused", dry_run=words == ("plan",))
    report.refused = Refusal("max_share", 0.9, 0.5, "then `retentiond once media --yes`")
    told = CommandLine(tmp_path, (FakeTarget(report=report),)).type(
        *words, "--dendrite-config", "/etc/dendrite.yaml", "--days", "9", "--local"
    )
    next_step = "`retentiond once --dendrite-config /etc/dendrite.yaml --days 9 --local --yes`"
    assert next_step in told.stdout + told.stderr


def test_quiet_tells_a_refusal_and_no_more(tmp_path: Path) -> None:
    report = make_report(state="refused")
    report.refused = Refusal("max_share", 0.9, 0.5, "look at the plan")
    outcome = CommandLine(tmp_path, (FakeTarget(report=report),)).type("-q", "once")
    assert (outcome.status, outcome.stdout) == (3, "")
    assert outcome.stderr == (
        "retentiond: media: refused by max_share: 0.9 (allowed: 0.5); look at the plan\n"
    )


def test_quiet_tells_nothing_of_a_pass_that_went_well(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("-q", "once")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")


def test_an_interrupted_pass_exits_4_and_tells_why(tmp_path: Path) -> None:
    report = make_report(state="interrupted")
    report.error = "the database went away"
    outcome = CommandLine(tmp_path, (FakeTarget(report=report),)).type("once")
    assert outcome.status == 4
    assert "Reason: the database went away" in outcome.stdout
    assert "Run again to continue." in outcome.stdout


def test_an_interrupted_pass_says_what_it_did_not_reach_and_how_to_continue(tmp_path: Path) -> None:
    report = make_report(state="interrupted")
    report.await_turn(1200, 3 << 20)
    told = CommandLine(tmp_path, (FakeTarget(report=report),)).type("once")
    words = "ot reached: 1,200 items, 3.0 MiB; run again to continue"
    assert f"N{words}." in told.stdout
    quiet = CommandLine(tmp_path, (FakeTarget(report=report),)).type("-q", "once", "--json")
    assert quiet.document["passes"][0]["not_reached"] == {"items": 1200, "bytes": 3 << 20}
    assert f"n{words}" in quiet.stderr


def test_a_database_lost_on_the_way_exits_4(tmp_path: Path) -> None:
    async def lose(_order: PassOptions | None) -> None:
        raise UnreachableError("the database was lost on the way; run it again")

    outcome = CommandLine(tmp_path, (FakeTarget(during=lose),)).type("once", "--json")
    assert outcome.status == 4
    assert outcome.document == {"passes": []}


def test_the_first_signal_ends_the_pass_at_its_batchs_end_and_tries_no_other_target(tmp_path: Path) -> None:
    second = FakeTarget("pictures")
    line = CommandLine(tmp_path, (FakeTarget("media", during=interrupt), second))
    outcome = line.type("once", "--json")
    assert outcome.status == 4
    assert [one["state"] for one in outcome.document["passes"]] == ["interrupted"]
    assert "stopping at the end of this batch" in outcome.stderr
    assert "retentiond: pictures: not reached" in outcome.stderr
    assert second.asked == []


def test_the_second_signal_ends_it_at_once_and_the_target_is_closed(tmp_path: Path) -> None:
    line = CommandLine(tmp_path, (FakeTarget(during=interrupt_twice),))
    outcome = line.type("once")
    assert outcome.status == 4
    assert "retentiond: stopped by Ctrl-C or a signal" in outcome.stderr
    assert line.factory.closed == ["media"]


def test_a_signal_ends_a_plan_at_once(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path, (FakeTarget(during=interrupt),)).type("plan", "--json")
    assert outcome.status == 4
    assert outcome.document == {"passes": []}
    assert "retentiond: stopped by Ctrl-C or a signal" in outcome.stderr


def test_signals_are_as_they_were_when_the_command_is_over(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    CommandLine(tmp_path, (FakeTarget(during=interrupt),)).type("once")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_reader_that_has_gone_keeps_no_target_from_its_pass(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    first = FakeTarget("media", report=make_report(state="finished_with_failures"))
    second = FakeTarget("pictures")
    # Unbuffered, so that the first account already finds nobody.
    with os.fdopen(writing, "wb", buffering=0) as raw:
        stdout = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
        outcome = CommandLine(tmp_path, (first, second)).type("once", stdout=stdout)
    assert (outcome.status, outcome.stderr) == (1, "")
    assert len(second.orders) == 1


def test_logs_go_to_standard_error_as_the_configuration_says(tmp_path: Path) -> None:
    from retentiond.adapters.logging import get_logger  # noqa: PLC0415 - beside its use

    async def log(_order: PassOptions | None) -> None:
        get_logger().info("pass_started")
        get_logger().warning("inconsistency")

    line = CommandLine(tmp_path, (FakeTarget(during=log),), tail="logging: {level: warning}\n")
    outcome = line.type("once", "--json")
    assert [entry["event"] for entry in log_entries(outcome.stderr)] == ["inconsistency"]
    loud = line.type("--debug", "once", "--json")
    assert [entry["event"] for entry in log_entries(loud.stderr)] == ["pass_started", "inconsistency"]
    assert log_entries(line.type("--quiet", "once", "--json").stderr) == []


def test_errors_on_a_terminal_are_counted_also_with_quiet_and_warnings_are_not(tmp_path: Path) -> None:
    from retentiond.adapters.logging import get_logger  # noqa: PLC0415 - beside its use

    async def log(_order: PassOptions | None) -> None:
        for number in range(3):
            get_logger(target="media").warning("inconsistency", kind="missing_file", media=str(number))
        get_logger(target="media").error("item_failed", kind="not_moved", hash="abc", error="[red]no[/red]")

    line = CommandLine(tmp_path, (FakeTarget(during=log),))
    counted = "1 error: not_moved 1; `retentiond -v COMMAND` lists each"
    loud = Terminal()
    line.type("once", stderr=loud)
    assert "3 warnings: missing_file 3; `retentiond -v COMMAND` lists each" in loud.getvalue()
    assert counted in loud.getvalue()
    assert "item_failed" not in loud.getvalue()
    # Without a terminal the lines are the only place that names them.
    cron = line.type("-q", "once").stderr
    assert cron == "retentiond: media: error: item_failed, kind not_moved, hash abc, error [red]no[/red]\n"
    quiet = Terminal()
    line.type("-q", "once", stderr=quiet)
    assert quiet.getvalue() == f"retentiond: {counted}\n"
