"""Compare the due rows of a survey with the limits of the configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.limits import growth_starts, judge_limits

if TYPE_CHECKING:
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.model.errors import Refusal
    from retentiond.model.limits import Counts
    from retentiond.targets.dendrite_media.store.context import TargetContext

SQL: Final = named_queries(__package__, "growth.sql")
_MOST_ORIGINS: Final = 3


async def count_growth(context: TargetContext, connection: Conn, rules: dict[str, Any], now: datetime) -> int:
    """Count the due rows that are growth; zero before a pass with the very same `rules` came to its end.

    If no name of this server is known, local media that lost their users look remote: no row is growth then.
    """
    names = sorted(context.settings.server_names)
    last = await connection.fetchval(SQL["last_rules"], context.name)
    if not names or last is None or json.loads(last) != rules:
        return 0
    starts = growth_starts(context.settings.rules.policies, now, context.config.limits.growth_within)
    growth: int = await connection.fetchval(SQL["count_growth"], list(starts), list(starts.values()), names)
    return growth


async def over_limit(
    context: TargetContext, connection: Conn, counts: Counts, *, first: bool
) -> Refusal | None:
    """Return the limit that these counts exceed, if any, with the servers of the due rows."""
    limits = context.config.limits
    refusal = judge_limits(context.name, limits, counts, first=first)
    if refusal is None:
        return None
    rows = await connection.fetch(SQL["due_by_origin"], _MOST_ORIGINS)
    origins = tuple((row["name"], row["share"]) for row in rows)
    return judge_limits(context.name, limits, replace(counts, origins=origins), first=first)
