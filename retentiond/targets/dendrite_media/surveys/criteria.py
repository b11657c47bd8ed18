"""The criteria for removals: the policies of a pass, or a request by hand. All else is the same for both."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from retentiond.adapters.postgres import named_queries
from retentiond.model.facts import facts_of_policy, facts_of_request
from retentiond.model.limits import Counts, growth_starts, headroom, judge_limits
from retentiond.model.mentions import ENCRYPTION
from retentiond.model.ownership import Ownership
from retentiond.model.policy import Remove, decide
from retentiond.model.request import REQUESTED, decide_request, named
from retentiond.targets.dendrite_media.surveys.asked import mentions_of
from retentiond.targets.dendrite_media.surveys.requested import RequestSurveyor, joined
from retentiond.targets.dendrite_media.surveys.survey import Surveyor

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from retentiond.adapters.postgres import Conn
    from retentiond.model.errors import Refusal
    from retentiond.model.facts import Facts
    from retentiond.model.media import MediaRow
    from retentiond.model.report import PassReport
    from retentiond.model.request import Request
    from retentiond.targets.dendrite_media.references.copies import References
    from retentiond.targets.dendrite_media.store.context import TargetContext
    from retentiond.targets.dendrite_media.surveys.asked import Mentions
    from retentiond.targets.dendrite_media.surveys.survey import Due, Survey


SQL: Final = named_queries(__package__, "growth.sql")
_MOST_ORIGINS: Final = 3


class RemovalCriteria(ABC):
    """The criteria of a release: the rows that it removes, and the conditions that its transaction checks again."""

    references: References
    """The protections that apply; the purge uses the target's own."""
    even_protected = False
    """Whether no protection may restore the rows that these criteria remove."""
    newest: Sequence[int] | None = None
    """The newest date, in milliseconds, of the thumbnails that each policy removes alone; None if media are removed."""

    @abstractmethod
    def name_of(self, due: Due) -> str:
        """Return the name of the reason for which a row is removed, for reports."""

    @abstractmethod
    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether a due row may still be removed, now that it is locked and read again."""

    async def mentions_again(self, rows: Collection[MediaRow], copy: int | None) -> Mentions:
        """Read, in the deleting transaction, which of the relevant sources mention these rows."""
        del rows, copy
        return {}

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return the conditions on references under which it is removed; None if no reference matters."""
        del row, due
        return None


class SurveyCriteria(RemovalCriteria):
    """The criteria of one removal of a plan; its surveys and second looks run on one connection."""

    surveyor: Surveyor
    """The surveyor that finds the due rows."""
    by_access = False
    """Whether access times matter."""
    counts_unreached = True
    """Whether a due row is counted as not reached until its turn; otherwise it is counted as kept until then."""

    def stayed(self, due: Due) -> str | None:
        """Return the reason as which it was counted as kept before: a hold, mark or protection; None if it was not."""
        return due.kept

    async def over_limit(
        self, survey: Survey, report: PassReport, *, first: bool, missing: tuple[int, int] = (0, 0)
    ) -> Refusal | None:
        """Compare the counts, with the missing of the sampled files, with the limits that apply."""
        del survey, report, first, missing
        return None

    def ownership(self) -> Ownership | None:
        """Return the media left out, for an account with the owners of the removed media; None if not needed."""
        return None

    @abstractmethod
    def rules(self) -> dict[str, Any]:
        """Return the rules for the record of the ledger."""

    def cutoffs(self) -> dict[str, str]:
        """Return the cutoff dates, by policy; empty if age does not matter."""
        return {}


def criteria_of(
    context: TargetContext, connection: Conn, request: Request | None, now: datetime
) -> SurveyCriteria:
    """Return the criteria of a pass, or of a request if there is one."""
    if request is None:
        return PolicyCriteria(context, connection, now)
    return RequestCriteria(context, connection, request, now)


class PolicyCriteria(SurveyCriteria):
    """The policies of the configuration, at the time the pass began."""

    by_access = True

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

    async def mentions_again(self, rows: Collection[MediaRow], copy: int | None) -> Mentions:
        """Read from the copy the sources in conditions of policies; without conditions the row suffices."""
        return await mentions_of(self._connection, rows, copy, self.references)

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the same policy still removes it."""
        verdict = decide(row, self._rules, self._now, mentions.get(row.key))
        return verdict == Remove(self.name_of(due), due.policy)

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return the policy's conditions on references, and those of the policies before it."""
        return facts_of_policy(row, self._rules, due.policy)

    async def over_limit(
        self, survey: Survey, report: PassReport, *, first: bool, missing: tuple[int, int] = (0, 0)
    ) -> Refusal | None:
        """Compare the counts with the limits, and record in the report how many of them are growth."""
        if not first:
            report.growth = await self.growth()
        counts = Counts(survey.rows, survey.due, *missing, report.growth)
        report.limits = headroom(self._context.config.limits, counts)
        return await over_limit(self._context, self._connection, counts, first=first)

    async def growth(self) -> int:
        """Count the due rows that are growth, once a pass has been."""
        return await count_growth(self._context, self._connection, self.rules(), self._now)

    def ownership(self) -> Ownership | None:
        """Return the uploaders if a policy depends on rooms, in which anyone can mention anything."""
        by_room = any(policy.match.room is not None for policy in self._rules.policies)
        return Ownership() if by_room else None

    def taken(self, report: PassReport) -> int:
        """Return how many rows the same pass, or plan, has removed before."""
        alone = {policy.name for policy in self._rules.policies if policy.removes == "thumbnails"}
        return sum(tally.items for name, tally in report.removed.items() if name not in alone)

    def rules(self) -> dict[str, Any]:
        """Return the policies, the protections, and the server names that they use."""
        config = self._context.config
        return {
            "policies": [policy.model_dump(mode="json", exclude_none=True) for policy in config.policies],
            "quota": [quota.model_dump(mode="json", exclude_none=True) for quota in config.quota],
            "protect": list(self.references.protections),
            "encrypted_remote": config.encrypted_remote,
            "server_names": sorted(self._context.settings.server_names),
        }

    def cutoffs(self) -> dict[str, str]:
        """Return the creation date before which a row is due by now, by policy."""
        return {
            policy.name: (self._now - policy.keep).isoformat()
            for policy in self._rules.policies
            if policy.keep is not None
        }


class RequestCriteria(SurveyCriteria):
    """The items requested by hand, of any age; the plan was shown before, so no limit applies."""

    surveyor: RequestSurveyor

    def __init__(self, context: TargetContext, connection: Conn, request: Request, now: datetime) -> None:
        self._context = context
        self._connection = connection
        self._request = request
        self._now = now
        self.surveyor = RequestSurveyor(connection, context, request)
        self.even_protected = request.even_protected
        # In encrypted rooms there may be references to media that only this user or room seems to have.
        asks_hidden = request.asks_mentions and not self.even_protected
        hidden = ENCRYPTION - context.config.accepts if asks_hidden else frozenset()
        self._facts = facts_of_request(request, hidden)
        protections = () if self.even_protected else context.references.protections
        self.references = context.references.only(protections, self._facts.sources if self._facts else ())

    def name_of(self, due: Due) -> str:
        """Return that it was requested."""
        del due
        return REQUESTED

    async def mentions_again(self, rows: Collection[MediaRow], copy: int | None) -> Mentions:
        """Return the mentions in events when the survey read them, and those in the copy by now."""
        now = await mentions_of(self._connection, rows, copy, self.references)
        return joined(await self.surveyor.facts([row.key for row in rows]), now)

    def still_due(self, row: MediaRow, due: Due, mentions: Mentions) -> bool:
        """Return whether the request still includes it."""
        mentioned = mentions.get(row.key, frozenset())
        names = self._context.settings.server_names
        facts = self.facts_of(row, due)
        holds = facts is None or facts.hold(row, names, self._now, mentioned)
        return holds and isinstance(decide_request(row, self._request, mentioned, names), Remove)

    def facts_of(self, row: MediaRow, due: Due) -> Facts | None:
        """Return the facts that make it part of a user or room; own uploads and named items need no reference."""
        del due
        return None if named(row, self._request) else self._facts

    def ownership(self) -> Ownership:
        """Return the media left out, and the rooms that mention the items."""
        return self.surveyor.ownership

    def rules(self) -> dict[str, Any]:
        """Return the request, and the protections in force."""
        return {"request": self._request.as_json(), "protect": list(self.references.protections)}


async def has_growth(context: TargetContext, connection: Conn, rules: dict[str, Any]) -> bool:
    """Return whether due rows may be growth: a pass with the very same `rules` has come to its end."""
    last = await connection.fetchval(SQL["last_rules"], context.name)
    return bool(context.settings.server_names) and last is not None and json.loads(last) == rules


async def count_growth(context: TargetContext, connection: Conn, rules: dict[str, Any], now: datetime) -> int:
    """Count the due rows that are growth; zero before a pass with the very same `rules` came to its end.

    If no name of this server is known, local media that lost their users look remote: no row is growth then.
    """
    if not await has_growth(context, connection, rules):
        return 0
    names = sorted(context.settings.server_names)
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
