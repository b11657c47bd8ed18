"""What a search server's answers about a purge's task say, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from retentiond.targets.chat_database.search.follow import look_at, progress_of

OURS = "retentiond:ours"


def parent(**status: Any) -> dict[str, Any]:
    task = {
        "id": 7,
        "headers": {"X-Opaque-Id": OURS},
        "status": {"total": 0, "deleted": 0, "batches": 0} | status,
    }
    return {"completed": False, "task": task}


def slices(*deleted: int) -> dict[str, Any]:
    tasks = {f"node:{number}": {"status": {"deleted": gone}} for number, gone in enumerate(deleted)}
    return {"nodes": {"node": {"tasks": tasks}}}


def test_what_is_gone_is_the_sum_of_the_slices_that_are_over_and_of_those_that_run() -> None:
    assert progress_of(parent(slices=[None, None]), slices(500, 250))[0] == 750
    # The first is over: its parent shows it alone, as if that were all, and it is among the tasks no more.
    assert progress_of(parent(total=500, deleted=500, slices=[{}, None]), slices(300))[0] == 800
    assert progress_of(parent(total=900, deleted=900, slices=[{}, {}]), {})[0] == 900


@pytest.mark.parametrize("mark", [None, "retentiond:another's", "ours"])
def test_a_result_that_does_not_bear_the_mark_is_not_ours(mark: str | None) -> None:
    answer = {
        "completed": True,
        "task": {"headers": {} if mark is None else {"X-Opaque-Id": mark}},
        "response": {},
    }
    assert look_at(answer, OURS).state == "gone"


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        ({"error": {"type": "index_not_found_exception", "reason": "no such index [x]"}}, "no such index"),
        ({"response": {"canceled": "by user request", "failures": []}}, "by user request"),
        # What a full disk sets, after a minute of trying.
        (
            {
                "response": {
                    "failures": [
                        {
                            "cause": {
                                "type": "cluster_block_exception",
                                "reason": "index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage exceeded]",
                            },
                            "status": 429,
                        }
                    ]
                }
            },
            "disk usage exceeded",
        ),
    ],
)
def test_a_poll_that_went_well_tells_of_a_purge_that_did_not(result: dict[str, Any], reason: str) -> None:
    look = look_at(parent() | {"completed": True} | result, OURS)
    assert look.state == "failed"
    assert reason in look.reason


@pytest.mark.parametrize(
    "result",
    [
        # What a coordinator says whose data node was killed, seen on three nodes.
        {
            "error": {
                "type": "search_phase_execution_exception",
                "reason": "all shards failed",
                "failed_shards": [
                    {
                        "reason": {
                            "type": "illegal_argument_exception",
                            "reason": "scroll_id references node [x] which was not found in the cluster",
                        }
                    }
                ],
            }
        },
        {
            "response": {
                "failures": [
                    {"shard": 0, "reason": {"type": "node_disconnected_exception", "reason": "disconnected"}}
                ]
            }
        },
        {
            "error": {
                "type": "cluster_block_exception",
                "reason": "blocked by: [SERVICE_UNAVAILABLE/2/no cluster manager]",
            }
        },
    ],
)
def test_a_purge_that_lost_a_node_or_a_shard_is_worth_another_round(result: dict[str, Any]) -> None:
    look = look_at(parent() | {"completed": True} | result, OURS)
    assert look.state == "lost"
    assert look.reason


def test_a_purge_that_was_cancelled_is_not_begun_again_whatever_its_slices_say_of_themselves() -> None:
    answer = parent() | {"completed": True, "error": {"type": "search_phase_execution_exception"}}
    answer["task"]["cancelled"] = True
    assert look_at(answer, OURS).state == "failed"


@pytest.mark.parametrize(
    ("failures", "in_doubt"),
    [
        ([{"cause": {"type": "unavailable_shards_exception", "reason": "no primary"}, "id": "1"}], True),
        ([{"reason": {"type": "node_disconnected_exception", "reason": "gone"}, "shard": 0}], False),
        ([{"cause": {"type": "cluster_block_exception", "reason": "[FORBIDDEN/8/index write]"}}], False),
    ],
)
def test_a_batch_that_was_lost_with_its_shard_may_be_deleted_and_a_lost_search_or_a_block_deletes_nothing(
    failures: list[dict[str, Any]], in_doubt: bool
) -> None:
    answer = parent() | {"completed": True, "response": {"deleted": 5, "failures": failures}}
    assert look_at(answer, OURS).in_doubt is in_doubt
