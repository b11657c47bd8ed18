"""The summary of a target in `check-config`: what its configuration makes it do."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from retentiond.config.chats import ChatTarget
from retentiond.config.connection import redacted
from retentiond.config.media import MediaTarget
from retentiond.config.quotas import unnamed_quota
from retentiond.config.resolve import MediaSettings
from retentiond.config.schema import KINDS, TargetConfig
from retentiond.model.check import PolicyCount
from retentiond.model.protections import keep_reason
from retentiond.model.text import printable
from retentiond.targets.settings import Resolved
from retentiond.terminal.words import age_in_words, policy_in_words, quota_in_words, schedule_in_words

_TEXT_LIMIT = 1000


def summary_lines(
    config: TargetConfig, settings: Resolved, counts: Mapping[str, PolicyCount]
) -> Iterator[str]:
    """Yield the lines about a target; `counts` are the entries that each policy matches now, if known."""
    yield f"database:  {printable(redacted(settings.database), _TEXT_LIMIT)}"
    yield from _SUMMARIES[type(config)](config, settings, counts)


def _chats(config: ChatTarget, _settings: Resolved, _counts: Mapping[str, PolicyCount]) -> Iterator[str]:
    yield f"layout:    {printable(config.layout, _TEXT_LIMIT)}"
    yield f"schedule:  {printable(schedule_in_words(config.schedule))}"
    messages, facts = age_in_words(config.floor.messages), age_in_words(config.floor.facts)
    floor = messages if messages == facts else f"messages {messages}, facts {facts}"
    rule = "and no date may be older" if config.date_rule == "within" else "and nothing younger goes"
    yield f"floor:     {floor}, {rule}"
    yield f"days:      begin at midnight, {config.timezone}"
    yield "accounts:"
    for name, account in config.accounts.items():
        keep = "only by hand" if account.keep is None else f"chats of {age_in_words(account.keep)} go"
        yield f"  {printable(name)}: {keep}"


def _media(config: MediaTarget, settings: MediaSettings, counts: Mapping[str, PolicyCount]) -> Iterator[str]:
    for component, url in settings.databases.items():
        if url != settings.database:
            yield f"  {component}: {printable(redacted(url), _TEXT_LIMIT)}"
    yield f"media:     {printable(str(settings.media_path), _TEXT_LIMIT)}"
    names = ", ".join(sorted(settings.server_names)) or "not configured; media with a user ID are local"
    if config.hosts:
        yield f"hosts:     {', '.join(config.hosts)}"
    yield f"server:    {printable(names, _TEXT_LIMIT)}"
    yield f"schedule:  {printable(schedule_in_words(config.schedule))}"
    yield f"grace:     {age_in_words(config.grace)}, and at least {age_in_words(config.settle)}"
    yield f"protected: {', '.join(dict.fromkeys(map(keep_reason, config.protections))) or 'nothing'}"
    matches = [*(policy.match for policy in config.policies), *(quota.match for quota in config.quota)]
    if config.messages_in or any(match.asks_mentions for match in matches):
        remote = (
            "are kept, too"
            if config.encrypted_remote == "keep"
            else "follow the policies, and are fetched again"
        )
        yield f"encrypted: uploads that an encrypted room may show are kept; remote media {remote}"
    if config.policies:
        yield "policies, the first that matches decides:"
        for number, policy in enumerate(config.policies, 1):
            words = f"{printable(policy.name)}: {policy_in_words(policy)}"
            yield f"  {number}. {words}{_count(counts.get(policy.name))}"
        yield "  everything else is kept"
    else:
        yield f"policies:  none, so nothing is deleted{' by age' if config.quota else ''}"
    for place, quota in enumerate(config.quota):
        name = quota.name or unnamed_quota(place)
        yield f"quota:     {printable(name)}: {quota_in_words(quota)}{_count(counts.get(name))}"


def _count(count: PolicyCount | None) -> str:
    if count is None:
        return ""
    due = "" if count.due is None else f", {count.due:,} due"
    entries = "1 entry" if count.items == 1 else f"{count.items:,} entries"
    return f" ({entries} now{due})"


_SUMMARIES: Final[Mapping[type, Callable[[Any, Any, Mapping[str, PolicyCount]], Iterator[str]]]] = {
    MediaTarget: _media,
    ChatTarget: _chats,
}
# A section without a summary must not print that of another.
if set(_SUMMARIES) != set(KINDS.values()):
    raise TypeError("cli/target_summary.py: _SUMMARIES must have each section of a target, and no other")
