"""The explanation of one room: the plan's own verdict on it, and the facts behind it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from retentiond.ledger.holds import holds_on_record
from retentiond.model.errors import UsageError
from retentiond.model.room_explanation import RoomExplanation
from retentiond.model.text import printable
from retentiond.targets.dendrite_rooms.planning import plan_rooms
from retentiond.targets.dendrite_rooms.survey import find_alias

if TYPE_CHECKING:
    from retentiond.engine.target import Progress
    from retentiond.targets.dendrite_rooms.context import RoomContext


async def explain_room(context: RoomContext, name: str, progress: Progress) -> RoomExplanation:
    """Explain a room by its ID or a local alias; raise UsageError for anything else."""
    if name[:1] not in {"!", "#"}:
        raise UsageError(
            f"`{printable(name)}` is not a room; write its ID, as '!ROOM:SERVER', or an alias, as '#NAME:SERVER'"
        )
    story = RoomExplanation(context.name, name, datetime.now(UTC))
    room_id = await find_alias(context.pool, name) if name.startswith("#") else name
    if room_id is None:
        raise UsageError(f"this server has no alias `{printable(name)}`; write the room's ID")
    report = await plan_rooms(context, None, progress, (room_id, story))
    story.refusal = report.refused
    if await context.ledger.exists(context.pool):
        async for hold in holds_on_record(context.pool, closed=False):
            if (hold.subject.kind, hold.subject.name) == ("room", room_id):
                story.holds.append(f"hold {hold.hold_id}, by {hold.added_by}")
    return story
