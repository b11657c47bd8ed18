"""The demo: a pass on an invented store, from the plan to the purge, with progress on the screen."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import asyncpg
import yaml
from rich.text import Text

from retentiond import __version__
from retentiond.config.media import MediaTarget
from retentiond.demo.cases import cases_table, expected_cases, look_at_cases
from retentiond.demo.chat_show import show_chats
from retentiond.demo.postgres import EmbeddedPostgres
from retentiond.demo.room_show import show_rooms
from retentiond.demo.store import SERVER_NAME, make_tables, make_up_store
from retentiond.engine.target import AuditOptions, PassOptions, Selection
from retentiond.model.errors import UnreachableError, UsageError
from retentiond.model.text import printable
from retentiond.report.page import render, write_page
from retentiond.report.target_report import collect
from retentiond.targets.dendrite_media.target import DendriteMedia, open_dendrite_media
from retentiond.terminal.account import show_pass
from retentiond.terminal.audit import show_audit
from retentiond.terminal.progress import watched
from retentiond.terminal.words import count_in_words, size_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from rich.console import Console

    from retentiond.demo.cases import SeenCase
    from retentiond.demo.options import DemoOptions
    from retentiond.demo.store import MadeUpStore
    from retentiond.engine.target import Progress
    from retentiond.model.report import PassReport

_HEAD: Final = """\
# The demo's store. Load database.sql into an empty database of your own (psql -f), say which it is in
# DEMO_DATABASE (postgresql://...), and look: retentiond --config {path} plan
"""


async def export_demo(server: EmbeddedPostgres, database: str, directory: Path, config: MediaTarget) -> None:
    """Write `database.sql` and `config.yaml` next to the media; raise UnreachableError if the dump fails."""
    await _dump(server, database, directory / "database.sql")
    target = {
        "kind": config.kind,
        "database": "${DEMO_DATABASE}",
        "media_path": str(config.media_path),
        "server_name": list(config.server_name or ()),
        "settle": "0s",
        "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
    }
    path = directory / "config.yaml"
    text = yaml.safe_dump({"targets": {"media": target}}, sort_keys=False)
    path.write_text(_HEAD.format(path=path) + text, encoding="utf-8")


async def _dump(server: EmbeddedPostgres, database: str, path: Path) -> None:
    where = urlsplit(server.dsn(database))
    words = ["--no-owner", "--host", str(where.hostname), "--port", str(where.port)]
    words += ["--username", str(where.username), "--file", str(path), database]
    process = await asyncio.create_subprocess_exec(
        server.programs / "pg_dump",
        *words,
        # Not among the arguments, which every user of this machine can read.
        env={"PGPASSWORD": str(where.password), "PATH": os.defpath, "LC_ALL": "C"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, complaint = await process.communicate()
    if process.returncode:
        raise UnreachableError(
            f"pg_dump failed: {complaint.decode(errors='replace').strip()}; leave out --keep"
        )


_DATABASE: Final = "demo"
_TARGET: Final = "media"
_SEED: Final = 20_170_101


async def run_demo(options: DemoOptions, console: Console, screen: Console | None) -> int:
    """Run the demo on invented media; return 1 if any result is not as expected. Progress bars are for the screen.

    A kept store is a new directory, with a dump of the database. As JSON, only one document is printed, at the end.
    """
    with ExitStack() as stack:
        directory = _directory(stack, options.keep)
        # The server lives as long as the thread that starts it: it must be this one, and no other task waits yet.
        server = stack.enter_context(EmbeddedPostgres({"fsync": "off"}))
        demo = _Demo(server, directory, console, screen, quiet=options.as_json)
        seen = await demo.show(options)
        chats = await show_chats(server, console, quiet=options.as_json) if options.chats else None
        rooms = await show_rooms(server, console, quiet=options.as_json) if options.rooms else None
        if options.keep is not None:
            await export_demo(server, _DATABASE, directory, demo.config)
            demo.say(f"The store, its database's dump and a configuration are kept in {directory}.")
    if options.as_json:
        parts = {"chats": chats, "rooms": rooms}
        document = demo.document(seen) | {name: part.as_json() for name, part in parts.items() if part}
        console.file.write(json.dumps(document, indent=2) + "\n")
    good = all(case.as_it_should_be for case in seen)
    return 0 if good and not any(part.wrong for part in (chats, rooms) if part is not None) else 1


def _directory(stack: ExitStack, keep: Path | None) -> Path:
    if keep is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="retentiond-demo-")))
    try:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise UsageError(f"{keep} is not empty; name a new directory, or an empty one")
    except OSError as error:
        raise UsageError(f"{keep} cannot be made ({error.strerror}); name a new directory") from error
    return keep.absolute()


class _Demo:
    def __init__(
        self,
        server: EmbeddedPostgres,
        directory: Path,
        console: Console,
        screen: Console | None,
        *,
        quiet: bool,
    ) -> None:
        self._server = server
        self._media_path = directory / "media"
        self._console = console
        self._screen = screen
        self._quiet = quiet
        self._passes: list[PassReport] = []
        self._purged: dict[str, int] = {}
        self._findings: dict[str, int] = {}
        self.config = _config(server.dsn(_DATABASE), self._media_path)

    async def show(self, options: DemoOptions) -> list[SeenCase]:
        """Make the store, and run plan, pass, restore and purge on it; return the result of each case."""
        await self._make_database()
        connection = await asyncpg.connect(self._server.dsn(_DATABASE))
        try:
            store = await self._make_store(connection, options.media)
            cases = await expected_cases(connection, store.cases)
            async with open_dendrite_media(_TARGET, self.config) as target:
                await self._plan(target)
                await self._pass(target)
                await self._audit(target)
                await self._restore(target, store)
                if options.report is not None:
                    await self._report(target, options.report)
                await self._purge(target)
            seen = await look_at_cases(connection, self._media_path, cases)
        finally:
            await connection.close()
        if not self._quiet:
            self._console.print(cases_table(seen))
        return seen

    async def _make_database(self) -> None:
        connection = await asyncpg.connect(self._server.dsn())
        try:
            await connection.execute(f"CREATE DATABASE {_DATABASE}")
        finally:
            await connection.close()

    async def _make_store(self, connection: asyncpg.Connection[asyncpg.Record], media: int) -> MadeUpStore:
        self._head(f"A store of {media:,} media")
        began = time.monotonic()
        await make_tables(connection)
        store = await make_up_store(connection, self._media_path, media, _SEED, datetime.now(UTC))
        self.say(
            f"Made in {time.monotonic() - began:.1f} s, in PostgreSQL {self._server.version}: "
            f"{count_in_words(store.rows, 'row')}, {count_in_words(store.thumbnail_rows, 'thumbnail row')}, "
            f"{count_in_words(store.files, 'file')}, {size_in_words(store.size)}; with avatars, emoji, files that "
            "several rows share, a row without its file, a file without a row, and hostile file names."
        )
        return store

    async def _plan(self, target: DendriteMedia) -> None:
        self._head("`retentiond plan`: a dry run of a pass")
        with self._watched() as progress:
            report = await target.plan(None, progress)
        self._show(report, ["Nothing was changed."])

    async def _pass(self, target: DendriteMedia) -> None:
        self._head("`retentiond once`: the pass")
        with self._watched() as progress:
            report = await target.run_pass(PassOptions("demo", progress=progress))
        self._show(report, ["It is in quarantine now, and can be restored."])

    async def _audit(self, target: DendriteMedia) -> None:
        self._head("`retentiond audit`: database and disk compared")
        with self._watched() as progress:
            # Each finding would be a line of the log as well.
            report = await target.audit(AuditOptions("demo", listen=lambda _: None, progress=progress))
        self._findings = {str(kind): tally.items for kind, tally in report.findings.items()}
        if not self._quiet:
            show_audit(self._console, report, [])

    async def _restore(self, target: DendriteMedia, store: MadeUpStore) -> None:
        uri = store.cases.restorable.uri
        self._head(f"`retentiond quarantine restore --media {printable(uri)}`: one comes back")
        report = await target.restore(Selection(media=uri, reason="the demo"))
        self.say(
            f"{count_in_words(len(report.restored), 'row')} back, with its file and its thumbnails; "
            "it is kept from now on."
        )

    async def _report(self, target: DendriteMedia, path: Path) -> None:
        with self._watched() as progress:
            report = await collect(target, self.config, datetime.now(UTC), progress)
        write_page(path, render([report], datetime.now(UTC), __version__))
        self.say(f"The report is in {path}.")

    async def _purge(self, target: DendriteMedia) -> None:
        self._head(
            "`retentiond quarantine purge --yes`: the rest goes for good, without waiting for its grace"
        )
        report = await target.end_grace()
        self._purged = {"blobs": report.purged, "bytes": report.purged_bytes}
        self.say(
            f"{count_in_words(report.purged, 'content')} unlinked, {size_in_words(report.purged_bytes)} freed."
        )

    def _watched(self) -> AbstractContextManager[Progress]:
        return watched(self._screen or self._console, bars=self._screen is not None)

    def _show(self, report: PassReport, next_step: Iterable[str]) -> None:
        self._passes.append(report)
        if not self._quiet:
            show_pass(self._console, report, next_step)

    def _head(self, text: str) -> None:
        if not self._quiet:
            self._console.rule(Text(text, style="bold"), align="left")

    def say(self, text: str) -> None:
        """Print a sentence, unless the output is JSON."""
        if not self._quiet:
            self._console.print(Text(text))
            self._console.print()

    def document(self, seen: list[SeenCase]) -> dict[str, Any]:
        """Return the results as JSON."""
        return {
            "passes": [report.as_json() for report in self._passes],
            "findings": self._findings,
            "purged": self._purged,
            "cases": [case.as_json() for case in seen],
        }


def _config(dsn: str, media_path: Path) -> MediaTarget:
    target = {
        "kind": "dendrite_media",
        "database": dsn,
        "media_path": str(media_path),
        "server_name": SERVER_NAME,
        # Nobody else writes to this store: no upload is on its way that a purge would have to wait for.
        "settle": "0s",
        "policies": [{"name": "remote", "match": {"origin": "remote"}, "keep": "30d"}],
    }
    return MediaTarget.model_validate(target)
