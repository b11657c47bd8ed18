"""`check-config`: all errors and warnings of the configuration, and a summary of each target."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from retentiond.adapters.log_entries import redact
from retentiond.cli.options import Json, commands, example
from retentiond.cli.session import Session, Work
from retentiond.config.chats import ChatTarget
from retentiond.config.connection import redacted
from retentiond.config.document import Document
from retentiond.config.media import MediaTarget
from retentiond.config.policies import unnamed_quota
from retentiond.config.problems import ConfigError, Problem
from retentiond.config.resolve import MediaSettings
from retentiond.config.rooms import RoomTarget
from retentiond.config.schema import KINDS, Config, TargetConfig
from retentiond.config.warnings import certificate_problems, unmatched, warnings_of
from retentiond.engine.target import Target
from retentiond.model.check import Check, PolicyCount, StoreOverview
from retentiond.model.errors import MissingRightError, RetentiondError, worst
from retentiond.model.protections import keep_reason
from retentiond.model.text import printable, sentence
from retentiond.targets.dendrite_rooms.context import RoomSettings
from retentiond.targets.settings import Resolved, missing_extras, resolve_target
from retentiond.terminal.words import (
    age_in_words,
    count_in_words,
    policy_in_words,
    quota_in_words,
    schedule_in_words,
)

app = commands()


@app.command(epilog=example("retentiond check-config", "retentiond check-config --connect"))
def check_config(
    connect: Annotated[
        bool, typer.Option("--connect", help="Connect to databases and paths, and check what a pass needs.")
    ] = False,
    as_json: Json = False,
) -> Work:
    """Check the configuration.

    The command reports all errors and warnings, and sums up each target. Warnings do not change the exit status.
    """
    return CheckConfig(connect, as_json)


_TEXT_LIMIT = 1000
_ITEMS = {"postgresql": "chat", "clickhouse": "row", "elasticsearch": "document"}


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """Check the configuration; with `connect`, also the databases and paths that it names."""

    connect: bool = False
    as_json: bool = False
    checks: dict[str, Check | None] = field(default_factory=dict)
    """The result of each target; None for a target that could not be opened."""

    def __call__(self, session: Session) -> int:
        """Report all errors, and exit 2; or all warnings and a summary of each target."""
        try:
            config, document = session.load_with_places()
            settings = _resolved(config, document, str(session.config_path))
        except ConfigError as error:
            self._tell(session, error.problems)
            if self.as_json:
                session.document(_as_json(session, error.problems, [], {}))
            return error.exit_status
        warnings = list(warnings_of(session.config_path, document, config, settings))
        self._tell(session, warnings)
        self.checks.update(dict.fromkeys(config.targets))
        status = 0
        try:
            if self.connect:
                status = self._connect(session, config, document, warnings)
        finally:
            if self.as_json:
                session.document(_as_json(session, [], warnings, self.checks))
        if not (self.as_json or session.options.quiet):
            _describe(session, config.targets, settings, self.checks)
        if not (self.as_json or self.connect or warnings):
            session.note(
                f"{printable(str(session.config_path))} has no problems; --connect tries what it names, too"
            )
        return status

    def _connect(
        self,
        session: Session,
        config: Config,
        document: Document,
        warnings: list[Problem],
    ) -> int:
        async def check_target(target: Target, of_target: TargetConfig) -> int:
            check = self.checks[target.name] = await target.check()
            for problem in check.problems:
                tell_problem(session, target.name, problem)
            if not check.problems:
                session.note(f"{target.name}: reached, and all that a pass needs is there")
            for note in check.notes:
                session.note(f"{target.name}: {printable(note, _TEXT_LIMIT)}")
            counts = {count.name: count.items for count in check.policies}
            found = list(unmatched(document, target.name, of_target, counts))
            self._tell(session, found)
            warnings.extend(found)
            return worst(problem.exit_status for problem in check.problems)

        return session.run(session.for_each(session.on_this_host(config.targets), check_target))

    def _tell(self, session: Session, problems: Sequence[Problem]) -> None:
        # As editors and compilers write it, so that a click on the line leads to its place.
        for problem in problems:
            if problem.level == "error" or not session.options.quiet:
                session.err.put(f"{problem}\n")


def _describe(
    session: Session,
    targets: Mapping[str, TargetConfig],
    settings: Mapping[str, Resolved],
    checks: Mapping[str, Check | None],
) -> None:
    for name, config in targets.items():
        check = checks.get(name)
        counts = {count.name: count for count in check.policies} if check else {}
        lines = [*summary_lines(config, settings[name], counts), *_stores(check.stores if check else ())]
        session.line(f"{name} ({config.kind})", *(f"  {line}" for line in lines))


def tell_problem(session: Session, target: str, problem: RetentiondError) -> None:
    """Report a problem; statements that grant missing rights follow one a line, to be copied."""
    if isinstance(problem, MissingRightError) and problem.statements:
        session.error(printable(problem.summary, _TEXT_LIMIT), about=target)
        for statement in problem.statements:
            session.err.print(Text(f"  {printable(statement, _TEXT_LIMIT)}"), soft_wrap=True)
    else:
        session.error(sentence(str(problem), _TEXT_LIMIT), about=target)


def _stores(stores: Sequence[StoreOverview]) -> Iterator[str]:
    if stores:
        yield "found:"
    for store in stores:
        spread = (
            ""
            if store.shards is None or store.replicas is None
            else f", {count_in_words(store.shards, 'shard')}, {store.replicas:,} with their replicas"
        )
        yield f"  {store.version}{spread}"
        for account, rows in store.accounts.items():
            noun = _ITEMS[store.store]
            oldest = f", the oldest of {rows.oldest}" if rows.oldest else ""
            yield f"    {printable(account)}: {count_in_words(rows.items, noun)}{oldest}"


def _as_json(
    session: Session,
    problems: Sequence[Problem],
    warnings: Sequence[Problem],
    checks: Mapping[str, Check | None],
) -> dict[str, Any]:
    return {
        "config": str(session.config_path),
        "problems": [asdict(problem) for problem in problems],
        "warnings": [asdict(problem) for problem in warnings],
        "targets": [
            {
                "target": name,
                "problems": None if check is None else [redact(str(problem)) for problem in check.problems],
                "policies": None if check is None else [count.as_json() for count in check.policies],
                "notes": None if check is None else list(check.notes),
                "rights": None if check is None else check.rights,
                "stores": None if check is None else [store.as_json() for store in check.stores],
            }
            for name, check in checks.items()
        ],
    }


def _resolved(config: Config, document: Document, file: str) -> dict[str, Resolved]:
    """Read the files that it names as well, and look for the extras; raise ConfigError with all problems."""
    settings: dict[str, Resolved] = {}
    problems: list[Problem] = []
    for name, target in config.targets.items():
        try:
            settings[name] = resolve_target(target)
        except ConfigError as error:
            # Several targets may name one file.
            problems += [problem for problem in error.problems if problem not in problems]
        problems += [
            Problem(file, None, None, f"targets.{name}.{section}", message, hint)
            for section, message, hint in missing_extras(target)
        ]
    problems += certificate_problems(document, config)
    if problems:
        raise ConfigError(problems)
    return settings


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


def _rooms(config: RoomTarget, settings: RoomSettings, counts: Mapping[str, PolicyCount]) -> Iterator[str]:
    for component, url in settings.databases.items():
        if url != settings.database:
            yield f"  {component}: {printable(redacted(url), _TEXT_LIMIT)}"
    address = config.admin_api.url or str(config.admin_api.unix_socket)
    yield f"admin API: {printable(address, _TEXT_LIMIT)}"
    yield f"server:    {printable(', '.join(sorted(settings.server_names)), _TEXT_LIMIT)}"
    yield f"schedule:  {printable(schedule_in_words(config.schedule))}"
    yield f"cool-off:  {age_in_words(config.cool_off)}, whatever a policy says"
    for number, policy in enumerate(config.policies, 1):
        keep = "kept forever" if policy.keep is None else f"purged after {age_in_words(policy.keep)}"
        yield f"policy {number}:  {printable(policy.name)}: {keep}{_count(counts.get(policy.name))}"
    yield "           rooms without a policy, and rooms with local members, are kept"


def _count(count: PolicyCount | None) -> str:
    if count is None:
        return ""
    due = "" if count.due is None else f", {count.due:,} due"
    entries = "1 entry" if count.items == 1 else f"{count.items:,} entries"
    return f" ({entries} now{due})"


_SUMMARIES: Final[Mapping[type, Callable[[Any, Any, Mapping[str, PolicyCount]], Iterator[str]]]] = {
    MediaTarget: _media,
    ChatTarget: _chats,
    RoomTarget: _rooms,
}
# A section without a summary must not print that of another.
if set(_SUMMARIES) != set(KINDS.values()):
    raise TypeError("cli/check_config.py: _SUMMARIES must have each section of a target, and no other")
