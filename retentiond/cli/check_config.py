"""`check-config`: everything that is wrong with the configuration, or what it makes each target do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from retentiond.cli.session import Session
from retentiond.config.chats import ChatTarget
from retentiond.config.connection import redacted
from retentiond.config.media import MediaTarget
from retentiond.config.problems import ConfigError, Problem
from retentiond.config.quotas import unnamed_quota
from retentiond.config.resolve import MediaSettings
from retentiond.config.schema import TargetConfig
from retentiond.engine.target import Target
from retentiond.model.outcome import worst
from retentiond.model.text import printable
from retentiond.targets.settings import Resolved, missing_extras, resolve_target
from retentiond.terminal.words import age_in_words, policy_in_words, quota_in_words, schedule_in_words

_TEXT_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """Check the configuration; with `connect`, also the databases and paths that it names."""

    connect: bool = False

    def __call__(self, session: Session) -> int:
        """Tell all problems, and exit 2; or what each target does."""
        try:
            targets = session.load().targets
            settings = _resolved(targets, str(session.config_path))
        except ConfigError as error:
            # As editors and compilers write it, so that a click on the line leads to its place.
            for problem in error.problems:
                session.err.put(f"{problem}\n")
            return error.exit_status
        if not session.options.quiet:
            for name, config in targets.items():
                session.line(
                    f"{name} ({config.kind})", *(f"  {line}" for line in _summary(config, settings[name]))
                )
        if not self.connect:
            session.note(
                f"{printable(str(session.config_path))} has no problems; --connect tries what it names, too"
            )
            return 0

        async def errand(target: Target, _config: TargetConfig) -> int:
            problems = await target.check()
            for problem in problems:
                session.error(printable(str(problem), _TEXT_LIMIT), about=target.name)
            if not problems:
                session.note(f"{target.name}: reached, and all that a pass needs is there")
            return worst(problem.exit_status for problem in problems)

        return session.run(session.for_each(session.at_hand(targets), errand))


def _resolved(targets: Mapping[str, TargetConfig], file: str) -> dict[str, Resolved]:
    """Read the files that targets name as well, and look for the extras; raise ConfigError with all problems."""
    settings: dict[str, Resolved] = {}
    problems: list[Problem] = []
    for name, config in targets.items():
        try:
            settings[name] = resolve_target(config)
        except ConfigError as error:
            # Several targets may name one file.
            problems += [problem for problem in error.problems if problem not in problems]
        problems += [
            Problem(file, None, None, f"targets.{name}.{section}", message, hint)
            for section, message, hint in missing_extras(config)
        ]
    if problems:
        raise ConfigError(problems)
    return settings


def _summary(config: TargetConfig, settings: Resolved) -> Iterator[str]:
    yield f"database:  {printable(redacted(settings.database), _TEXT_LIMIT)}"
    if isinstance(config, MediaTarget) and isinstance(settings, MediaSettings):
        yield from _media_summary(config, settings)
    elif isinstance(config, ChatTarget):
        yield from _chat_summary(config)


def _chat_summary(config: ChatTarget) -> Iterator[str]:
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


def _media_summary(config: MediaTarget, settings: MediaSettings) -> Iterator[str]:
    for component, url in settings.databases.items():
        if url != settings.database:
            yield f"  {component}: {printable(redacted(url), _TEXT_LIMIT)}"
    yield f"media:     {printable(str(settings.media_path), _TEXT_LIMIT)}"
    names = ", ".join(sorted(settings.server_names)) or "not said; what bears a user is ours"
    if config.hosts:
        yield f"hosts:     {', '.join(config.hosts)}"
    yield f"server:    {printable(names, _TEXT_LIMIT)}"
    yield f"schedule:  {printable(schedule_in_words(config.schedule))}"
    yield f"grace:     {age_in_words(config.grace)}, and at least {age_in_words(config.settle)}"
    yield f"protected: {', '.join(config.protections) or 'nothing'}"
    if config.policies:
        yield "policies, of which the first that matches decides:"
        for number, policy in enumerate(config.policies, 1):
            yield f"  {number}. {printable(policy.name)}: {policy_in_words(policy)}"
        yield "  everything else stays"
    else:
        yield f"policies:  none, so nothing goes{' by its age' if config.quota else ''}"
    for place, quota in enumerate(config.quota):
        yield f"quota:     {printable(quota.name or unnamed_quota(place))}: {quota_in_words(quota)}"
