"""Chats of a made-up product at random, with the truth of each beside: exactly what is due goes, and is counted."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from retentiond.config.chats import ChatTarget
from retentiond.engine.target import Erasure, PassOptions, PurgeRequest
from retentiond.model.holds import HoldRequest, HoldSubject, Narrowing
from retentiond.targets.chat_database import orphan_batch, orphan_removal
from retentiond.targets.chat_database.target import ChatDatabase, open_chat_database
from tests.support.chance import AGAIN, NIGHTLY, SEED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg

    from retentiond.model.purge import PurgeReport


ZONES: Final = (
    "UTC",
    "Asia/Tokyo",
    "America/Los_Angeles",
    "Pacific/Kiritimati",
    "Asia/Kathmandu",
    "Europe/Moscow",
)
ACCOUNTS: Final = ("one", "two")
FILE: Final = 13
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_COLUMNS: Final = {
    "timestamptz": "timestamptz",
    "timestamp": "timestamp",
    "seconds": "bigint",
    "milliseconds": "bigint",
}
# The type of a chat's key, and those that a column which names one may have.
_KEYS: Final = {
    "bigint": ("bigint", "integer", "numeric"),
    "integer": ("integer", "bigint", "smallint"),
    "numeric": ("numeric", "bigint"),
    "text": ("text", "varchar(60)"),
    "varchar(60)": ("varchar(60)", "text"),
    "uuid": ("uuid",),
}
_VISITORS: Final = ("bigint", "text", "numeric", "uuid", "char(40)")


@dataclass
class Chat:
    """A chat; one that is `missing` has rows, and none of its own."""

    key: str
    account: str
    created: datetime | None
    modified: datetime | None
    state: str
    visitor: str | None
    session: int | None
    missing: bool = False


@dataclass
class Message:
    """A message of a chat, or of none."""

    key: int
    chat: str | None
    account: str | None
    created: datetime | None
    kind: int


@dataclass
class Hold:
    """What is held: all of an account, or a chat, a visitor or days of it."""

    account: str
    chat: str | None = None
    visitor: str | None = None
    begin: date | None = None
    end: date | None = None


@dataclass
class Truth:
    """The tables as they are to be after all that was done."""

    chance: Random
    now: datetime
    chats: dict[str, Chat] = field(default_factory=dict)
    messages: dict[int, Message] = field(default_factory=dict)
    # The message that a file hangs on, and the chat that a rating, and a label, hangs on.
    notes: dict[int, int] = field(default_factory=dict)
    ratings: list[tuple[str | None, str | None]] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)
    sessions: set[int] = field(default_factory=set)
    holds: list[Hold] = field(default_factory=list)

    def __post_init__(self) -> None:
        pick = self.chance.choice
        self.key_type = pick(list(_KEYS))
        self.naming_type = pick(_KEYS[self.key_type])
        self.visitor_type = pick(_VISITORS)
        self.shared = pick([True, False])
        self.of_messages = self.shared and pick([True, False])
        self.dates = pick(list(_COLUMNS))
        self.zone = ZoneInfo(pick(ZONES))
        self.date_zone = ZoneInfo(pick(ZONES))
        self.guarded = (
            pick(["none", "none", "not valid", "valid"]) if self.naming_type == self.key_type else "none"
        )
        self.partitioned = self.dates == "timestamptz" and self.guarded == "none" and pick([True, False])
        self.floor_day = (self.now - timedelta(days=365)).astimezone(self.zone).date()
        self.tomorrow = self.now.astimezone(self.zone).date() + timedelta(days=1)
        self.to_date = self.floor_day - timedelta(days=pick([0, 0, 1, 300]))

    def layout(self, path: Path) -> str:
        """Write the layout, and return its path."""
        entities: dict[str, Any] = {
            "chat": {
                "class": "facts",
                "key": "id",
                "dates": ["created", "modified"],
                "state": {"column": "state", "over": ["over", "left"]},
                "visitor": "visitor",
            },
            "message": {
                "class": "messages",
                "key": "id",
                "parent": "chat",
                "column": "chat",
                "dates": ["created"],
                "files": {"column": "kind", "values": [FILE, FILE + 1]},
            },
            "note": {"class": "messages", "parent": "message", "column": "message"},
            "rating": {"class": "facts", "parent": "chat", "column": "chat"},
            "label": {
                "class": "facts",
                "parent": "chat",
                "column": "owner",
                "rows": {"column": "owner_type", "values": ["Chat"]},
            },
            "session": {"class": "facts", "key": "id", "shared_by": "session"},
        }
        if self.shared:
            entities["chat"]["account_column"] = "account"
        if self.of_messages:
            entities["message"]["account_column"] = "account"
        dates: dict[str, Any] = {"type": self.dates}
        if self.dates == "timestamp":
            dates["timezone"] = self.date_zone.key
        made = {"chat": "chat", "dates": dates, "entities": entities}
        if self.shared:
            made["schema"] = "shop"
        path.write_text(json.dumps(made))
        return str(path)

    def accounts(self) -> dict[str, Any]:
        """Return the accounts for the configuration."""
        if self.shared:
            return {name: {"value": name} for name in ACCOUNTS}
        return {"one": {"schema": "shop"}}

    def _date(self) -> datetime | None:
        draw = self.chance.random()
        if draw < 0.06:
            return self.chance.choice([None, EARLIEST - timedelta(days=3), EARLIEST])
        base = self.chance.choice([self.to_date, self.to_date, self.floor_day, self.tomorrow])
        midnight = datetime(base.year, base.month, base.day, tzinfo=self.zone)
        spread = self.chance.choice([0, 2, 3600, 50_000, 100 * 86_400])
        moment = midnight.astimezone(UTC) + timedelta(seconds=self.chance.uniform(-spread, spread / 2))
        if draw < 0.5:
            moment -= timedelta(days=self.chance.uniform(1, 700))
        if self.dates == "seconds":
            return moment.replace(microsecond=0)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def _key(self, number: int) -> str:
        return {
            "text": f"c-{number}" if number % 2 else f"C {number}",
            "varchar(60)": f"c'{number}\\",
            "uuid": str(UUID(int=number)),
        }.get(self.key_type, str(number))

    def visitor(self, number: int) -> str:
        """Return the ID of a visitor as its column has it."""
        return {"uuid": str(UUID(int=number)), "text": f"v{number}", "char(40)": f"v{number}"}.get(
            self.visitor_type, str(number)
        )

    def fill(self) -> None:
        """Draw all rows."""
        chance = self.chance
        self.sessions = set(range(1, 8))
        for number in range(1, chance.randint(15, 60)):
            created = self._date()
            later = None if created is None else created + timedelta(seconds=chance.choice([0, 0, 1, 9000]))
            chat = Chat(
                self._key(number),
                chance.choice(ACCOUNTS) if self.shared else "one",
                created,
                chance.choice([later, later, later, self._date()]),
                chance.choice(["over", "over", "over", "left", "open", ""]),
                chance.choice([None, *map(self.visitor, (1, 2, 3, 11))]),
                chance.choice([None, *self.sessions]),
                missing=self.guarded == "none" and chance.random() < 0.3,
            )
            if self.dates == "seconds" and chat.modified:
                chat.modified = chat.modified.replace(microsecond=0)
            self.chats[chat.key] = chat
            for _ in range(chance.randint(0, 4)):
                self._message(chat)
            for _ in range(chance.randint(0, 2)):
                self.ratings.append((chat.key, chat.account))
                self.labels.append((chat.key, chance.choice(["Chat", "Other"])))
        for _ in range(chance.randint(0, 4)):
            self._message(None)
        self.ratings.append((None, None))
        for _ in range(chance.choice([0, 0, 1, 2])):
            self.holds.append(self._hold())

    def _message(self, chat: Chat | None) -> None:
        chance, key = self.chance, len(self.messages) + 1
        account: str | None = chat.account if chat else chance.choice(ACCOUNTS)
        if self.of_messages and chance.random() < 0.05:
            account = chance.choice([None, *ACCOUNTS])
        date_of = self._date() if chat is None or chance.random() < 0.2 else chat.created
        if self.partitioned and date_of is None:
            date_of = chat.created if chat and chat.created else self.now
        self.messages[key] = Message(
            key, chat.key if chat else None, account, date_of, chance.choice([1, 1, 2, FILE, FILE + 1])
        )
        if chance.random() < 0.4:
            self.notes[len(self.notes) + 1] = key

    def _hold(self) -> Hold:
        chance = self.chance
        hold = Hold(chance.choice(list(self.accounts())))
        match chance.randint(0, 7):
            case 0:
                pass
            case 1 | 2 | 3:
                hold.chat = chance.choice(list(self.chats))
            case 4 | 5:
                hold.visitor = self.visitor(chance.choice([1, 2, 11]))
            case _:
                hold.begin = self.to_date - timedelta(days=chance.randint(0, 400))
                hold.end = hold.begin + timedelta(days=chance.randint(1, 40))
        return hold

    async def write(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Make the tables, and fill them."""
        when, key, naming, visitor = _COLUMNS[self.dates], self.key_type, self.naming_type, self.visitor_type
        parted = "PARTITION BY RANGE (created)" if self.partitioned else ""
        message_key = "" if self.partitioned else "PRIMARY KEY"
        await connection.execute(
            "CREATE SCHEMA shop; SET search_path = shop;"
            "CREATE TABLE session (id bigint PRIMARY KEY);"
            f"CREATE TABLE chat (id {key} PRIMARY KEY, account text, created {when}, modified {when}, state text, "
            f"visitor {visitor}, session bigint);"
            f"CREATE TABLE message (id bigint {message_key}, chat {naming}, account text, created {when}, kind integer) {parted};"
            "CREATE TABLE note (id bigint, message bigint);"
            f"CREATE TABLE rating (chat {naming}); CREATE TABLE label (owner {naming}, owner_type text);"
            "CREATE INDEX ON chat (session); CREATE INDEX ON chat (visitor); CREATE INDEX ON message (chat);"
            "CREATE INDEX ON message (id); CREATE INDEX ON note (message); CREATE INDEX ON rating (chat);"
            "CREATE INDEX ON label (owner)"
        )
        if self.partitioned:
            for number, (begin, end) in enumerate(
                [("MINVALUE", "'2024-01-01'"), ("'2024-01-01'", "'2025-06-01'"), ("'2025-06-01'", "MAXVALUE")]
            ):
                await connection.execute(
                    f"CREATE TABLE message_{number} PARTITION OF message FOR VALUES FROM ({begin}) TO ({end})"
                )
        await connection.execute("SET search_path = shop")
        await self._insert(connection, "session", ([one] for one in self.sessions))
        await self._insert(
            connection,
            "chat",
            (
                [
                    c.key,
                    c.account,
                    self._stored(c.created),
                    self._stored(c.modified),
                    c.state,
                    c.visitor,
                    c.session,
                ]
                for c in self.chats.values()
                if not c.missing
            ),
        )
        await self._insert(
            connection,
            "message",
            ([m.key, m.chat, m.account, self._stored(m.created), m.kind] for m in self.messages.values()),
        )
        await self._insert(connection, "note", ([key, message] for key, message in self.notes.items()))
        await self._insert(connection, "rating", ([chat] for chat, _ in self.ratings))
        await self._insert(connection, "label", (list(one) for one in self.labels))
        for table, column in (("message", "chat"), ("rating", "chat")):
            if self.guarded != "none":
                valid = "" if self.guarded == "valid" else "NOT VALID"
                await connection.execute(
                    f"ALTER TABLE {table} ADD FOREIGN KEY ({column}) REFERENCES chat (id) {valid}"
                )

    async def _insert(
        self, connection: asyncpg.Connection[asyncpg.Record], table: str, rows: Iterator[list[Any]]
    ) -> None:
        for row in rows:
            values = ", ".join(
                "NULL" if value is None else "'" + str(value).replace("'", "''") + "'" for value in row
            )
            await connection.execute(f"INSERT INTO {table} VALUES ({values})")

    def _stored(self, moment: datetime | None) -> str | None:
        if moment is None:
            return None
        if self.dates == "timestamptz":
            return moment.isoformat()
        if self.dates == "timestamp":
            return moment.astimezone(self.date_zone).replace(tzinfo=None).isoformat()
        factor = 1 if self.dates == "seconds" else 1000
        return str(round(moment.timestamp() * factor))

    async def read(self, connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, Any]:
        """Return the tables as they are."""

        async def rows(statement: str) -> Counter[Any]:
            return Counter([tuple(row) for row in await connection.fetch(statement)])

        return {
            "chat": await rows("SELECT id::text FROM shop.chat"),
            "message": await rows("SELECT id FROM shop.message"),
            "note": await rows("SELECT id FROM shop.note"),
            "rating": await rows("SELECT chat::text FROM shop.rating"),
            "label": await rows("SELECT owner::text, owner_type FROM shop.label"),
            "session": await rows("SELECT id FROM shop.session"),
        }

    def expected(self) -> dict[str, Any]:
        """Return the tables as they are to be."""
        return {
            "chat": Counter([(c.key,) for c in self.chats.values() if not c.missing]),
            "message": Counter([(key,) for key in self.messages]),
            "note": Counter([(key,) for key in self.notes]),
            "rating": Counter([(chat,) for chat, _ in self.ratings]),
            "label": Counter(self.labels),
            "session": Counter([(one,) for one in self.sessions]),
        }

    def cutoff(self, day: date) -> datetime:
        """Return the first moment of a day."""
        return datetime(day.year, day.month, day.day, tzinfo=self.zone).astimezone(UTC)

    def _of(self, chat: Chat) -> list[Message]:
        return [message for message in self.messages.values() if message.chat == chat.key]

    def verdict(self, chat: Chat, cutoff: datetime, *, files: bool) -> str:
        """Judge a chat of the database."""
        dates = [chat.created, chat.modified, *(message.created for message in self._of(chat))]
        if chat.state not in ("over", "left"):
            return "open"
        if any(one is None or one < EARLIEST for one in dates[:2]):
            return "undated"
        if any(one is not None and one >= cutoff for one in dates):
            return "newer"
        if any(one is None or one < EARLIEST for one in dates):
            return "undated"
        last = max(one for one in dates if one)
        if any(self._covers(hold, chat, last) for hold in self.holds):
            return "hold"
        if not files and any(message.kind >= FILE for message in self._of(chat)):
            return "has_file_messages"
        return "due"

    def _covers(self, hold: Hold, chat: Chat, last: datetime) -> bool:
        return (
            (hold.account == chat.account)
            and hold.chat in (None, chat.key)
            and hold.visitor in (None, chat.visitor)
            and (hold.begin is None or last >= self.cutoff(hold.begin))
            and (hold.end is None or (chat.created or last) < self.cutoff(hold.end))
        )

    def _lose_message(self, message: Message) -> None:
        del self.messages[message.key]
        self.notes = {key: of for key, of in self.notes.items() if of != message.key}

    def _lose_hanging(self, chats: set[str]) -> None:
        self.ratings = [one for one in self.ratings if one[0] not in chats]
        self.labels = [one for one in self.labels if one[0] not in chats or one[1] != "Chat"]

    def purge(self, account: str, *, files: bool, orphans: bool) -> None:
        """Purge an account."""
        cutoff = self.cutoff(self.to_date)
        theirs = [c for c in self.chats.values() if c.account == account and not c.missing]
        verdicts = {
            c.key: self.verdict(c, cutoff, files=files)
            for c in theirs
            if c.created is None or c.created < cutoff
        }
        self._go(verdicts)
        if orphans:
            self._purge_orphans(account, cutoff, files=files)

    def _go(self, verdicts: dict[str, str]) -> None:
        due = {key for key, verdict in verdicts.items() if verdict == "due"}
        stripped = {key for key, verdict in verdicts.items() if verdict == "has_file_messages"}
        for message in list(self.messages.values()):
            if message.chat in due or (message.chat in stripped and message.kind < FILE):
                self._lose_message(message)
        self._lose_hanging(due | stripped)
        sessions = {self.chats[key].session for key in due}
        for key in due:
            del self.chats[key]
        named = {chat.session for chat in self.chats.values() if not chat.missing}
        self.sessions -= sessions - named

    def _purge_orphans(self, account: str, cutoff: datetime, *, files: bool) -> None:
        if self.shared and not self.of_messages:
            return
        if not any(not chat.missing for chat in self.chats.values()):
            return
        on_all = any(hold.account == account and hold.chat is None for hold in self.holds)
        held = {hold.chat for hold in self.holds if hold.account == account}

        def old(message: Message) -> bool:
            return message.created is not None and EARLIEST <= message.created < cutoff

        for chat in [one for one in self.chats.values() if one.missing]:
            messages = self._of(chat)
            ours = not self.shared or all(message.account == account for message in messages)
            if not messages or not ours or not all(map(old, messages)) or on_all or chat.key in held:
                continue
            for message in messages:
                if files or message.kind < FILE:
                    self._lose_message(message)
            self._lose_hanging({chat.key})
        for message in [one for one in self.messages.values() if one.chat is None]:
            ours = not self.shared or message.account == account
            if ours and old(message) and not on_all and (files or message.kind < FILE):
                self._lose_message(message)

    def erase(self, account: str, visitor: str, *, even_under_floor: bool) -> str | None:
        """Erase a visitor; return the limit that refuses it."""
        first = self.tomorrow if even_under_floor else min(self.floor_day, self.tomorrow)
        cutoff = self.cutoff(first)
        theirs = [
            c for c in self.chats.values() if c.account == account and c.visitor == visitor and not c.missing
        ]
        judged = {
            c.key: self.verdict(c, cutoff, files=True)
            for c in theirs
            if c.created is None or c.created < cutoff
        }
        if "hold" in judged.values():
            return "hold"
        if theirs and not judged and not even_under_floor:
            return "floor"
        self._go(judged)
        return None


_SEEDS = 40 if NIGHTLY else 4


def went(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """Count the rows that went, by table."""
    return {table: before[table].total() - after[table].total() for table in before}


def counted(report: PurgeReport) -> dict[str, int]:
    """Return what a report, or a plan, says of it."""
    told = Counter(report.entities)
    told.update(report.orphans.removed)
    if report.dry_run and report.orphans.requested and report.orphans.found and not report.orphans.refused:
        told.update(report.orphans.found.due)
    if report.refused is not None:
        told.clear()
    return dict(told)


async def put_on_holds(target: ChatDatabase, truth: Truth) -> None:
    """Put the holds on."""
    for hold in truth.holds:
        narrowing = Narrowing(chat=hold.chat, visitor=hold.visitor, begin=hold.begin, before=hold.end)
        await target.holds.add(HoldRequest(HoldSubject("account", hold.account, narrowing)))


@pytest.mark.parametrize("number", range(_SEEDS))
async def test_purges_orphans_and_erasures_take_exactly_what_is_due_from_any_tables(
    database: str,
    connection: asyncpg.Connection[asyncpg.Record],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
) -> None:
    chance = Random(f"{SEED} {number}")
    truth = Truth(chance, datetime.now(UTC))
    truth.fill()
    await truth.write(connection)
    config = ChatTarget.model_validate(
        {
            "kind": "chat_database",
            "database": database,
            "layout": truth.layout(tmp_path / "layout.yaml"),
            "accounts": truth.accounts(),
            "timezone": truth.zone.key,
            "pace": {"batch": chance.choice([1, 2, 7, 1000])},
            "create_index": True,
        }
    )
    most = chance.choice([1, 3, 10_000])
    for module in (orphan_batch, orphan_removal):
        monkeypatch.setattr(module, "MOST_ROWS", most)
    said = f"{AGAIN}; number {number}"
    recorded: Counter[str] = Counter()
    async with open_chat_database("chats", config) as target:
        await put_on_holds(target, truth)
        for _ in range(chance.randint(1, 4)):
            before = await truth.read(connection)
            account = chance.choice(list(truth.accounts()))
            if chance.random() < 0.5:
                files, orphans = chance.random() < 0.5, chance.random() < 0.7
                request = PurgeRequest(account, truth.to_date, file_messages=files, orphans=orphans)
                what = f"{said}; {request}"
                planned = await target.purge_chats(request, PassOptions("purge-chats"), dry_run=True)
                report = await target.purge_chats(request, PassOptions("purge-chats"), dry_run=False)
                truth.purge(account, files=files, orphans=orphans)
            else:
                visitor, even = truth.visitor(chance.choice([1, 2, 3])), chance.random() < 0.4
                erasure = Erasure(account, visitor, even, "asked for" if even else "")
                what = f"{said}; {erasure}"
                planned = await target.erase(erasure, PassOptions("purge-chats"), dry_run=True)
                report = await target.erase(erasure, PassOptions("purge-chats"), dry_run=False)
                refused = truth.erase(account, visitor, even_under_floor=even)
                assert (report.refused and report.refused.limit) == refused, what
            after = await truth.read(connection)
            assert not report.failed, what
            assert {t: after[t] - truth.expected()[t] for t in after} == {t: Counter() for t in after}, what
            assert {t: truth.expected()[t] - after[t] for t in after} == {t: Counter() for t in after}, what
            gone = went(before, after)
            recorded.update(gone)
            assert {t: counted(report).get(t, 0) for t in gone} == gone, what
            assert {t: counted(planned).get(t, 0) for t in gone} == gone, what
        assert (await target.verify_records()).broken is None
        bodies = [one["body"] async for one in target.records() if one["kind"] == "purged"]
    on_record: Counter[str] = Counter()
    for body in bodies:
        on_record.update(body["rows"])
    assert +on_record == +recorded, said
