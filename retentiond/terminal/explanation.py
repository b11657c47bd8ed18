"""The explanation of one item: its data, the verdict of each policy, everything that keeps it, and the outcome."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from rich.console import Console
from rich.text import Text

from retentiond.model.explanation import Explanation, PolicyExplanation
from retentiond.model.media import MediaRow
from retentiond.model.mentions import ENCRYPTION
from retentiond.model.protections import ENCRYPTED, MESSAGES_IN
from retentiond.model.text import printable
from retentiond.terminal.frames import refusal_panel, table
from retentiond.terminal.words import (
    age_in_words,
    count_in_words,
    reason_in_words,
    size_in_words,
    time_in_words,
)

_LIMIT = 600
_DAY = timedelta(days=1)
_ENCRYPTED = "An encrypted room may show it: references in such rooms are invisible, and no database can prove that it is unused."


def show_item(console: Console, title: str, lines: Iterable[str]) -> None:
    """Print the name of an item and the lines about it; all of it is untrusted text."""
    console.print(Text(title, style="bold"), soft_wrap=True)
    for line in lines:
        console.print(Text(printable(line, _LIMIT)), soft_wrap=True)


def show_policies(console: Console, policies: Sequence[tuple[str, str, str, str]]) -> None:
    """Print the policies, each with its name, the time for which it keeps, since when, and its verdict."""
    if policies:
        shown = table("Policies, in order")
        for heading in ("policy", "keeps", "since", "verdict"):
            shown.add_column(heading)
        for name, *cells in policies:
            shown.add_row(Text(printable(name)), *cells)
        console.print(shown)


def show_explanation(console: Console, story: Explanation) -> None:
    """Print the explanation; all of it is untrusted text."""
    show_item(console, f"{story.target}: {printable(story.media, _LIMIT)}", _lines(story))
    show_policies(console, [(one.name, _keep(one), one.since, _saying(one)) for one in story.policies])
    for name, mentions in story.protections.items():
        console.print(Text(f"Protection {printable(name)}: {_protecting(name, story, mentions=mentions)}."))
    if story.encrypted:
        console.print(Text(_ENCRYPTED), soft_wrap=True)
    console.print(Text(_verdict(story), style="bold"))
    if story.refusal is not None:
        console.print(refusal_panel(story.refusal, "A pass would be refused"))
    console.print()


def _lines(story: Explanation) -> Iterator[str]:
    if story.row is None:
        yield "Not in the database."
    else:
        yield from _row(story, story.row)
    for hold in story.holds:
        yield f"Kept by {hold}."
    if story.restored:
        yield f"It was {story.restored}."
    yield from (f"In quarantine: {released}." for released in story.quarantine)


def _row(story: Explanation, row: MediaRow) -> Iterator[str]:
    by = f", uploaded by {row.user_id}" if row.user_id else ""
    yield f"{row.content_type or 'no type'}, {size_in_words(row.file_size_bytes)}, named `{row.upload_name}`{by}"
    if story.created_at is None:
        yield f"Invalid date: {row.creation_ts} ms."
    else:
        age = story.now - story.created_at
        whole = age - age % _DAY if age > _DAY else age
        yield f"Stored on {time_in_words(story.created_at)}, {age_in_words(whole)} ago."
    if story.disk is not None:
        disk = story.disk
        read = f", last read on {time_in_words(disk.accessed)}" if disk.accessed else ""
        problem = f": {disk.problem}" if disk.problem else ""
        yield f"On disk: {disk.result}{problem}, {count_in_words(disk.files, 'file')}, {size_in_words(disk.bytes)}{read}."
    if story.bearers > 1:
        yield f"{count_in_words(story.bearers, 'row')} share this file, which is kept while one of them is kept."


def _protecting(name: str, story: Explanation, *, mentions: bool) -> str:
    if name in ENCRYPTION:
        return "may show it: kept" if mentions else "not known to show it"
    if mentions:
        return "refers to it: kept"
    # Messages in encrypted rooms cannot be read.
    return "no visible reference" if name == MESSAGES_IN and story.encrypted else "does not refer to it"


def _keep(policy: PolicyExplanation) -> str:
    return "forever" if policy.keep is None else age_in_words(policy.keep)


def _saying(policy: PolicyExplanation) -> str:
    if policy.mismatches:
        if policy.mismatches == (ENCRYPTED,):
            return "may match; kept, since an encrypted room may show it"
        return f"does not match: {', '.join(policy.mismatches)}"
    if not policy.decides:
        return "matches, but an earlier policy decides"
    what = "decides" if policy.removes == "media" else "decides about its thumbnails only"
    return f"{what}: {'due' if policy.due else 'not due'}{_beginning(policy)}"


def _beginning(policy: PolicyExplanation) -> str:
    if not policy.by_room_kind or policy.keep is None:
        return ""
    if policy.counted_from is None:
        return "; its start is known only from another server's clock, so the first pass that finds it records the time"
    return f", counted from {time_in_words(policy.counted_from)}"


def _verdict(story: Explanation) -> str:
    verdict = story.verdict
    if verdict is None:
        return "Outcome: nothing." if story.refusal is None else "Outcome: unknown."
    if verdict.action == "remove":
        return f"Outcome: deleted by {printable(verdict.policy or 'no policy')}; {size_in_words(verdict.bytes)} freed."
    if verdict.action == "fail":
        return f"Outcome: a pass would fail to move it: {printable(verdict.reason)}."
    return f"Outcome: kept: {printable(verdict.reason)} ({reason_in_words(verdict.reason)})."
