"""How a mutation is followed, where no server of one's own can be made to say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from retentiond.config.chat_stores import ClickHouseStore
from retentiond.engine.target import Stop
from retentiond.targets.chat_database.clickhouse.follow import Follower
from retentiond.targets.chat_database.clickhouse.mutation import Mutation, look_at
from retentiond.targets.chat_database.clickhouse.statements import Relations
from retentiond.targets.chat_database.store_access import PollPolicy

if TYPE_CHECKING:
    from retentiond.targets.chat_database.clickhouse.servers import Servers

QUICK = PollPolicy(between=0.001)


class Replica:
    """Answers each look at its mutations with the next of these lists."""

    def __init__(self, *looks: list[dict[str, Any]]) -> None:
        self.looks = list(looks)

    async def rows(self, statement: str, _parameters: object, *, strict: bool = True) -> list[dict[str, Any]]:
        assert strict
        return self.looks.pop(0) if "system.mutations" in statement else [{"progress": "0 0"}]


def mutation(*, done: bool = False, reason: str = "") -> list[dict[str, Any]]:
    told = {
        "mutation_id": "0000000001",
        "parts_to_do": 1,
        "reason": reason,
        "postponed": "{}",
        "created": "2026-01-01",
    }
    return [told | {"ours": 1, "done": int(done)}]


async def followed(replica: Replica) -> bool:
    relations = Relations(ClickHouseStore(url="http://localhost:8123"))
    return await Follower(cast("Servers", replica), relations, Stop(), QUICK).to_the_end("mark")


async def test_a_replica_that_has_not_heard_of_a_mutation_yet_is_asked_again_before_it_is_sent_anew() -> None:
    replica = Replica([], [], mutation(done=False), mutation(done=True))
    assert await followed(replica)
    assert replica.looks == []


async def test_a_mutation_that_nobody_knows_is_waited_for_no_longer() -> None:
    assert not await followed(Replica(*[[]] * 9))


async def test_a_failure_that_passes_is_waited_for_and_kills_nothing() -> None:
    looks = [mutation(reason="no memory")] * 9 + [mutation()] + [mutation(reason="no memory")] * 9
    assert await followed(Replica(*looks, mutation(done=True)))


def test_a_mutation_is_done_only_once_it_is_done_on_each_server_that_is_expected_to_have_it() -> None:
    on_second = Mutation("1", True, True, 0, "", "{}", "2026-01-01", 2)
    on_first = Mutation("1", True, True, 0, "", "{}", "2026-01-01", 1)
    assert look_at([on_second], "", {1, 2}).state == "absent"
    assert look_at([on_first, on_second], "", {1, 2}).state == "done"
