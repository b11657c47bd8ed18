"""`init`: a first configuration from what is on this machine, its check and its plan; written once it is confirmed."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
import os
import pwd
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Final

import typer

from retentiond.cli.check_config import CheckConfig, tell_problem
from retentiond.cli.options import commands, example
from retentiond.cli.plan import Plan
from retentiond.cli.session import Scope, Session, Work, agreed
from retentiond.config.chats import ChatLimits, Floor
from retentiond.config.connection import ConnectionStringError, password_of, to_url
from retentiond.config.dendrite_paths import Mount, compose_mounts, find_configuration, find_media
from retentiond.config.dendrite_yaml import media_directory
from retentiond.config.example import example_config
from retentiond.config.load import ReferenceProblemError, resolve_reference
from retentiond.config.media import Limits
from retentiond.config.new_file import (
    DROP_IN,
    as_account,
    check_new,
    drop_in,
    has_service,
    may_write,
    service_user,
    write_drop_in,
    write_new,
)
from retentiond.config.problems import ConfigError
from retentiond.model.errors import MissingRightError, RefusedError, UsageError
from retentiond.model.text import printable
from retentiond.targets.chat_database.discovery import Accounts, find_accounts

app = commands()


@app.command(
    epilog=example(
        "retentiond init",
        "retentiond init --dendrite-config /etc/dendrite/dendrite.yaml --yes",
        "retentiond init --chats 'postgresql://retentiond@/webim?host=/run/postgresql'",
    )
)
def init(
    dendrite_config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="dendrite's configuration; by default it is looked for."),
    ] = None,
    media_path: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="dendrite's media directory, where its configuration does not say it."
        ),
    ] = None,
    chats: Annotated[
        str | None,
        typer.Option(
            metavar="DATABASE",
            help="For the chats of a live-chat product: their database, as a connection string without a password, or file:PATH.",
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT", help="With --chats: the layout of the tables, if it cannot be known by them."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write; default: the configuration file.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Write the file without a question.")] = False,
) -> Work:
    """Make a configuration from what is on this machine.

    The command looks for dendrite's configuration, or for the accounts of a chat database. It checks what a pass needs, shows
    what a pass would delete, and asks before it writes the file. Nothing else is changed, and no file is overwritten.
    """
    if chats is not None and (dendrite_config is not None or media_path is not None):
        raise UsageError(
            "--chats excludes --dendrite-config and --media-path; make one configuration at a time"
        )
    if layout is not None and chats is None:
        raise UsageError("--layout needs --chats, the database of the chats")
    source = MediaSource(dendrite_config, media_path) if chats is None else ChatSource(chats, layout)
    return Init(source, output, yes)


_TEXT_LIMIT: Final = 300
_LIMITS: Final = frozenset({*Limits.model_fields, *ChatLimits.model_fields})


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a configuration, its user where a command must run as another one, and what to say about it."""

    text: str
    owner: int | None = None
    group: int | None = None
    notes: tuple[str, ...] = ()
    next_steps: tuple[str, ...] = ()
    """Commands of retentiond, without its name."""
    media: Path | None = None
    """The media directory that the service must be able to write, if it is one of this machine."""


@dataclass(frozen=True, slots=True)
class Init:
    """Make a configuration, show it with its check and plan, and write it if that is confirmed."""

    source: "MediaSource | ChatSource"
    output: Path | None = None
    yes: bool = False

    def __call__(self, session: Session) -> int:
        """Raise UsageError if a file is there already, or if what it needs is not found."""
        path = Path(os.path.abspath(self.output or session.config_path))
        check_new(path)
        asks = session.environment.stdin.isatty() and not self.yes
        if (asks or self.yes) and not may_write(path):
            raise UsageError(
                f"this user may not write {printable(str(path), _TEXT_LIMIT)}; run `init` as root, or name another file with --output FILE"
            )
        draft = self.source.draft(session)
        if isinstance(draft, int):
            return draft
        for_service = self.output is None and session.options.config is None and os.geteuid() == 0
        if self.output is not None:
            session.options.config = path
        unit = None
        if for_service and draft.media is not None and draft.owner is not None and draft.group is not None:
            unit = drop_in(session.environment.root, draft.owner, draft.group, draft.media)
        return self._offer(session, path, draft, unit, asks=asks)

    def _offer(self, session: Session, path: Path, draft: Draft, unit: str | None, *, asks: bool) -> int:
        session.draft = draft.text
        if not session.options.quiet:
            _print_configuration(session, path, draft, unit)
        check = CheckConfig(connect=True)
        with as_account(draft.owner, draft.group):
            status = _look(session, check)
        if status == UsageError.exit_status:
            session.note("nothing was written")
            return status
        if not self.yes and not asks:
            session.note("nothing was written; not a terminal: confirm with --yes")
            return status
        name = printable(str(path), _TEXT_LIMIT)
        if asks and not agreed(session, f"Write {name}{', all the same' if _hindered(check) else ''}?"):
            session.note("nothing was written")
            return status
        session.draft = None
        write_new(path, draft.text, draft.group)
        if unit is not None:
            write_drop_in(session.environment.root, unit)
        session.line(f"Written: {name}. Next:", *_next_steps(session, draft, check))
        return status


def _look(session: Session, check: CheckConfig) -> int:
    """Check the configuration and show its plan, and return the exit status."""
    status = check(session)
    if status == UsageError.exit_status:
        return status
    if not _hindered(check):
        return Plan(Scope())(session)
    if any(result is not None and result.policies for result in check.checks.values()):
        Plan(Scope())(session)
    else:
        session.note("the plan needs what is missing; correct it, then run `retentiond plan`")
    return status


def _hindered(check: CheckConfig) -> bool:
    """Return whether something stands in the way of a pass, besides a limit, which the user can allow once."""
    return any(
        result is None
        or any(
            not isinstance(problem, RefusedError) or problem.refusal.limit not in _LIMITS
            for problem in result.problems
        )
        for result in check.checks.values()
    )


def _print_configuration(session: Session, path: Path, draft: Draft, unit: str | None) -> None:
    """Print the whole text where a program reads it, and the keys that are set on a terminal."""
    session.line(*draft.notes)
    if session.out.is_terminal:
        keys = [
            line for line in draft.text.splitlines() if line.strip() and not line.lstrip().startswith("#")
        ]
        session.line("The configuration, without its comments:", *(f"  {line}" for line in keys), "")
    else:
        session.out.put(f"# {printable(str(path), _TEXT_LIMIT)}\n{draft.text}\n")
    if unit is not None:
        settings = [line for line in unit.splitlines() if line.partition("=")[2]]
        session.line(f"The service, in /{DROP_IN}:", *(f"  {line}" for line in settings), "")


def _next_steps(session: Session, draft: Draft, check: CheckConfig) -> Iterator[str]:
    """Yield the next two commands, for the user that they must run as, or for the compose file."""
    steps = ("check-config --connect", "plan") if _hindered(check) else draft.next_steps
    over = " --yes" if _is_limited(check) else ""
    if session.environment.variables.get("container") and not has_service(session.environment.root):
        for step in steps:
            once = f"run --rm retentiond-once {step}{over if step.startswith('once ') else ''}"
            yield f"  docker compose … {'up -d retentiond' if step == 'run' else once}"
        return
    user = ""
    if draft.owner and os.geteuid() == 0:
        try:
            user = f"sudo -u {quote(pwd.getpwuid(draft.owner).pw_name)} "
        except KeyError:
            user = f"sudo -u '#{draft.owner}' "
    config = f" --config {quote(str(session.options.config))}" if session.options.config else ""
    for step in steps:
        if step == "run" and not config and has_service(session.environment.root):
            yield "  systemctl enable --now retentiond"
            continue
        yield printable(f"  {user}retentiond{config} {step}{over if step.startswith('once ') else ''}", 1000)


def _is_limited(check: CheckConfig) -> bool:
    return any(result is not None and result.problems for result in check.checks.values())


@dataclass(frozen=True, slots=True)
class MediaSource:
    """dendrite on this machine: its configuration, and its media directory."""

    file: Path | None
    media_path: Path | None

    def draft(self, session: Session) -> Draft:
        """Find them; raise UsageError if they are not found, or if several are."""
        directory = _working_directory()
        mounts = compose_mounts(directory)
        file = self._configuration(session, directory, mounts)
        media = self._media(session, file, mounts)
        values: dict[str, Any] = {"dendrite_config": str(file)}
        if media is not None:
            values["media_path"] = str(media)
        text = example_config("dendrite_media", values)
        found = media or media_directory(file)
        owner, group = _owner(found)
        notes = [f"dendrite's configuration: {printable(str(file), _TEXT_LIMIT)}"]
        if found is not None and not found.is_dir() and mounts:
            notes.append(
                "These are the paths and host names of dendrite's container. If they differ here, run `init` in a container with the same "
                "volumes and network, or name the directory with --media-path DIR."
            )
        return Draft(text, owner, group, tuple(notes), ("once media", "run"), found)

    def _configuration(self, session: Session, directory: Path | None, mounts: tuple[Mount, ...]) -> Path:
        if self.file is not None:
            return Path(os.path.abspath(self.file))
        search = find_configuration(session.environment.root, directory, mounts)
        if not search.found:
            looked_at = ", ".join(str(path) for path in search.looked_at)
            raise UsageError(
                f"dendrite's configuration was not found at {printable(looked_at, 2000)}; name it: {_command('--dendrite-config FILE')}"
            )
        if len(search.found) > 1:
            choices = [_command(f"--dendrite-config {quote(str(path))}") for path in search.found]
            raise UsageError(
                f"several configurations of dendrite are here; choose one: {' or '.join(choices)}"
            )
        return search.found[0]

    def _media(self, session: Session, file: Path, mounts: tuple[Mount, ...]) -> Path | None:
        """Return the media directory if dendrite's file does not name that of this machine."""
        if self.media_path is not None:
            return Path(os.path.abspath(self.media_path))
        written = media_directory(file)
        if written is None:
            return None  # the check reports it
        search = find_media(written, file, session.environment.root, mounts)
        if len(search.found) == 1:
            return None if search.found[0] == written else search.found[0]
        if search.found:
            choices = [
                _command(f"--dendrite-config {quote(str(file))} --media-path {quote(str(path))}")
                for path in search.found
            ]
            raise UsageError(
                f"several directories may be dendrite's media directory; choose one: {' or '.join(choices)}"
            )
        if written.is_absolute():
            return None
        looked_at = ", ".join(str(path) for path in search.looked_at)
        words = _command(f"--dendrite-config {quote(str(file))} --media-path DIR")
        raise UsageError(
            f"dendrite's media directory `{printable(str(written), _TEXT_LIMIT)}` is relative to dendrite's working directory, and was not "
            f"found at {printable(looked_at, 2000)}; name it: {words}"
        )


def _command(words: str) -> str:
    return printable(f"`retentiond init {words}`", 1000)


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except OSError:
        return None


def _owner(media: Path | None) -> tuple[int | None, int | None]:
    """Return the user that retentiond runs as, the owner of the media, and the group that may read its configuration."""
    if media is None or os.geteuid() != 0:
        return None, None
    try:
        about = media.stat()
    except OSError:
        return None, None
    try:
        return about.st_uid, pwd.getpwuid(about.st_uid).pw_gid
    except KeyError:
        return about.st_uid, about.st_gid


@dataclass(frozen=True, slots=True)
class ChatSource:
    """The chats of a live-chat product: their database, and the layout of the tables if it is known."""

    database: str
    layout: str | None

    def draft(self, session: Session) -> Draft | int:
        """Find the accounts; return the exit status if this role may not read them."""
        dsn = self._dsn(session)
        account = service_user(session.environment.root) if os.geteuid() == 0 else None
        owner, group = (account.pw_uid, account.pw_gid) if account else (None, None)
        found: list[Accounts] = []

        async def find() -> int:
            found.append(await find_accounts(dsn, self.layout))
            return 0

        try:
            with as_account(owner, group):
                session.run(find())
        except MissingRightError as error:
            tell_problem(session, "chats", error)
            return error.exit_status
        except ConfigError as error:
            raise UsageError(str(error)) from None
        (accounts,) = found
        values = {"database": self.database, "layout": accounts.layout, "accounts": accounts.accounts}
        first = quote(next(iter(accounts.accounts)))
        day = (session.environment.now() - Floor().facts - timedelta(days=1)).date()
        purge = f"purge-chats --account {first} --to-date {day}"
        notes = (f"accounts found: {printable(', '.join(accounts.accounts), 1000)}",)
        return Draft(
            example_config("chat_database", values), owner, group, notes, (f"{purge} --dry-run", purge)
        )

    def _dsn(self, session: Session) -> str:
        """Return the URL; raise UsageError for a password that would be written to the file."""
        try:
            resolved = resolve_reference(self.database, session.environment.variables)
            dsn = to_url(resolved)
        except ReferenceProblemError as error:
            raise UsageError(f"--chats: {error}; {error.hint}") from None
        except ConnectionStringError as error:
            raise UsageError(f"--chats: {error}") from None
        if resolved == self.database and (password_of(resolved) or "sslpassword" in resolved):
            raise UsageError(
                "the connection string has a password, and `init` writes no password; put the string into a file of its own, such as "
                "/etc/retentiond/database-url (mode 0640, group of the service), and use --chats file:/etc/retentiond/database-url, or "
                "credential:NAME with LoadCredential= in the unit"
            )
        return dsn
