-- Invented rooms. A case is the sort of a room: what keeps it, or that all have left it.

-- name: rooms
-- $1: rooms of each case in $2; the number of a room is its case's place and its own number in it.
INSERT INTO roomserver_rooms (room_nid, room_id, room_version)
SELECT c.place * 1000 + n, '!' || c.name || n || ':demo.example', '10'
FROM pg_catalog.unnest($2::text[]) WITH ORDINALITY AS c (name, place), pg_catalog.generate_series(1, $1::integer) AS n

-- name: members
-- One local user a room, who has left it, or is in it or is invited (3, 2) where the case says so.
INSERT INTO roomserver_membership (room_nid, target_nid, membership_nid, target_local)
SELECT r.room_nid, 70000, CASE WHEN r.room_id LIKE '!joined%' THEN 3 WHEN r.room_id LIKE '!invited%' THEN 2 ELSE 1 END, true
FROM roomserver_rooms r

-- name: events
-- A creation, a join, a leave and messages ($1), over the last year; half of the messages come with a picture of their own.
WITH event AS (
    INSERT INTO roomserver_events (room_nid, event_type_nid, event_state_key_nid, event_id, depth)
    SELECT r.room_nid, CASE n WHEN 1 THEN 1 WHEN 2 THEN 5 WHEN 3 THEN 5 ELSE 65537 END,
           CASE n WHEN 1 THEN 1 WHEN 2 THEN 70000 WHEN 3 THEN 70000 ELSE 0 END, '$' || r.room_nid || '-' || n, n
    FROM roomserver_rooms r, pg_catalog.generate_series(1, $1::integer + 3) AS n
    RETURNING event_nid, room_nid, event_type_nid, event_id, depth
)
INSERT INTO roomserver_event_json (event_nid, event_json)
SELECT e.event_nid, pg_catalog.json_build_object(
    'sender', '@ann:demo.example', 'event_id', e.event_id,
    'origin_server_ts', (extract(epoch FROM $2::timestamptz) * 1000)::bigint - 31000000000 + e.depth * 1000,
    'content', CASE WHEN e.event_type_nid = 5
                    THEN pg_catalog.json_build_object('membership', CASE e.depth WHEN 2 THEN 'join' ELSE 'leave' END)
                    ELSE pg_catalog.json_build_object('body', pg_catalog.repeat('demo ', 20)) END)::text
FROM event e

-- name: sent
UPDATE roomserver_rooms r SET last_event_sent_nid = e.last
FROM (SELECT e.room_nid, pg_catalog.max(e.event_nid) AS last FROM roomserver_events e GROUP BY e.room_nid) e
WHERE e.room_nid = r.room_nid

-- name: timeline
-- Sync has them all.
INSERT INTO syncapi_output_room_events (event_id, room_id, headered_event_json, type, sender, contains_url)
SELECT e.event_id, r.room_id, j.event_json, t.event_type, '@ann:demo.example', false
FROM roomserver_events e JOIN roomserver_rooms r ON r.room_nid = e.room_nid
JOIN roomserver_event_json j ON j.event_nid = e.event_nid
JOIN roomserver_event_types t ON t.event_type_nid = e.event_type_nid ORDER BY e.event_nid

-- name: state
-- Upgrades of rooms to those that a user is in, and a space that names rooms.
INSERT INTO syncapi_current_room_state
    (room_id, event_id, type, sender, contains_url, state_key, headered_event_json)
SELECT r.room_id, '$t' || r.room_nid, 'm.room.tombstone', '@ann:demo.example', false, '',
       pg_catalog.json_build_object('origin_server_ts', 1700000000000, 'content',
                                    pg_catalog.json_build_object('replacement_room', '!joined1:demo.example'))::text
FROM roomserver_rooms r WHERE r.room_id LIKE '!upgraded%'
UNION ALL
SELECT '!joined1:demo.example', '$c' || r.room_nid, 'm.space.child', '@ann:demo.example', false, r.room_id,
       '{"content": {"via": ["demo.example"]}}'
FROM roomserver_rooms r WHERE r.room_id LIKE '!child%'

-- name: aliases
INSERT INTO roomserver_room_aliases (alias, room_id, creator_id)
SELECT '#' || pg_catalog.substr(r.room_id, 2), r.room_id, '@ann:demo.example' FROM roomserver_rooms r
WHERE r.room_id LIKE '!alias%'

-- name: remaining
SELECT r.room_id FROM roomserver_rooms r

-- name: empty
-- The rooms that dendrite lists as empty.
SELECT r.room_id FROM roomserver_rooms r
WHERE NOT EXISTS (SELECT FROM roomserver_membership m
                  WHERE m.room_nid = r.room_nid AND m.target_local AND m.membership_nid = 3)

-- name: purge
-- What dendrite's purge removes, of the tables that the demo has; no row for an unknown room.
WITH room AS (
    DELETE FROM roomserver_rooms r WHERE r.room_id = $1 RETURNING r.room_nid, r.room_id
), event AS (
    DELETE FROM roomserver_events e USING room WHERE e.room_nid = room.room_nid RETURNING e.event_nid
), json AS (
    DELETE FROM roomserver_event_json j USING event WHERE j.event_nid = event.event_nid
), member AS (
    DELETE FROM roomserver_membership m USING room WHERE m.room_nid = room.room_nid
), alias AS (
    DELETE FROM roomserver_room_aliases a USING room WHERE a.room_id = room.room_id
), timeline AS (
    DELETE FROM syncapi_output_room_events o USING room WHERE o.room_id = room.room_id
), state AS (
    DELETE FROM syncapi_current_room_state s USING room WHERE s.room_id = room.room_id
)
SELECT room.room_id FROM room
