-- The facts of each room, in a temporary table that ends with the connection. Every text in dendrite's tables may be a
-- stranger's: what may fail to parse is read in functions that catch it, and yields NULL, which keeps the room.

-- name: sent_at_function
-- The time at which an event claims to have been sent, in milliseconds; NULL if that is no number.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_claimed(given text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE AS $$
BEGIN
    RETURN CASE WHEN pg_catalog.octet_length(given) <= 1048576 THEN (given::json ->> 'origin_server_ts')::bigint END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$

-- name: sender_function
-- The server of an event's sender, in lower case; NULL if that cannot be read.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_sender(given text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE AS $$
DECLARE
    sender text;
BEGIN
    sender := CASE WHEN pg_catalog.octet_length(given) <= 1048576 THEN given::json ->> 'sender' END;
    RETURN CASE WHEN sender ~ '^@[^:]*:.' THEN pg_catalog.lower(pg_catalog.substr(sender, pg_catalog.strpos(sender, ':') + 1) COLLATE "C") END;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$

-- name: content_function
-- One key of an event's content, as JSON; the text '?' if the event cannot be read.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_key(given text, key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL UNSAFE AS $$
BEGIN
    IF pg_catalog.octet_length(given) <= 1048576 THEN
        RETURN (given::json -> 'content' ->> key);
    END IF;
    RETURN '?';
EXCEPTION WHEN OTHERS THEN
    RETURN '?';
END
$$

-- name: make_rooms
CREATE TEMPORARY TABLE retentiond_room (
    room_nid bigint PRIMARY KEY,
    room_id text COLLATE "C" NOT NULL UNIQUE,
    version text NOT NULL DEFAULT '',
    wanted boolean NOT NULL DEFAULT true,
    joined bigint NOT NULL DEFAULT 0,
    invites bigint NOT NULL DEFAULT 0,
    creator text,
    encrypted boolean,
    events bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    left_ms bigint,
    last_event_ms bigint,
    last_event_nid bigint NOT NULL DEFAULT 0,
    first_seen timestamptz,
    upgraded_ms bigint,
    successor text COLLATE "C",
    in_successor boolean NOT NULL DEFAULT false,
    aliases text[] NOT NULL DEFAULT '{}',
    parents text[] NOT NULL DEFAULT '{}',
    state_disagrees boolean NOT NULL DEFAULT false,
    held boolean NOT NULL DEFAULT false,
    media bigint NOT NULL DEFAULT 0,
    policy text,
    due timestamptz
)

-- name: drop_rooms
DROP TABLE IF EXISTS pg_temp.retentiond_room

-- name: take_rooms
-- Every room, or one ($2), with its local users: joined (3), and each that is neither joined nor has left (1). The events of
-- rooms with a joined user are wanted with $1 alone.
INSERT INTO pg_temp.retentiond_room (room_nid, room_id, version, wanted, joined, invites)
SELECT r.room_nid, r.room_id, r.room_version, $1::boolean OR coalesce(m.joined, 0) = 0, coalesce(m.joined, 0), coalesce(m.awaited, 0)
FROM roomserver_rooms r
LEFT JOIN (SELECT m.room_nid, pg_catalog.count(*) FILTER (WHERE m.membership_nid = 3) AS joined,
                  pg_catalog.count(*) FILTER (WHERE m.membership_nid NOT IN (1, 3)) AS awaited
           FROM roomserver_membership m WHERE m.target_local GROUP BY m.room_nid) m ON m.room_nid = r.room_nid
WHERE $2::text IS NULL OR r.room_id = $2

-- name: analyze_rooms
-- Else the planner takes the table for an almost empty one, and reads others once for each room.
ANALYZE pg_temp.retentiond_room

-- name: date_rooms
-- The events of the wanted rooms: how many, how large as stored, and the times that they claim. A room is left
-- since the last event about a local user's membership, if all of these can be read; dendrite numbers events as it stores
-- them. Rejected events count in size alone.
WITH kind AS MATERIALIZED (
    SELECT pg_catalog.max(t.event_type_nid) FILTER (WHERE t.event_type = 'm.room.create') AS creation,
           pg_catalog.max(t.event_type_nid) FILTER (WHERE t.event_type = 'm.room.member') AS member,
           pg_catalog.max(t.event_type_nid) FILTER (WHERE t.event_type = 'm.room.encryption') AS encryption
    FROM roomserver_event_types t WHERE t.event_type IN ('m.room.create', 'm.room.member', 'm.room.encryption')
), event AS (
    SELECT r.room_nid, e.event_nid, e.event_type_nid, e.is_rejected, j.event_json,
           e.event_type_nid = k.member AND EXISTS (
               SELECT FROM roomserver_membership l
               WHERE l.room_nid = e.room_nid AND l.target_nid = e.event_state_key_nid AND l.target_local) AS about_local,
           e.event_type_nid = k.creation AS creates, e.event_type_nid = k.encryption AS encrypts
    FROM pg_temp.retentiond_room r
    JOIN roomserver_events e ON e.room_nid = r.room_nid
    LEFT JOIN roomserver_event_json j ON j.event_nid = e.event_nid
    CROSS JOIN kind k
    WHERE r.wanted
), counted AS (
    SELECT v.room_nid, pg_catalog.count(*) AS events,
           coalesce(pg_catalog.sum(pg_catalog.pg_column_size(v.event_json)), 0) AS bytes,
           pg_catalog.max(v.event_nid) AS last_event_nid,
           pg_catalog.bool_or(v.creates) AS created, pg_catalog.bool_or(v.encrypts) AS encrypted,
           pg_catalog.max(pg_temp.retentiond_sender(v.event_json)) FILTER (WHERE v.creates AND NOT v.is_rejected) AS creator,
           CASE WHEN pg_catalog.count(*) FILTER (WHERE v.about_local AND NOT v.is_rejected)
                     = pg_catalog.count(pg_temp.retentiond_claimed(v.event_json)) FILTER (WHERE v.about_local AND NOT v.is_rejected)
                THEN pg_catalog.max(pg_temp.retentiond_claimed(v.event_json))
                     FILTER (WHERE v.about_local AND NOT v.is_rejected) END AS left_ms
    FROM event v GROUP BY v.room_nid
)
UPDATE pg_temp.retentiond_room r
SET events = c.events, bytes = c.bytes, last_event_nid = c.last_event_nid, creator = c.creator, left_ms = c.left_ms,
    encrypted = CASE WHEN c.created THEN c.encrypted END,
    last_event_ms = (SELECT pg_temp.retentiond_claimed(j.event_json) FROM roomserver_event_json j
                     WHERE j.event_nid = c.last_event_nid)
FROM counted c WHERE c.room_nid = r.room_nid

-- name: take_aliases
UPDATE pg_temp.retentiond_room r SET aliases = a.aliases
FROM (SELECT a.room_id, (pg_catalog.array_agg(a.alias ORDER BY a.alias))[1:10] AS aliases
      FROM roomserver_room_aliases a GROUP BY a.room_id) a
WHERE a.room_id = r.room_id

-- name: state_of_rooms
-- What sync's tables say of the wanted rooms: the size of their events, an upgrade, the spaces that name them,
-- and whether a user of the servers $1 is shown as a member, or invited, after all. A tombstone that cannot be read is no
-- upgrade; a space's entry that cannot be read names the room. Rooms are compared in the collation of sync's own columns,
-- so that its indexes serve the look at one room; equal texts are equal in both.
WITH wanted AS MATERIALIZED (
    SELECT r.room_id FROM pg_temp.retentiond_room r WHERE r.wanted
), timeline AS (
    SELECT o.room_id, pg_catalog.sum(pg_catalog.pg_column_size(o.headered_event_json)) AS bytes
    FROM syncapi_output_room_events o JOIN wanted w ON w.room_id COLLATE "default" = o.room_id GROUP BY o.room_id
), state AS (
    SELECT s.room_id, pg_catalog.sum(pg_catalog.pg_column_size(s.headered_event_json)) AS bytes,
           pg_catalog.max(nullif(nullif(pg_temp.retentiond_key(s.headered_event_json, 'replacement_room'), '?'), ''))
               FILTER (WHERE s.type = 'm.room.tombstone' AND s.state_key = '') AS successor,
           pg_catalog.max(pg_temp.retentiond_claimed(s.headered_event_json))
               FILTER (WHERE s.type = 'm.room.tombstone' AND s.state_key = '') AS upgraded_ms,
           pg_catalog.bool_or(s.type = 'm.room.member' AND s.membership IN ('join', 'invite', 'knock')
               AND pg_catalog.lower(pg_catalog.substr(s.state_key, pg_catalog.strpos(s.state_key, ':') + 1) COLLATE "C") = ANY ($1::text[]))
               AS present
    FROM syncapi_current_room_state s JOIN wanted w ON w.room_id COLLATE "default" = s.room_id GROUP BY s.room_id
), parent AS (
    SELECT s.state_key AS room_id, (pg_catalog.array_agg(DISTINCT s.room_id))[1:10] AS parents
    FROM syncapi_current_room_state s JOIN wanted w ON w.room_id COLLATE "default" = s.state_key
    WHERE s.type = 'm.space.child' AND s.room_id <> s.state_key
      AND pg_temp.retentiond_key(s.headered_event_json, 'via') IS NOT NULL
    GROUP BY s.state_key
), invite AS (
    SELECT DISTINCT i.room_id FROM syncapi_invite_events i JOIN wanted w ON w.room_id COLLATE "default" = i.room_id WHERE NOT i.deleted
)
SELECT w.room_id, (coalesce(t.bytes, 0) + coalesce(s.bytes, 0))::bigint AS bytes, s.successor,
       CASE WHEN s.successor IS NOT NULL THEN s.upgraded_ms END AS upgraded_ms,
       coalesce(p.parents, '{}') AS parents,
       coalesce(s.present, false) OR i.room_id IS NOT NULL AS state_disagrees
FROM wanted w
LEFT JOIN timeline t ON t.room_id = w.room_id
LEFT JOIN state s ON s.room_id = w.room_id
LEFT JOIN parent p ON p.room_id = w.room_id
LEFT JOIN invite i ON i.room_id = w.room_id

-- name: wanted_rooms
-- The rooms to ask sync's database about, where that is another one.
SELECT r.room_nid, r.room_id FROM pg_temp.retentiond_room r WHERE r.wanted

-- name: take_state
-- Takes the rows of `state_of_rooms`.
UPDATE pg_temp.retentiond_room r
SET bytes = r.bytes + s.bytes, successor = s.successor, upgraded_ms = s.upgraded_ms, parents = s.parents,
    state_disagrees = s.state_disagrees
FROM ({source}) s WHERE s.room_id = r.room_id

-- name: make_state
CREATE TEMPORARY TABLE retentiond_room_state (
    room_id text COLLATE "C" PRIMARY KEY,
    bytes bigint NOT NULL,
    successor text COLLATE "C",
    upgraded_ms bigint,
    parents text[] NOT NULL,
    state_disagrees boolean NOT NULL
)

-- name: drop_state
DROP TABLE IF EXISTS pg_temp.retentiond_room_state

-- name: state_table
SELECT room_id, bytes, successor, upgraded_ms, parents, state_disagrees FROM pg_temp.retentiond_room_state

-- name: find_successors
-- Whether a local user is in the successor, by the room server's own table.
UPDATE pg_temp.retentiond_room r SET in_successor = true
FROM roomserver_rooms s
WHERE s.room_id = r.successor AND s.room_nid <> r.room_nid
  AND EXISTS (SELECT FROM roomserver_membership m
              WHERE m.room_nid = s.room_nid AND m.target_local AND m.membership_nid = 3)

-- name: rooms_page
-- The rooms by number, a page, after a number.
SELECT r.room_nid, r.room_id, r.version, r.creator, r.encrypted, r.events, r.bytes, r.joined, r.invites, r.left_ms,
       r.last_event_ms, r.last_event_nid, r.first_seen, r.upgraded_ms, r.successor, r.in_successor, r.aliases, r.parents,
       r.state_disagrees, r.held, r.media
FROM pg_temp.retentiond_room r WHERE r.room_nid > $1 ORDER BY r.room_nid LIMIT $2

-- name: due_page
-- The due rooms, a page: those that are due the longest come first.
SELECT r.room_nid, r.room_id, r.version, r.creator, r.encrypted, r.events, r.bytes, r.joined, r.invites, r.left_ms,
       r.last_event_ms, r.last_event_nid, r.first_seen, r.upgraded_ms, r.successor, r.in_successor, r.aliases, r.parents,
       r.state_disagrees, r.held, r.media, r.policy, r.due
FROM pg_temp.retentiond_room r WHERE r.due IS NOT NULL AND (r.due, r.room_nid) > ($1, $2)
ORDER BY r.due, r.room_nid LIMIT $3

-- name: note_due
UPDATE pg_temp.retentiond_room r SET policy = d.policy, due = d.due
FROM ROWS FROM (pg_catalog.unnest($1::bigint[]), pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::timestamptz[]))
     AS d (room_nid, policy, due)
WHERE d.room_nid = r.room_nid

-- name: totals
-- Of the whole server: rooms, events, and the tables that hold most of them.
SELECT (SELECT pg_catalog.count(*) FROM pg_temp.retentiond_room) AS rooms,
       (SELECT pg_catalog.count(*) FROM roomserver_events) AS events,
       pg_catalog.pg_table_size('roomserver_event_json'::regclass) AS bytes

-- name: sync_totals
SELECT pg_catalog.pg_table_size('syncapi_output_room_events'::regclass)
       + pg_catalog.pg_table_size('syncapi_current_room_state'::regclass) AS bytes

-- name: room_of_alias
SELECT a.room_id FROM roomserver_room_aliases a WHERE a.alias = $1
