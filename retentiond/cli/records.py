"""`records`: export the proof of disposal, and verify its chain."""

# Typer reads the annotations when it runs: no `from __future__ import annotations`, and no imports for types only.
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from retentiond.cli.options import Json, Targets, commands, example
from retentiond.cli.session import Scope, Session, Work
from retentiond.config.schema import TargetConfig
from retentiond.engine.capabilities import HasRecords, KeepsRooms
from retentiond.model.errors import FAILED, UnreachableError, UsageError
from retentiond.model.records import Chain, Verified, canonical, read_content
from retentiond.model.text import printable
from retentiond.terminal.words import count_in_words

app = commands("Export and verify the proof of disposal.")
_NO_ROOMS = "no purged rooms; name a target of rooms"

_NO_RECORDS = "no records; name a target that has them"


@app.command(epilog=example("retentiond records export media > records.jsonl"))
def export(targets: Targets = None) -> Work:
    """Export all records as JSON lines, oldest first.

    A record says what was deleted, when, and by which rule: identifiers and sizes, never content. Without TARGET all
    targets are exported.
    """
    return Export(Scope(tuple(targets or ())))


@app.command(
    epilog=example(
        "retentiond records rooms rooms", "retentiond records rooms rooms --room '!abc:example.org'"
    ),
)
def rooms(
    targets: Targets = None,
    room: Annotated[
        str | None, typer.Option(metavar="!ROOM:SERVER", help="This room only, by its ID.")
    ] = None,
) -> Work:
    """Print what is kept of purged rooms as JSON lines, oldest first.

    With `keep_state: true` that is the room's state and the IDs of its events: what it was, and how to join it again.
    Without TARGET it covers all targets of rooms.
    """
    return KeptRooms(Scope(tuple(targets or ())), room)


@app.command(
    epilog=example("retentiond records verify", "retentiond records verify --file records.jsonl"),
)
def verify(
    targets: Targets = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Verify a file written by `records export` instead of the ledger."),
    ] = None,
    as_json: Json = False,
) -> Work:
    """Verify the chain of records.

    The exit status is 1 if a record does not match; the first is named. Each record holds the hash of the record before it. Without TARGET all targets are verified.
    """
    return Verify(Scope(tuple(targets or ())), file, as_json)


@dataclass(frozen=True, slots=True)
class Export:
    """Print the records of one target after another, one a line."""

    scope: Scope

    def __call__(self, session: Session) -> int:
        """Stream them, so that memory stays flat."""
        count = 0
        exported: dict[str, str] = {}

        async def on_target(target: HasRecords, _config: TargetConfig) -> int:
            nonlocal count
            async for record in target.records():
                # Targets on one database share its chain, which is exported once: twice it would not verify.
                first = exported.setdefault(str(record.get("store")), target.name)
                if first != target.name:
                    session.note(
                        f"{target.name}: its records are in the chain of {first}, in the same database"
                    )
                    break
                session.out.put(canonical(record) + "\n")
                count += 1
            return 0

        targets = session.capable(self.scope, HasRecords, _NO_RECORDS, anywhere=True)
        status = session.run(session.for_each(targets, on_target))
        # A sum that lacks a target would be taken for the whole.
        if not status:
            session.note(count_in_words(count, "record"))
        return status


@dataclass(frozen=True, slots=True)
class KeptRooms:
    """Print what is kept of the purged rooms of one target after another, a room a line."""

    scope: Scope
    room: str | None = None

    def __call__(self, session: Session) -> int:
        """Stream them, so that memory stays flat."""
        count = 0

        async def on_target(target: KeepsRooms, _config: TargetConfig) -> int:
            nonlocal count
            async for room in target.kept_rooms(self.room):
                session.out.put(json.dumps({"target": target.name} | room) + "\n")
                count += 1
            return 0

        targets = session.capable(self.scope, KeepsRooms, _NO_ROOMS, anywhere=True)
        status = session.run(session.for_each(targets, on_target))
        if not status:
            session.note(count_in_words(count, "room"))
        return status


@dataclass(frozen=True, slots=True)
class Verify:
    """Follow the chain of records, in the ledgers or in a file that was exported."""

    scope: Scope
    file: Path | None = None
    as_json: bool = False

    def __call__(self, session: Session) -> int:
        """Tell of each chain how far it holds; a broken one is a failure."""
        documents: list[dict[str, Any]] = []

        def tell(name: str, verified: Verified) -> int:
            documents.append({"target": name} | verified.as_json())
            _show(session, name, verified, quiet=self.as_json or session.options.quiet)
            return FAILED if verified.broken else 0

        async def on_target(target: HasRecords, _config: TargetConfig) -> int:
            return tell(target.name, await target.verify_records())

        try:
            if self.file is None:
                targets = session.capable(self.scope, HasRecords, _NO_RECORDS, anywhere=True)
                return session.run(session.for_each(targets, on_target))
            if self.scope.names:
                raise UsageError("--file does not go with TARGET: an exported record names its target")
            statuses = [tell(name, verified) for name, verified in _verify_file(self.file)]
            if not statuses:
                session.note(f"{self.file}: {count_in_words(0, 'record')}")
            return max(statuses, default=0)
        finally:
            if self.as_json:
                session.document({"verified": documents})


def _verify_file(path: Path) -> Iterator[tuple[str, Verified]]:
    """Follow the chains of a file, each to its first break; several stores may have been exported into one."""
    chains: dict[str, tuple[str, Chain]] = {}
    broken: set[str] = set()
    try:
        with path.open("rb") as lines:
            for line in lines:
                content = read_content(line)
                sealed, store = content.pop("hash", None), str(content.get("store"))
                if store in broken:
                    continue
                # What is no record says not whose it is: then it is the file that is named.
                name, chain = chains.setdefault(store, (str(content.get("target", path)), Chain()))
                break_here = chain.follow(content, sealed)
                if break_here is not None:
                    broken.add(store)
                    yield name, chain.result(break_here)
    except OSError as error:
        raise UnreachableError(
            f"{printable(str(path))} cannot be read: {error.strerror}; check its name and rights"
        ) from error
    yield from ((name, chain.result()) for store, (name, chain) in chains.items() if store not in broken)


def _show(session: Session, name: str, verified: Verified, *, quiet: bool) -> None:
    first, last = verified.first.number, verified.last.number
    if verified.broken is not None:
        session.error(
            f"{verified.broken}; {count_in_words(verified.records, 'record')} before it fit; compare with a copy "
            "that `retentiond records export` made earlier",
            about=printable(name),
        )
    elif not quiet:
        span = f", {first} to {last}; the newest has the hash {verified.last.hash}" if last else ""
        session.line(
            f"{printable(name)}: {count_in_words(verified.records, 'record')} in an unbroken chain{span}"
        )
