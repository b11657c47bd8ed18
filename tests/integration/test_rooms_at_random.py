"""Rooms at random (members, invites, upgrades, spaces, clocks, media): the plan against an oracle that knows how each was made."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from retentiond.engine.target import NullProgress
from retentiond.ledger.clocks import look_at_clock, save_clock
from retentiond.ledger.ledger import Ledger
from retentiond.targets.dendrite_media.database.rows import SCHEMA as MEDIA_SCHEMA
from retentiond.targets.dendrite_rooms.context import SCHEMA
from tests.support.chance import AGAIN, NIGHTLY, SEED
from tests.support.room_target import RoomRetention

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from retentiond.model.report import Item

    Connection = asyncpg.Connection[asyncpg.Record]

ROOMS: Final = 60
ROUNDS: Final = 300 if NIGHTLY else 8
DAY: Final = 86_400_000
TYPES: Final = {
    "m.room.create": 1,
    "m.room.member": 5,
    "m.room.encryption": 65536,
    "m.room.message": 65537,
    "m.room.tombstone": 65538,
}
BROKEN: Final = ("", "null", "{", '{"origin_server_ts": "soon"}', '{"origin_server_ts": 1e400}', "[1]", '"x"')
LEDGER_TABLES: Final = (
    "retentiond.room_empty, retentiond.hold, retentiond.released_media, retentiond.restored"
)
TABLES: Final = (
    "roomserver_rooms, roomserver_membership, roomserver_events, roomserver_event_json, roomserver_room_aliases,"
    " syncapi_current_room_state, syncapi_output_room_events, syncapi_invite_events, mediaapi_media_repository,"
    f" userapi_profiles, {LEDGER_TABLES}"
)


@dataclass
class Made:
    """One room as it was made: what the oracle judges by."""

    nid: int
    name: str
    creator: str | None = None
    encrypted: bool | None = None
    joined: int = 0
    awaited: int = 0
    disagrees: bool = False
    left: list[int | None] = field(default_factory=list)
    last: int | None = None
    last_nid: int = 0
    events: int = 0
    seen: float | None = None
    successor: str | None = None
    upgraded: int | None = None
    aliases: bool = False
    child: bool = False
    held: bool = False
    media: set[str] = field(default_factory=set)


class Chance:
    """Makes a server at random, in dendrite's tables and in the ledger."""

    def __init__(self, connection: Connection, rng: random.Random, now: datetime) -> None:
        self.connection = connection
        self.rng = rng
        self.now_ms = int(now.timestamp() * 1000)
        self.rooms = {
            name: Made(number, name)
            for number in range(1, ROOMS + 1)
            for name in [f"!r{number}{rng.choice((':here.test', ':there.test', '', ':x*?[]%_.test'))}"]
        }
        self.media = [f"mxc://{rng.choice(('here.test', 'there.test'))}/media{n}" for n in range(25)]
        self.stored = set(rng.sample(self.media, 18))
        self.elsewhere: set[str] = set()
        self.kept: set[str] = set()
        self._event = 0
        self._rows: dict[str, list[tuple[Any, ...]]] = {}

    def row(self, table: str, *values: Any) -> None:
        self._rows.setdefault(table, []).append(values)

    async def make(self) -> None:
        """Fill the tables."""
        for room in self.rooms.values():
            self.make_room(room)
        self.make_spaces()
        self.make_media()
        for table, rows in self._rows.items():
            places = ", ".join(f"${place}" for place in range(1, len(rows[0]) + 1))
            await self.connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)

    def clock(self) -> int:
        """Draw a time as some server may claim it: lately, long ago, before all, or to come."""
        days = self.rng.choice((0.5, 3, 6.9, 8, 20, 100, 400, 20000, -1, -40000))
        return self.now_ms - int(days * DAY)

    def make_room(self, room: Made) -> None:
        rng = self.rng
        self.row("roomserver_rooms (room_nid, room_id, room_version)", room.nid, room.name, "10")
        if rng.random() < 0.9:
            server = rng.choice(("here.test", "there.test", "Far.test"))
            room.creator, room.encrypted = server.lower(), False
            if self.event(room, "m.room.create", "", f"@a:{server}") is None:
                room.creator = None
        for number in range(rng.randrange(3)):
            self.member(room, f"@u{number}:here.test", local=True)
        if rng.random() < 0.5:
            self.member(room, "@far:there.test", local=False)
        if rng.random() < 0.3:
            self.event(room, "m.room.encryption", "", "@a:there.test")
            room.encrypted = None if room.encrypted is None else True
        for _ in range(rng.randrange(4)):
            self.event(room, "m.room.message", None, "@a:there.test", self.mentions(room))
        if rng.random() < 0.25:
            self.upgrade(room)
        self.disagree(room)
        if rng.random() < 0.1:
            self.row("roomserver_room_aliases", f"#a{room.nid}:here.test", room.name, "@u0:here.test")
            room.aliases = True
        self.remember(room)

    def disagree(self, room: Made) -> None:
        """Let sync show a member, or an invite, that the room server does not have."""
        rng = self.rng
        if rng.random() < 0.08:
            user = rng.choice(("@u9:here.test", "@u9:HERE.test", "@u9:there.test"))
            membership = rng.choice(("join", "invite", "knock", "leave"))
            self.state(room.name, "m.room.member", user, {"membership": membership}, membership=membership)
            room.disagrees = user.lower().endswith(":here.test") and membership != "leave"
        if rng.random() < 0.08:
            deleted = rng.random() < 0.5
            self.row(
                "syncapi_invite_events (event_id, room_id, target_user_id, headered_event_json, deleted)",
                *(f"$i{room.nid}", room.name, "@u9:here.test", "{}", deleted),
            )
            room.disagrees = room.disagrees or not deleted

    def member(self, room: Made, user: str, *, local: bool) -> None:
        """Let a user have been in the room; the row in the table of members is the truth about now."""
        membership = self.rng.choices((1, 3, 2, 4), (80, 8, 4, 2))[0]
        key = 70000 + int(user[2]) if local else 80000
        self.row(
            "roomserver_membership (room_nid, target_nid, membership_nid, target_local)",
            *(room.nid, key, membership, local),
        )
        for _ in range(self.rng.randrange(1, 3)):
            rejected = self.rng.random() < 0.1
            sent = self.event(room, "m.room.member", key, user, rejected=rejected)
            if local and not rejected:
                room.left.append(sent)
        room.joined += local and membership == 3
        room.awaited += local and membership in {2, 4}

    def upgrade(self, room: Made) -> None:
        successor = self.rng.choice([*self.rooms, "!unknown:there.test", ""])
        sent = self.clock()
        text = None if self.rng.random() < 0.9 else self.rng.choice(BROKEN)
        self.state(room.name, "m.room.tombstone", "", {"replacement_room": successor}, sent=sent, text=text)
        if text is None and successor:
            room.successor, room.upgraded = successor, sent

    def event(
        self,
        room: Made,
        kind: str,
        key: str | int | None,
        sender: str,
        content: dict[str, Any] | None = None,
        *,
        rejected: bool = False,
    ) -> int | None:
        """Store an event of the room server, and mostly of sync; return its time, None where nobody can read it."""
        self._event += 1
        sent: int | None = self.clock()
        text = json.dumps({"sender": sender, "origin_server_ts": sent, "content": content or {}})
        if self.rng.random() < 0.04:
            sent, text = None, self.rng.choice(BROKEN)
        key_nid = key if isinstance(key, int) else 0 if key is None else 1
        self.row(
            "roomserver_events (event_nid, room_nid, event_type_nid, event_state_key_nid, event_id, is_rejected)",
            *(self._event, room.nid, TYPES[kind], key_nid, f"$e{self._event}", rejected),
        )
        if self.rng.random() < 0.98:
            self.row("roomserver_event_json", self._event, text)
        else:
            sent = None
        if content or self.rng.random() < 0.5:
            self.row(
                "syncapi_output_room_events (event_id, room_id, headered_event_json, type, sender, contains_url)",
                *(f"$e{self._event}", room.name, json.dumps({"content": content or {}}), kind, sender, False),
            )
        room.events += 1
        room.last, room.last_nid = sent, self._event
        return sent

    def state(
        self,
        room_id: str,
        kind: str,
        key: str,
        content: dict[str, Any],
        *,
        sent: int = 0,
        membership: str | None = None,
        text: str | None = None,
    ) -> None:
        self._event += 1
        event = json.dumps({"content": content, "origin_server_ts": sent}) if text is None else text
        self.row(
            "syncapi_current_room_state (room_id, event_id, type, sender, contains_url, state_key, headered_event_json,"
            " membership)",
            *(room_id, f"$s{self._event}", kind, "@a:there.test", False, key, event, membership),
        )

    def mentions(self, room: Made) -> dict[str, Any]:
        if self.rng.random() < 0.7:
            return {"body": "nothing"}
        uri = self.rng.choice(self.media)
        room.media.add(uri)
        return {"url": uri}

    def make_spaces(self) -> None:
        names = list(self.rooms)
        # A space has one entry for a room.
        for space, child in {(self.rng.choice(names), self.rng.choice(names)): None for _ in range(8)}:
            if self.rooms[child].child or space == child:
                continue
            via = self.rng.choice(({"via": ["here.test"]}, {}, {"order": "a"}))
            text = None if self.rng.random() < 0.8 else "{"
            self.state(space, "m.space.child", child, via, text=text)
            self.rooms[child].child = text is not None or "via" in via

    def make_media(self) -> None:
        for uri in self.stored:
            origin, _, name = uri.removeprefix("mxc://").partition("/")
            self.row("mediaapi_media_repository", name, origin, "image/png", 1, 0, "", "A" * 43, "")
        for place, uri in enumerate(self.rng.sample(self.media, 3)):
            self.row("userapi_profiles", f"u{place}", "here.test", "", uri)
            self.elsewhere.add(uri)
        uri = self.rng.choice(self.media)
        self.kept.add(uri)
        self.row(
            "retentiond.hold (kind, subject, reason, added_at, added_by)",
            *("media", uri, "", datetime.now(UTC), "test"),
        )

    def remember(self, room: Made) -> None:
        """Let the ledger have seen the room, as it is or as it was before, and perhaps hold it."""
        if self.rng.random() < 0.9:
            days = self.rng.choice((0.5, 6.9, 8, 31, 400, -3))
            current = self.rng.random() < 0.9
            nid = room.last_nid if current else room.last_nid + 1
            first = datetime.fromtimestamp(self.now_ms / 1000, UTC) - timedelta(days=days)
            self.row("retentiond.room_empty", room.name, room.nid, nid, first)
            room.seen = days if current else None
        if self.rng.random() < 0.05:
            room.held = True
            self.row(
                "retentiond.hold (kind, subject, reason, added_at, added_by)",
                *("room", room.name, "", datetime.now(UTC), "test"),
            )


class Oracle:
    """Says what must become of each room, by how it was made."""

    def __init__(self, made: Chance, keys: dict[str, Any]) -> None:
        self.made = made
        self.policies = keys["policies"]
        self.cool_off = float(keys["cool_off"].rstrip("d"))

    def expected(self) -> dict[str, str]:
        """Return the verdict on each room: `due` by a policy, or the reason."""
        verdicts = {name: self.verdict(room) for name, room in self.made.rooms.items()}
        due = {name for name, verdict in verdicts.items() if verdict.startswith("due")}
        others = {uri for name, room in self.made.rooms.items() if name not in due for uri in room.media}
        awaited = self.made.stored - others - self.made.elsewhere - self.made.kept
        for name in due:
            if self.made.rooms[name].media & awaited:
                verdicts[name] = "media"
        return verdicts

    def verdict(self, room: Made) -> str:
        if room.joined or room.awaited or room.disagrees:
            return "joined" if room.joined else "invite" if room.awaited else "members_differ"
        policy = next((one for one in self.policies if self.matches(room, one["match"])), None)
        if policy is None:
            return "no_policy"
        if policy["keep"] == "forever":
            return "not_due"
        times = self.times(room, policy.get("since", "left"))
        if times is None:
            return "undated"
        if room.seen is None:
            return "first_seen"
        if room.seen < 0:
            return "undated"
        past = [(self.made.now_ms - sent) / DAY for sent in times]
        # The youngest of the claimed times counts, unless it is to come.
        age = room.seen if min(past) < 0 else min(room.seen, *past)
        if age < max(float(policy["keep"].rstrip("d")), self.cool_off):
            return "not_due"
        if room.held:
            return "hold"
        if room.aliases or room.child:
            return "local_alias" if room.aliases else "space_child"
        return f"due by {policy['name']}"

    def times(self, room: Made, since: str) -> list[int] | None:
        """Return the claimed times that a policy asks for; None where one of them is unknown."""
        sent: list[int | None] = list(room.left) or [None]
        if since == "upgraded":
            sent.append(room.upgraded)
        elif since == "last_event":
            sent.append(room.last)
        known = [one for one in sent if one is not None]
        return known if len(known) == len(sent) else None

    def matches(self, room: Made, match: dict[str, Any]) -> bool:
        # Brackets are plain in our globs.
        def fits(pattern: str, text: str) -> bool:
            return fnmatchcase(text, pattern.replace("[", "[[]"))

        successor = self.made.rooms.get(room.successor or "")
        answers: dict[str, Callable[[Any], bool]] = {
            "left_by_all": lambda _: True,
            "upgraded": lambda _: successor is not None and successor is not room and successor.joined > 0,
            "room": lambda pattern: fits(pattern, room.name),
            "creator": lambda pattern: room.creator is not None and fits(pattern, room.creator),
            "encrypted": lambda wanted: room.encrypted is wanted,
            "more_events_than": lambda count: room.events > count,
        }
        return all(answers[name](wanted) for name, wanted in match.items())


def drawn_keys(rng: random.Random) -> dict[str, Any]:
    """Draw policies and a cool-off."""
    matches: list[dict[str, Any]] = [
        {"left_by_all": True},
        {"upgraded": True},
        {"room": rng.choice(("!r1*", "*:there.test", "!r?:here.test", "*[]%_.test"))},
        {"creator": rng.choice(("here.test", "*.test", "far.test"))},
        {"encrypted": rng.random() < 0.5},
        {"more_events_than": rng.randrange(1, 6)},
        {"left_by_all": True, "encrypted": False},
    ]
    policies: list[dict[str, Any]] = []
    for number, match in enumerate(rng.sample(matches, rng.randrange(1, 4))):
        policy = {"name": f"p{number}", "match": match, "keep": rng.choice(("1d", "7d", "30d", "forever"))}
        if rng.random() < 0.4:
            policy["since"] = rng.choice(
                ("last_event", "upgraded") if "upgraded" in match else ("last_event",)
            )
        policies.append(policy)
    return {"policies": policies, "cool_off": rng.choice(("1d", "7d"))}


def shown(item: Item) -> str:
    return f"due by {item.policy}" if item.action == "remove" else item.reason


async def test_a_plan_of_rooms_agrees_with_the_oracle(database: str, connection: Connection) -> None:
    await Ledger().make(connection, SCHEMA, MEDIA_SCHEMA)
    await save_clock(connection, await look_at_clock(connection, "rooms"))
    found: set[str] = set()
    for number in range(ROUNDS):
        rng = random.Random(SEED + number)
        await connection.execute(f"TRUNCATE {TABLES}")
        await connection.execute(
            "INSERT INTO roomserver_event_state_keys VALUES (70000, '@u0:here.test') ON CONFLICT DO NOTHING"
        )
        made = Chance(connection, rng, datetime.now(UTC))
        await made.make()
        keys = drawn_keys(rng)
        items: list[Item] = []
        async with RoomRetention(database, "http://127.0.0.1:9").opened(**keys) as target:
            report = await target.plan(items.append, NullProgress())
        assert report.refused is None or report.refused.limit == "first_pass", f"{AGAIN}: {report.refused}"
        told = {item.media: shown(item) for item in items}
        assert told == Oracle(made, keys).expected(), f"{AGAIN} (round {number}: {keys})"
        assert report.kept.total() + report.removed_items == ROOMS
        found |= {verdict.partition(" ")[0] for verdict in told.values()}
    # The store has every case.
    assert found >= {"due", "joined", "invite", "not_due", "first_seen", "undated"}, AGAIN
