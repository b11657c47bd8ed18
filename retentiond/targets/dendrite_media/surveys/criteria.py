"""Why rows go: by the policies of a pass, or because somebody asked for it. All else is the same for both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from retentiond.model.facts import facts_of_policy, facts_of_request
from retentiond.model.limits import Counts
from retentiond.model.mentions import ENCRYPTION
from retentiond.model.ownership import Ownership
from retentiond.model.policy import Remove, decide
from retentiond.model.request import REQUESTED, decide_request, named
from retentiond.targets.dendrite_media.surveys.limits import count_growth, over_limit
from retentiond.targets.dendrite_media.surveys.mentioned import mentions_of
from retentiond.targets.dendrite_media.surveys.requested import RequestSurveyor, joined
from retentiond.targets.dendrite_media.surveys.survey import Surveyor

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.model.errors import Refusal
    from retentiond.model.facts import Facts
    from retentiond.model.media import MediaRow
    from retentiond.model.report import PassReport
    from retentiond.model.request import Request
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.mentioned import Mentions
    from retentiond.targets.dendrite_media.surveys.survey import Due, Survey


class RemovalCriteria(Protocol):
    """What a release goes by."""

    @property
    def references(self) -> References:
        """What protects from it; the purge asks the target's own."""

    @property
    def even_protected(self) -> bool:
        """Whether no protection shall bring back what goes by it."""

    def name_of(self, due: Due) -> str:
        """Return what reports call the reason for which a row goes."""

    async def mentions_again(self, rows: Collection[MediaRow], copy: int | None) -> Mentions:
        """Read, in the deleting transaction, which of the sources it goes by mention these rows."""

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Tell whether a row that was due may still go, now that it is locked and read again."""

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return the conditions on references under which it goes; None where no reference matters."""


class SurveyCriteria(RemovalCriteria, Protocol):
    """What a pass or a request goes by; its surveys and second looks run on one connection."""

    @property
    def surveyor(self) -> Surveyor:
        """Who finds what is due."""

    @property
    def by_access(self) -> bool:
        """Whether access times have a say."""

    def stayed(self, due: Due) -> str | None:
        """Return the reason for which it was counted as staying before; None where it was not counted."""

    @property
    def counts_unreached(self) -> bool:
        """Whether a due row is counted as not reached until its turn; else it is counted as kept until then."""

    async def over_limit(
        self, survey: Survey, report: PassReport, missing: int, sampled: int, *, first: bool
    ) -> Refusal | None:
        """Compare the counts with the limits, and note in the report what of them is growth."""

    def ownership(self) -> Ownership | None:
        """Return whose media are left out, for an account that adds whose go; None where it need not say."""

    def rules(self) -> dict[str, Any]:
        """Return what the ledger remembers to have gone by."""

    def cutoffs(self) -> dict[str, str]:
        """Return the dates before which it takes, by policy."""


def ground_of(
    context: TargetContext, connection: Conn, request: Request | None, now: datetime
) -> SurveyCriteria:
    """Return what a pass goes by, or a request where there is one."""
    if request is None:
        return PolicyCriteria(context, connection, now)
    return RequestCriteria(context, connection, request, now)


class PolicyCriteria:
    """The policies of the configuration, at the time the pass began."""

    even_protected = False
    by_access = True
    counts_unreached = True

    def __init__(self, context: TargetContext, connection: Conn, now: datetime) -> None:
        self._context = context
        self._rules = context.settings.rules
        self._connection = connection
        self._now = now
        self.surveyor = Surveyor(connection, context.name, self._rules)
        self.references = context.references

    def name_of(self, due: Due) -> str:
        """Return the policy's name."""
        return self._rules.policies[due.policy].name

    def stayed(self, due: Due) -> str | None:
        """Return the hold, mark or protection that keeps it: the survey has counted that."""
        return due.kept

    async def mentions_again(self, rows: Collection[MediaRow], copy: int | None) -> Mentions:
        """Ask the copy for what policies ask about; where they ask nothing, the row tells."""
        return await mentions_of(self._connection, rows, copy, self.references)

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Tell whether the same policy still takes it."""
        verdict = decide(row, self._rules, self._now, mentions.get(row.key))
        return verdict == Remove(self.name_of(due), due.policy)

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return the policy's conditions on references, and those of the policies before it."""
        return facts_of_policy(row, self._rules, due.policy)

    async def over_limit(
        self, survey: Survey, report: PassReport, missing: int, sampled: int, *, first: bool
    ) -> Refusal | None:
        """Compare the counts with the limits, and note in the report what of them is growth."""
        if not first:
            report.growth = await self.growth()
        counts = Counts(survey.rows, survey.due, missing, sampled, report.growth)
        return await over_limit(self._context, self._connection, counts, first=first)

    async def growth(self) -> int:
        """Count the due rows that are growth, once a pass has been."""
        return await count_growth(self._context, self._connection, self.rules(), self._now)

    def ownership(self) -> Ownership | None:
        """Ask for the uploaders where a policy goes by rooms, in which anybody can mention anything."""
        by_room = any(policy.match.room is not None for policy in self._rules.policies)
        return Ownership() if by_room else None

    def taken(self, report: PassReport) -> int:
        """Return how many rows the same pass, or plan, has taken before."""
        alone = {policy.name for policy in self._rules.policies if policy.removes == "thumbnails"}
        return sum(tally.items for name, tally in report.removed.items() if name not in alone)

    def rules(self) -> dict[str, Any]:
        """Return the policies, the protections, and the names that they go by."""
        config = self._context.config
        return {
            "policies": [policy.model_dump(mode="json", exclude_none=True) for policy in config.policies],
            "quota": [quota.model_dump(mode="json", exclude_none=True) for quota in config.quota],
            "protect": list(self.references.protections),
            "encrypted_remote": config.encrypted_remote,
            "server_names": sorted(self._context.settings.server_names),
        }

    def cutoffs(self) -> dict[str, str]:
        """Return when a row must have been created to be due by now."""
        return {
            policy.name: (self._now - policy.keep).isoformat()
            for policy in self._rules.policies
            if policy.keep is not None
        }


class RequestCriteria:
    """What somebody asked for by hand, whatever its age; they saw the plan of it, so no limit is held against it."""

    by_access = False
    counts_unreached = True

    def __init__(self, context: TargetContext, connection: Conn, request: Request, now: datetime) -> None:
        self._context = context
        self._connection = connection
        self._request = request
        self._now = now
        self.surveyor = RequestSurveyor(connection, context, request)
        self.even_protected = request.even_protected
        # In encrypted rooms others may refer to what the user or the room seems to have alone.
        asks_hidden = request.asks_mentions and not self.even_protected
        hidden = ENCRYPTION - context.config.accepts if asks_hidden else frozenset()
        self._facts = facts_of_request(request, hidden)
        protections = () if self.even_protected else context.references.protections
        self.references = context.references.only(protections, self._facts.sources if self._facts else ())

    def name_of(self, due: Due) -> str:
        """Return that it was asked for."""
        del due
        return REQUESTED

    def stayed(self, due: Due) -> str | None:
        """Return the hold, mark or protection that keeps it: the survey has counted that."""
        return due.kept

    async def mentions_again(self, rows: Collection[MediaRow], copy: int | None) -> Mentions:
        """Return what the events said of these when the survey read them, and what the copy says by now."""
        now = await mentions_of(self._connection, rows, copy, self.references)
        return joined(await self.surveyor.facts([row.key for row in rows]), now)

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Tell whether the request still means it."""
        mentioned = mentions.get(row.key, frozenset())
        names = self._context.settings.server_names
        facts = self.facts_of(row, due)
        holds = facts is None or facts.hold(row, names, self._now, mentioned)
        return holds and isinstance(decide_request(row, self._request, mentioned, names), Remove)

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return what makes it part of a user or room: what they uploaded and what is named needs no reference."""
        del due
        return None if named(row, self._request) else self._facts

    async def over_limit(
        self, survey: Survey, report: PassReport, missing: int, sampled: int, *, first: bool
    ) -> Refusal | None:
        """Hold nothing against it."""
        del survey, report, missing, sampled, first
        return None

    def ownership(self) -> Ownership:
        """Return what is left out, and the rooms that mention the items."""
        return self.surveyor.ownership

    def rules(self) -> dict[str, Any]:
        """Return the request, and the protections that held."""
        return {"request": self._request.as_json(), "protect": list(self.references.protections)}

    def cutoffs(self) -> dict[str, str]:
        """Return none: age has no say."""
        return {}
