"""Whether a purge waits for a replica, by what the server reports of all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from retentiond.model.replication import SLACK, Replica, Replication, find_delay

LIMIT = timedelta(seconds=10)
STREAMING = Replica("berlin", "standby", connection_to=True, state="streaming", bytes_behind=0)
GONE = Replica("paris", "standby", connection_to=False, slot="paris", bytes_behind=2 * SLACK)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_without_replicas_a_purge_waits_for_none() -> None:
    assert find_delay(Replication(), LIMIT) is None


@pytest.mark.parametrize(
    ("replica", "waits"),
    [
        (replace(STREAMING, lag=seconds(10), bytes_behind=9), False),
        (replace(STREAMING, lag=seconds(10.1), bytes_behind=9), True),
        # A server goes on reporting the last lag of a replica that has caught up.
        (replace(STREAMING, lag=seconds(60), bytes_behind=0), False),
        # Paused since before its connection began: a lag is never measured.
        (replace(STREAMING, lag=None, bytes_behind=SLACK + 1), True),
        # At rest a replica may end a page sooner than the server.
        (replace(STREAMING, lag=None, bytes_behind=SLACK), False),
        # While it catches up, its lag counts from when the WAL was sent.
        (replace(STREAMING, state="catchup", lag=seconds(0.1), bytes_behind=2 * SLACK), True),
        (replace(STREAMING, state="startup", bytes_behind=None), False),
        (replace(STREAMING, wal_status="unreserved", lag=seconds(1), bytes_behind=SLACK), True),
        (GONE, True),
        (replace(GONE, bytes_behind=SLACK), False),
        (replace(GONE, bytes_behind=SLACK, wal_status="unreserved"), True),
        (replace(GONE, kind="subscriber"), True),
    ],
)
def test_a_purge_waits_for_a_replica_that_is_behind_gone_or_of_an_unknown_lag(
    replica: Replica, waits: bool
) -> None:
    assert (find_delay(Replication([replica]), LIMIT) is not None) is waits


def test_of_several_replicas_one_without_a_known_lag_is_the_worst_and_then_the_longest_lag() -> None:
    near, far = (replace(STREAMING, name=f"{lag} s", lag=seconds(lag), bytes_behind=9) for lag in (20, 30))
    for replicas, worst in (((near, far), far), ((far, near), far), ((far, GONE, near), GONE)):
        delay = find_delay(Replication(replicas), LIMIT)
        assert delay is not None
        assert delay.replica == worst.name


def test_a_slot_that_nothing_uses_is_named_with_the_way_on() -> None:
    told = str(find_delay(Replication([replace(GONE, gone_for=seconds(90))]), LIMIT))
    assert told == (
        "no standby has been connected to the replication slot paris for 90 s, and the server keeps 2.0 MiB of WAL for "
        "it; start that standby again; if it is gone for good, drop its slot: SELECT pg_drop_replication_slot('paris')"
    )


@pytest.mark.parametrize(
    ("names", "in_step", "waits"),
    [
        ("", 0, False),
        ("berlin", 0, True),
        ("berlin, paris", 1, False),
        ("*", 1, False),
        ("FIRST 2 (berlin, paris, rome)", 1, True),
        ("first 2(berlin, paris, rome)", 2, False),
        ("ANY 3 (*)", 2, True),
        ("2 (berlin, paris)", 1, True),
        ('"2 (x"', 1, False),
    ],
)
def test_commits_wait_while_fewer_synchronous_standbys_are_in_step_than_the_server_needs(
    names: str, in_step: int, waits: bool
) -> None:
    replication = Replication([STREAMING], synchronous=names, in_step=in_step)
    assert replication.commits_wait is waits
    delay = find_delay(replication, LIMIT)
    assert (delay is not None) is waits


def test_a_connection_without_a_visible_state_is_hidden_and_a_slot_without_a_connection_is_not() -> None:
    assert Replication([STREAMING, GONE, replace(STREAMING, name="rome", state=None)]).hidden == ["rome"]
