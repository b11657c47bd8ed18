"""Replication as a primary server reports it, and the judgement whether a purge has to wait for a replica."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

ReplicaKind = Literal["standby", "subscriber"]
"""A standby reads the WAL as it is, and so does an archive of it; a subscriber reads decoded changes."""

SLACK: Final = 2**20
"""Bytes of WAL by which a replica without a known lag may be behind: the last record may end on a page that is not full."""
_CATCHING_UP: Final = frozenset({"startup", "catchup"})
_NUMBER_NEEDED: Final = re.compile(r"\s*(?:(?:first|any)\s+)?([0-9]{1,6})\s*\(", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Replica:
    """One standby or subscriber; `name` is its application name or its slot, and `lag` is None where it is unknown.

    `state` is None for a slot without a connection, and for a connection that this role may not look into.
    """

    name: str
    kind: ReplicaKind
    connection_to: bool
    slot: str | None = None
    state: str | None = None
    lag: timedelta | None = None
    bytes_behind: int | None = None
    wal_status: str | None = None
    gone_for: timedelta | None = None
    """For how long no standby or subscriber has used the slot; servers before 17 do not know."""


@dataclass(frozen=True, slots=True)
class Replication:
    """All replicas of a server, and the synchronous ones for which commits of this role wait.

    `synchronous` is the value of synchronous_standby_names, empty where commits wait for no standby; `in_step` is how
    many standbys of it stream now. `role` is the role that asked, as SQL writes it.
    """

    replicas: Sequence[Replica] = ()
    synchronous: str = ""
    in_step: int = 0
    role: str = ""

    @property
    def hidden(self) -> list[str]:
        """The connected replicas that this role may not look into."""
        return [one.name for one in self.replicas if one.connection_to and one.state is None]

    @property
    def commits_wait(self) -> bool:
        """Whether a commit would wait now, without an end, for a synchronous standby that is not there."""
        return bool(self.synchronous) and self.in_step < _needed(self.synchronous)


@dataclass(frozen=True, slots=True)
class Delay:
    """A replica that a purge waits for, its problem in words, and the next step."""

    replica: str
    reason: str
    next_step: str
    lag: timedelta | None = None
    bytes_behind: int | None = None

    def __str__(self) -> str:
        return f"{self.reason}; {self.next_step}"


def _needed(synchronous: str) -> int:
    number = _NUMBER_NEEDED.match(synchronous)
    return int(number[1]) if number else 1


def find_delay(replication: Replication, limit: timedelta) -> Delay | None:
    """Return the replica that is furthest behind, if a purge has to wait for it."""
    if replication.commits_wait:
        return missing_standby(replication)
    delays = [delay for one in replication.replicas if (delay := _delay_of(one, limit)) is not None]
    return max(delays, key=_rank, default=None)


def missing_standby(replication: Replication) -> Delay:
    """Return the message for commits that would wait for a synchronous standby."""
    names = printable(replication.synchronous)
    return Delay(
        names,
        f"{replication.in_step} of {_needed(replication.synchronous)} synchronous standbys are connected "
        f"(synchronous_standby_names = '{names}'), and every commit waits for them",
        "start the standby again, or take it out of synchronous_standby_names; look at pg_stat_replication",
    )


def _rank(delay: Delay) -> tuple[bool, timedelta, int]:
    # A lag that is not known may be any.
    return delay.lag is None, delay.lag or timedelta(0), delay.bytes_behind or 0


def _delay_of(replica: Replica, limit: timedelta) -> Delay | None:
    behind = replica.bytes_behind
    far = behind is not None and behind > SLACK
    if not replica.connection_to and (far or replica.wal_status == "unreserved"):
        return _gone(replica)
    if not replica.connection_to:
        return None
    subject = f"the {replica.kind} {printable(replica.name)}"
    # PostgreSQL still reports the last lag when the replica has caught up.
    if replica.lag is not None and replica.lag > limit and behind != 0:
        # Whole seconds would say "10 s behind" of a limit of 10 s.
        reason = (
            f"{subject} is {replica.lag.total_seconds():.1f} s behind, more than {limit.total_seconds():g} s"
        )
    elif replica.wal_status == "unreserved":
        reason = f"{subject} is about to lose the WAL that it still needs (max_slot_wal_keep_size)"
    elif far and (replica.state in _CATCHING_UP or replica.lag is None):
        reason = f"{subject} is {_size(behind)} of WAL behind, and no time of it is known (state {printable(replica.state or '')})"
    else:
        return None
    return Delay(
        replica.name,
        reason,
        "look at pg_stat_replication there for its state, and at the log of the replica",
        replica.lag,
        behind,
    )


def _gone(replica: Replica) -> Delay:
    slot = printable(replica.slot or replica.name)
    since = f" for {replica.gone_for.total_seconds():.0f} s" if replica.gone_for is not None else ""
    lost = ", which is about to be removed" if replica.wal_status == "unreserved" else ""
    return Delay(
        replica.name,
        f"no {replica.kind} has been connected to the replication slot {slot}{since}, and the server keeps "
        f"{_size(replica.bytes_behind)} of WAL for it{lost}",
        f"start that {replica.kind} again; if it is gone for good, drop its slot: SELECT pg_drop_replication_slot('{slot}')",
        replica.gone_for,
        replica.bytes_behind,
    )


def _size(size: int | None) -> str:
    return f"{(size or 0) / 2**20:.1f} MiB"
