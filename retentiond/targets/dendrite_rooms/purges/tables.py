"""dendrite's tables that hold rows of a room: counted before and after a purge, the space in them, and the lag of sync."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from retentiond.adapters.postgres import named_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.adapters.postgres import Conn, Db

Component = Literal["room_server", "sync_api", "user_api", "federation_api"]
"""The part of dendrite that has the table in its database."""
_LAG_SQL: Final = named_queries(__package__, "sync_lag.sql")
_NEWEST: Final = 200
"""The number of rooms whose last event is compared, those with the newest events."""


@dataclass(frozen=True, slots=True)
class RoomTable:
    """A table with rows of rooms. `key` names the room; with `stays` a purge leaves its rows, by dendrite's own design."""

    name: str
    component: Component
    key: Literal["room_id", "room_nid"] = "room_id"
    stays: bool = False


ROOM: Final = RoomTable("roomserver_rooms", "room_server")
TABLES: Final = (
    ROOM,
    RoomTable("roomserver_events", "room_server", "room_nid"),
    RoomTable("roomserver_membership", "room_server", "room_nid"),
    RoomTable("roomserver_invites", "room_server", "room_nid"),
    RoomTable("roomserver_state_snapshots", "room_server", "room_nid"),
    RoomTable("roomserver_room_aliases", "room_server"),
    RoomTable("roomserver_published", "room_server"),
    RoomTable("roomserver_reported_events", "room_server", "room_nid", stays=True),
    RoomTable("federationsender_joined_hosts", "federation_api"),
    RoomTable("federationsender_inbound_peeks", "federation_api"),
    RoomTable("federationsender_outbound_peeks", "federation_api"),
    RoomTable("syncapi_output_room_events", "sync_api"),
    RoomTable("syncapi_output_room_events_topology", "sync_api"),
    RoomTable("syncapi_current_room_state", "sync_api"),
    RoomTable("syncapi_memberships", "sync_api"),
    RoomTable("syncapi_invite_events", "sync_api"),
    RoomTable("syncapi_receipts", "sync_api"),
    RoomTable("syncapi_notification_data", "sync_api"),
    RoomTable("syncapi_backward_extremities", "sync_api"),
    RoomTable("syncapi_peeks", "sync_api"),
    RoomTable("syncapi_relations", "sync_api", stays=True),
    RoomTable("syncapi_account_data_type", "sync_api", stays=True),
    RoomTable("userapi_account_datas", "user_api", stays=True),
    RoomTable("userapi_notifications", "user_api", stays=True),
    RoomTable("userapi_key_backups", "user_api", stays=True),
)
"""Every table that is counted, in the order of reports."""
AWAITED: Final = ("syncapi_output_room_events", "syncapi_current_room_state")
"""The tables of sync that are empty of the room when its purge is done."""
_SHRUNK: Final = ("roomserver_event_json", "roomserver_previous_events", "roomserver_state_block")
"""Tables that shrink with a purge, and whose rows name no room."""

WORTH_NAMING: Final = 1 << 20
"""Bytes: a table with less reusable space is not named."""

SQL: Final = named_queries(__package__, "tables.sql")


@dataclass(frozen=True, slots=True)
class Databases:
    """dendrite's databases, by component; several may be the same."""

    room_server: Db
    sync_api: Db
    user_api: Db
    federation_api: Db

    def of(self, component: Component) -> Db:
        """Return the database of a component."""
        databases: Mapping[Component, Db] = {
            "room_server": self.room_server,
            "sync_api": self.sync_api,
            "user_api": self.user_api,
            "federation_api": self.federation_api,
        }
        return databases[component]

    async def count_rows(self, room_id: str, room_nid: int) -> dict[str, int]:
        """Count the rows of a room by table; tables without any, or that are missing, are left out."""
        counts: dict[str, int] = {}
        for component in get_args(Component):
            tables = [table for table in TABLES if table.component == component]
            async with self.of(component).acquire() as connection:
                for table in await there(connection, tables):
                    key: str | int = room_nid if table.key == "room_nid" else room_id
                    count = await connection.fetchval(_COUNT[table], key)
                    if count:
                        counts[table.name] = count
        return {table.name: counts[table.name] for table in TABLES if table.name in counts}

    async def awaited_rows(self, room_id: str) -> bool:
        """Return whether sync still has rows that a purge removes."""
        return bool(await self.sync_api.fetchval(SQL["awaited"], room_id))

    async def reusable_space(self, least: int = WORTH_NAMING) -> list[ReusableSpace]:
        """Estimate the space of dead rows by table, the largest first, from the statistics of the server.

        Tables with less than `least` bytes of it are left out.
        """
        found: list[ReusableSpace] = []
        for component in ("room_server", "sync_api"):
            names = [one.name for one in TABLES if one.component == component and not one.stays]
            names += _SHRUNK if component == "room_server" else ()
            rows = await self.of(component).fetch(_listing("dead_space", names))
            found += [ReusableSpace(names[row["place"]], row["bytes"], row["reusable"]) for row in rows]
        return sorted((one for one in found if one.reusable >= least), key=lambda one: -one.reusable)


@dataclass(frozen=True, slots=True)
class ReusableSpace:
    """The size of a table with its large values, and an estimate of the part of it that VACUUM makes reusable."""

    table: str
    bytes: int
    reusable: int


def reusable_in_words(spaces: list[ReusableSpace]) -> str | None:
    """Return how much space VACUUM makes reusable, with the statement; None without any."""
    if not spaces:
        return None
    total = sum(one.reusable for one in spaces)
    return (
        f"about {total >> 20} MiB of dead rows in dendrite's tables can be reused after a VACUUM, by the server's statistics; "
        f"autovacuum does it in its time, or run: VACUUM (ANALYZE) {', '.join(one.table for one in spaces)}; "
        "The files stay as large as they are"
    )


def left_rows(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the rows that a purge should have removed, by table."""
    stays = {table.name for table in TABLES if table.stays}
    return {name: count for name, count in counts.items() if name not in stays}


_COUNT: Final[Mapping[RoomTable, str]] = {
    table: SQL["count"].replace("{table}", table.name).replace("{key}", table.key) for table in TABLES
}


async def there(connection: Conn, tables: list[RoomTable]) -> list[RoomTable]:
    """Return those tables that this version of dendrite has, in this database."""
    rows = await connection.fetch(_listing("there", [one.name for one in tables]))
    return [tables[row["place"]] for row in sorted(rows, key=lambda row: row["place"])]


def _listing(statement: str, names: list[str]) -> str:
    """Return a statement about tables of this module, which it names in literals: a connection adds their schema there."""
    values = ", ".join(f"({place}, pg_catalog.to_regclass('{name}'))" for place, name in enumerate(names))
    return SQL[statement].replace("{tables}", values)


@dataclass(frozen=True, slots=True)
class SyncLag:
    """Events that the room server has sent and sync does not have, and that are newer than all that it has."""

    missing: frozenset[str]

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self.missing)


async def read_lag(databases: Databases) -> SyncLag:
    """Compare the last events of the rooms with the newest ones.

    An older event that sync lacks was lost with a queue, and comes no more; while sync works, newer ones arrive.
    """
    sent = await databases.room_server.fetch(_LAG_SQL["newest_sent"], _NEWEST)
    ids = [row["event_id"] for row in sent]
    there = {row["event_id"] for row in await databases.sync_api.fetch(_LAG_SQL["received"], ids)}
    missing = []
    for event_id in ids:  # the newest first
        if event_id in there:
            break
        missing.append(event_id)
    return SyncLag(frozenset(missing))
