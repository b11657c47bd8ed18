"""The bar of a stage says how many items, how many bytes, and how long it will take."""

from __future__ import annotations

import io

from rich.console import Console

from retentiond.terminal.progress import watched


def test_a_stage_shows_its_items_and_bytes_and_the_next_begins_anew() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with watched(console, bars=True) as progress:
        progress.stage("remove", 10)
        progress.advance(4, 3 << 20)
        progress.stage("look", 2)
        progress.advance(1)
    shown = out.getvalue()
    assert "remove" in shown or "look" in shown
    assert "1/2" in shown
    # Nothing is left of it.
    assert "\x1b[2K" in shown


def test_bytes_are_added_up_within_a_stage() -> None:
    out = io.StringIO()
    with watched(Console(file=out, force_terminal=True, width=100), bars=True) as progress:
        progress.stage("remove", 10)
        progress.advance(4, 2 << 20)
        progress.advance(4, 1 << 20)
    assert "3.0 MiB" in out.getvalue()


def test_without_a_terminal_there_is_no_bar() -> None:
    out = io.StringIO()
    with watched(Console(file=out), bars=False) as progress:
        progress.stage("remove", 10)
        progress.advance(4, 1)
    assert out.getvalue() == ""
