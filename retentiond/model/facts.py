"""Facts: the references for which a row was released; they are asked again until the purge.

A policy, a quota or a request may rely on references: nothing refers to the row, only a room that was left does, no
earlier policy matches. References change while the row is in quarantine. The facts are stored with the released row,
so that a changed configuration does not change them, and `hold` repeats the decision.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from retentiond.model.fields import all_handled
from retentiond.model.match import OF_REFERENCES, OF_THE_ROW, Match, mismatches
from retentiond.model.mentions import (
    ENCRYPTION,
    EVENTS,
    MESSAGES,
    Mentioned,
    only_source,
    room_source,
    sent_by,
)
from retentiond.model.policy import Policy, Remove, Rules, decide
from retentiond.model.quota import Quota, decide_eviction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from retentiond.model.media import MediaRow
    from retentiond.model.policy import Removes
    from retentiond.model.request import Request

_ROOMS_IN_WORDS: Final = {
    "no_local_members": "only rooms without local members refer to it",
    "upgraded": "only upgraded rooms refer to it",
}
_IN_WORDS: Final[Mapping[str, Callable[[Any], str]]] = {
    "unreferenced": lambda _true: "nothing refers to it",
    "room": lambda room: _ROOMS_IN_WORDS.get(room, f"only the room {room} refers to it"),
}
"""The conditions on references, each as a clause about a row that meets it."""
_STORED: Final = frozenset({"name", "keep", "match"})
"""The fields of a policy that its facts hold; `since` and `removes` do not count once a row is released."""
_ANY_TYPE: Final = "*"
_NOT_ENCRYPTED: Final = "no encrypted room can show it"
_UPLOADS_ONLY: Final = " (asked of uploads to this server only)"
_NOT_ASKED: Final = "; encrypted rooms are not asked"


@dataclass(frozen=True, slots=True)
class Facts:
    """The conditions on references under which a row was released.

    `policies` are those that may match the row with some references or other, in their order; the last is the one that
    released it, unless that was a `quota` (a policy whose time is the quota's least age). `only_in` is the room of a
    `delete --room`; `hidden` are the pseudo-sources of encrypted rooms that must not show the row. Matches hold the
    conditions on references only.
    """

    policies: tuple[Policy, ...] = ()
    quota: Policy | None = None
    only_in: str | None = None
    hidden: frozenset[str] = frozenset()

    @property
    def sources(self) -> frozenset[str]:
        """The sources of references that must be read to ask again."""
        matched = [policy.match for policy in (*self.policies, *((self.quota,) if self.quota else ()))]
        asked = {source for match in matched for source in match.sources}
        if any(match.room is not None for match in matched):
            asked.add(MESSAGES)
        if self.only_in is not None:
            asked |= {EVENTS, only_source(self.only_in)}
        return frozenset(asked) | self.hidden

    def hold(
        self, row: MediaRow, server_names: frozenset[str], now: datetime, mentions: AbstractSet[str]
    ) -> bool:
        """Return whether the row would still be released; `mentions` are the `sources` that refer to it now."""
        if self.only_in is not None and EVENTS in mentions and only_source(self.only_in) not in mentions:
            return False
        if not self.hidden.isdisjoint(mentions):
            return False
        rules = Rules(self.policies, server_names)
        if self.quota is not None:
            quota = Quota(self.quota.name, self.quota.match, min_age=self.quota.keep or timedelta(0))
            seen = _without_purged_room(row, self.quota, mentions)
            return decide_eviction(row, quota, rules, now, seen) is not None
        if not self.policies:
            return True
        return isinstance(
            decide(row, rules, now, _without_purged_room(row, self.policies[-1], mentions)), Remove
        )

    def as_json(self) -> dict[str, Any]:
        """Return the facts as the ledger stores them; `read_facts` is the way back."""
        stored: dict[str, Any] = {}
        if self.policies:
            stored["policies"] = [_policy_as_json(policy) for policy in self.policies]
        if self.quota is not None:
            stored["quota"] = _policy_as_json(self.quota)
        if self.only_in is not None:
            stored["only_in"] = self.only_in
        if self.hidden:
            stored["hidden"] = sorted(self.hidden)
        return stored

    def in_words(self) -> str:
        """Return the facts as a clause, such as `nothing refers to it`; where encrypted rooms are not asked, it says so."""
        words = []
        accepts = ENCRYPTION - self.hidden
        if self.only_in is not None:
            words.append(f"no other room than {self.only_in} refers to it")
        rule = self.quota or (self.policies[-1] if self.policies else None)
        if rule is not None:
            words += _match_in_words(rule.match)
            accepts = rule.match.accepts if rule.match.asks_mentions else ENCRYPTION
        if accepts < ENCRYPTION:
            words.append(_NOT_ENCRYPTED + (_UPLOADS_ONLY if accepts else ""))
        others = self.policies if self.quota else self.policies[:-1]
        if others:
            words.append(f"no other policy keeps it ({', '.join(policy.name for policy in others)})")
        accepted = rule is not None and rule.match.asks_mentions and accepts == ENCRYPTION
        return " and ".join(words) + (_NOT_ASKED if accepted else "")


def facts_of_policy(row: MediaRow, rules: Rules, index: int, removes: Removes = "media") -> Facts | None:
    """Return the facts for which the policy at `index` takes the row; None where no reference matters."""
    if not any(policy.match.sources for policy in rules.policies[: index + 1]):
        return None
    before = [policy for policy in rules.policies[:index] if policy.removes == removes]
    # The last access of a released file is no longer known: an earlier policy by access keeps the rows that match now.
    may_match = (
        replace(policy, keep=None) if policy.since == "accessed" else policy
        for policy in _may_match(row, before, rules.server_names)
    )
    return _if_asked(Facts(tuple(map(_asked, (*may_match, rules.policies[index])))))


def facts_of_quota(row: MediaRow, rules: Rules, quota: Quota) -> Facts | None:
    """Return the facts for which a quota takes the row, although policies match it or may match it."""
    policies = []
    media = [policy for policy in rules.policies if policy.removes == "media"]
    for policy in _may_match(row, media, rules.server_names):
        policies.append(_asked(policy))
        if not policy.match.sources:
            # It matches regardless of references to the row; no later policy is asked.
            break
    if not any(policy.match.sources for policy in policies):
        policies = []
    return _if_asked(Facts(tuple(policies), _asked(Policy(quota.name, quota.match, quota.min_age))))


def facts_of_request(request: Request, hidden: frozenset[str]) -> Facts | None:
    """Return the facts for which a request takes media that events reference; `hidden` as in Facts."""
    if not request.asks_mentions:
        return None
    return _if_asked(Facts(only_in=request.name if request.kind == "room" else None, hidden=hidden))


def read_facts(stored: Mapping[str, Any]) -> Facts:
    """Read stored facts; raise ValueError for a key that this version does not know."""
    try:
        facts = Facts(
            tuple(_read_policy(policy) for policy in stored.get("policies", ())),
            _read_policy(stored["quota"]) if "quota" in stored else None,
            stored.get("only_in"),
            frozenset(stored.get("hidden", ())),
        )
        known = facts.as_json() == stored and bool(facts.sources) and facts.hidden <= ENCRYPTION
    except (AttributeError, KeyError, OverflowError, TypeError) as error:
        raise ValueError(f"facts that cannot be read: {error}") from error
    # An unknown key is a condition that would not be asked.
    if not known:
        raise ValueError("facts that this version does not know")
    return facts


def _if_asked(facts: Facts) -> Facts | None:
    return facts if facts.sources else None


def _may_match(row: MediaRow, policies: Iterable[Policy], server_names: frozenset[str]) -> Iterator[Policy]:
    """Yield the policies that match the row with some references or other."""
    for policy in policies:
        if OF_THE_ROW.isdisjoint(mismatches(row, policy.match, server_names, None)):
            yield policy


def _asked(policy: Policy) -> Policy:
    """Reduce a policy to its conditions on references; the row met the others, and always will."""
    match = policy.match
    # `unreferenced` asks for the type; a match without any condition must not be built.
    content_type = match.content_type or _ANY_TYPE
    reduced = dict.fromkeys(OF_THE_ROW) | {"content_type": content_type}
    return Policy(policy.name, replace(match, **reduced), policy.keep)  # type: ignore[arg-type]


def _without_purged_room(row: MediaRow, rule: Policy, mentions: AbstractSet[str]) -> AbstractSet[str]:
    """Add the rule's room where no message refers to the row any more: that room was purged, and no other has it."""
    if rule.match.room is None or MESSAGES in mentions:
        return mentions
    # The time of the rule was over when it released the row.
    room = room_source(rule.match.room)
    return Mentioned([room, sent_by(row.user_id), *mentions], [row.creation_ts])


def _match_in_words(match: Match) -> Iterator[str]:
    for name in match.conditions:
        if name in OF_REFERENCES:
            yield _IN_WORDS[name](getattr(match, name))


def _policy_as_json(policy: Policy) -> dict[str, Any]:
    given = {
        field.name: getattr(policy.match, field.name)
        for field in fields(Match)
        if getattr(policy.match, field.name) != field.default
    }
    conditions = {
        name: sorted(value) if isinstance(value, frozenset) else value for name, value in given.items()
    }
    seconds = None if policy.keep is None else policy.keep.total_seconds()
    return {"name": policy.name, "keep_seconds": seconds, "match": conditions}


def _read_policy(stored: Mapping[str, Any]) -> Policy:
    seconds = stored["keep_seconds"]
    keep = None if seconds is None else timedelta(seconds=seconds)
    match: dict[str, Any] = {
        name: frozenset(value) if isinstance(value, list) else value
        for name, value in stored["match"].items()
    }
    return Policy(stored["name"], Match(**match), keep)


all_handled(Policy, {*_STORED, "since", "removes"}, "model/facts.py: _policy_as_json")
if set(_IN_WORDS) != OF_REFERENCES:
    raise TypeError("model/facts.py: _IN_WORDS must have the conditions that references decide")
