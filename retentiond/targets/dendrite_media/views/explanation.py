"""The explanation of one item: a plan of the rows of its blob gives the verdict, and a witness reads the reasons.

The verdict is the plan's own, so that it cannot differ from `plan --list`. Which rows a quota removes depends on all the
others: with quotas the plan is one of the whole store, and without them the limits, which are shares of the store, are
not compared.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from retentiond.adapters.postgres import named_queries, pages, read_only_connection, translate_errors
from retentiond.model.errors import UsageError
from retentiond.model.explanation import DiskState, Explanation, moment, policy_stories
from retentiond.model.media import MediaKey, parse_media_uri, valid_hash
from retentiond.model.mentions import ENCRYPTION, Mentioned, asked_of
from retentiond.model.protections import ENCRYPTED
from retentiond.model.text import instant, printable
from retentiond.targets.dendrite_media.database.rows import media_row
from retentiond.targets.dendrite_media.disk.look import look_at_blobs
from retentiond.targets.dendrite_media.references.copies import PLAN_COPY
from retentiond.targets.dendrite_media.references.encrypted import shown
from retentiond.targets.dendrite_media.references.of_holds import PLAN_HOLDS
from retentiond.targets.dendrite_media.surveys.asked import in_words
from retentiond.targets.dendrite_media.surveys.criteria import PolicyCriteria
from retentiond.targets.dendrite_media.surveys.survey import LEARNED, Surveyor
from retentiond.targets.dendrite_media.views.plan import DryRun, plan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Record

    from retentiond.adapters.postgres import Conn
    from retentiond.engine.target import Progress
    from retentiond.model.media import Hash, MediaRow
    from retentiond.model.report import Item, PassReport
    from retentiond.model.request import Request
    from retentiond.targets.dendrite_media.disk.tree import MediaTree
    from retentiond.targets.dendrite_media.store.context import PlanContext, TargetContext

SQL: Final = named_queries(
    __package__,
    "explain.sql",
    shown=shown(PLAN_COPY, row="m", copy="0", names="$3"),
    shown_on_page=shown(LEARNED, row="m", copy="0", names="$6"),
    **PLAN_HOLDS._asdict(),
)
_PAGE: Final = 2000
_HELD: Final = {
    "named": "",
    "referred": ", which refers to it",
    "member": ", with its members: {user} uploaded it",
    "member_server": ", with its members: some of them are users of {server}",
}
"""The reason for which a hold covers the item: the first that applies."""


async def explain(context: TargetContext, media: str, progress: Progress) -> Explanation:
    """Explain a media item; raise UsageError for an invalid URI."""
    key = parse_media_uri(media)
    if key is None:
        raise UsageError(f"`{printable(media)}` is not a media URI; write it as mxc://SERVER/ID")
    witness = _Witness(context, key)
    with translate_errors("the database"):
        await witness.identify()
    run = None if context.settings.quotas else witness.run
    report = await plan(context, witness.listen, progress, witness=witness.ask, run=run)
    witness.story.refusal = report.refused
    return witness.story


class BlobSurveyor(Surveyor):
    """A survey of the rows of one blob."""

    def __init__(self, about: PlanContext, blob: str) -> None:
        super().__init__(about.connection, about.target.name, about.target.settings.rules)
        self._blob = blob

    def _pages(self) -> AsyncIterator[list[Record]]:
        """Stream the rows of the blob, with their mentions if policies need them."""
        statement, arguments = "blob_page", list[list[str]]()
        if self._asked:
            statement = "blob_page_with_mentions"
            arguments = [self._asked, sorted(self._rules.server_names)]
        return pages(self._connection, SQL[statement], self._blob, *arguments, size=_PAGE, after=("", ""))


class BlobRun(DryRun):
    """The plan of the rows of one blob by the policies for media; no limit is compared."""

    def __init__(self, about: PlanContext, blob: str) -> None:
        super().__init__(about, None)
        self._criteria = PolicyCriteria(about.target, about.connection, about.now)
        self._criteria.surveyor = BlobSurveyor(about, blob)

    async def _survey_first(self, report: PassReport) -> None:
        self._survey = survey = await self._judge(self._criteria, "survey", report, self._listen)
        report.await_turn(survey.due, survey.due_bytes)

    async def remove(self, report: PassReport) -> None:
        """Count the removal of the media; thumbnails alone are explained by their policies."""
        removal = await self._removal(self._criteria, self._survey, report, self._accesses, self._listen)
        await removal.run()


class _Witness:
    """Collects the facts about one media item."""

    def __init__(self, context: TargetContext, key: MediaKey) -> None:
        self._context = context
        self._key = key
        self.story = Explanation(context.name, key.uri, datetime.now(UTC))

    def listen(self, item: Item) -> None:
        """Keep the plan's result on this item, and ignore the others."""
        # The verdict is the media item's; its thumbnails are explained by policies.
        if item.media == self._key.uri and item.reason != "thumbnails":
            self.story.verdict = item

    def run(self, about: PlanContext, request: Request | None) -> BlobRun:
        """Return the plan of the rows of its blob."""
        del request
        return BlobRun(about, self.story.row.base64hash if self.story.row else "")

    async def identify(self) -> None:
        """Read the row, before anything can refuse the plan."""
        async with read_only_connection(self._context.settings.database) as connection:
            found = await connection.fetchrow(SQL["row"], *self._key)
            if found is not None:
                self.story.row = row = media_row(found)
                self.story.created_at = moment(row.creation_ts)

    async def ask(self, connection: Conn, tree: MediaTree, *, ledger: bool) -> None:
        """Read from the plan's connection, at its end, the facts behind the verdict."""
        self.story.now = await connection.fetchval("SELECT clock_timestamp()")
        if ledger:
            await self._ask_ledger(connection)
        row = self.story.row
        if row is not None:
            await self._ask_sources(connection, row)
            await self._look(connection, tree, row)

    async def _ask_ledger(self, connection: Conn) -> None:
        story, user = self.story, self.story.row.user_id if self.story.row else ""
        for hold in await connection.fetch(SQL["holds"], *self._key, user):
            why = _HELD[hold["why"]].format(server=self._key.media_origin, user=user)
            story.holds.append(f"hold {hold['hold_id']}, on the {hold['kind']} {hold['subject']}{why}")
        mark = await connection.fetchrow(SQL["restored"], *self._key)
        if mark is not None:
            until = f"until {instant(mark['until'])}" if mark["until"] else "for good"
            story.restored = (
                f"restored at {instant(mark['restored_at'])} by {mark['restored_by']} ({mark['reason']}), "
                f"and kept {until}"
            )
        for gone in await connection.fetch(SQL["released"], *self._key):
            facts = in_words(gone["facts"])
            asked = f"; asked again until the purge: {facts}" if facts else ""
            story.quarantine.append(
                f"released by pass {gone['pass_id']} ({gone['policy']}) at {instant(gone['released_at'])}; "
                f"its grace ends at {instant(gone['grace_until'])}{asked}"
            )

    async def _ask_sources(self, connection: Conn, row: MediaRow) -> None:
        references, rules = self._context.references, self._context.settings.rules
        mentions = Mentioned()
        if references.protections or references.asked:
            rows = await connection.fetch(SQL["mentions"], *self._key, references.server_names)
            mentions = (
                Mentioned(*zip(*(tuple(found) for found in rows), strict=True)) if rows else Mentioned()
            )
        self.story.protections = {name: name in mentions for name in references.protections}
        if ENCRYPTED in {*references.protections, *references.asked}:
            self.story.encrypted = not ENCRYPTION.isdisjoint(mentions)
        asked = asked_of(mentions, references.asked) if references.asked else None
        self.story.policies = policy_stories(row, rules, self.story.now, asked)

    async def _look(self, connection: Conn, tree: MediaTree, row: MediaRow) -> None:
        self.story.bearers = await connection.fetchval(SQL["bearers"], row.base64hash)
        blob = valid_hash(row.base64hash)
        if blob is None:
            return
        blobs: list[Hash] = [blob]
        (look,) = await self._context.disk.share(look_at_blobs(tree), blobs)
        accessed = None if look.accessed is None else datetime.fromtimestamp(look.accessed, UTC)
        self.story.disk = DiskState(
            look.result, look.files, look.bytes, look.has_file, accessed, look.problem
        )
