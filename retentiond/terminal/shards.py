"""The shards and replicas of a store, as people read them: a line each."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words

_LIMIT: Final = 300


def shard_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each shard and for each of its replicas, from the keys `shards` and `more_shards`."""
    for shard in told.get("shards", ()):
        yield f"shard {_copy(shard)}"
        for replica in shard.get("replicas", ()):
            yield f"  replica {_copy(replica)}"
    if told.get("more_shards"):
        yield f"and {count_in_words(told['more_shards'], 'shard')} more"


def _copy(told: Mapping[str, Any]) -> str:
    rows = [
        f"{count_in_words(told[key], 'row')} {words}"
        for key, words in (("rows", "deleted"), ("left", "left"))
        if told.get(key) is not None
    ]
    line = ", ".join([f"{printable(told['name'], _LIMIT)}: {told['state']}", *rows])
    return f"{line}: {printable(told['error'], _LIMIT)}" if told.get("error") else line
