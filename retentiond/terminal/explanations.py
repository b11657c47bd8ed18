"""The explanation of an item of any kind on the terminal."""

from collections.abc import Iterator
from functools import singledispatch

from rich.console import Console
from rich.text import Text

from retentiond.model.explanation import Explanation
from retentiond.model.room_explanation import RoomExplanation, RoomPolicyExplanation
from retentiond.model.rooms import Room
from retentiond.model.text import printable
from retentiond.terminal.explanation import show_explanation, show_item, show_policies
from retentiond.terminal.frames import refusal_panel
from retentiond.terminal.words import (
    age_in_words,
    count_in_words,
    reason_in_words,
    size_in_words,
    time_in_words,
)

_LIMIT = 600
_MOST_MEDIA = 20


@singledispatch
def show_any_explanation(story: object, console: Console) -> None:
    """Print the explanation of an item; raise TypeError for a kind without words."""
    del console
    raise TypeError(f"terminal/explanations.py: no words for {type(story).__name__}")


@show_any_explanation.register
def _of_media(story: Explanation, console: Console) -> None:
    show_explanation(console, story)


@show_any_explanation.register
def _of_room(story: RoomExplanation, console: Console) -> None:
    show_item(console, f"{story.target}: {printable(story.name, _LIMIT)}", _lines(story))
    show_policies(
        console, [(one.policy.name, _keep(one), one.policy.since, _saying(one)) for one in story.policies]
    )
    console.print(Text(_verdict(story), style="bold"), soft_wrap=True)
    if story.refusal is not None:
        console.print(refusal_panel(story.refusal, "A pass would be refused"))
    console.print()


def _lines(story: RoomExplanation) -> Iterator[str]:
    room = story.room
    if room is None:
        yield "Not in the database of dendrite's room server."
        return
    encrypted = {True: "encrypted", False: "not encrypted", None: "encryption unknown"}[room.encrypted]
    yield (
        f"{room.room_id}, version {room.version}, created by a user of {room.creator or 'an unknown server'}, {encrypted}; "
        f"{count_in_words(room.events, 'event')}, {size_in_words(room.bytes)}"
    )
    yield f"Local users: {room.joined:,} joined, {room.invites:,} invited or knocking."
    if room.first_seen is not None:
        yield f"Seen without local users and without a newer event since {time_in_words(room.first_seen)}."
    yield from _upgrade(room)
    if room.aliases:
        yield f"Aliases of this server: {', '.join(room.aliases)}."
    if room.parents:
        yield f"The spaces of these rooms name it: {', '.join(room.parents)}."
    yield from (f"Kept by {hold}." for hold in story.holds)
    if story.media:
        more = len(story.media) - _MOST_MEDIA
        names = ", ".join(story.media[:_MOST_MEDIA]) + (f" and {more:,} more" if more > 0 else "")
        yield f"Media that only due rooms refer to: {names}."


def _upgrade(room: Room) -> Iterator[str]:
    if room.successor is not None:
        users = "with" if room.in_successor else "without"
        yield f"Upgraded: its successor is {room.successor}, {users} local members."


def _keep(one: RoomPolicyExplanation) -> str:
    return "forever" if one.policy.keep is None else age_in_words(one.policy.keep)


def _saying(one: RoomPolicyExplanation) -> str:
    if one.mismatches:
        return f"does not match: {', '.join(one.mismatches)}"
    if not one.decides:
        return "matches, but an earlier policy decides"
    return f"decides: due from {time_in_words(one.due_from)}" if one.due_from else "decides: not due"


def _verdict(story: RoomExplanation) -> str:
    verdict = story.verdict
    if verdict is None:
        return "Outcome: nothing." if story.refusal is None else "Outcome: unknown."
    if verdict.reason is None:
        due = f", due since {time_in_words(verdict.due)}" if verdict.due else ""
        return f"Outcome: purged by {printable(verdict.policy or 'no policy')}{due}; this cannot be undone."
    words = f"Outcome: kept: {verdict.reason} ({reason_in_words(verdict.reason, 'dendrite_rooms')})"
    if verdict.due_from is None or verdict.due_from <= story.now:
        return f"{words}."
    return f"{words}, until {time_in_words(verdict.due_from)}."
