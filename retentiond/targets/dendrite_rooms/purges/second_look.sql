-- The second look at one room.

-- name: look
-- The room in one snapshot: members, holds, its newest event, the last one that was sent to sync, and what was seen of it.
-- Memberships are 2 for invite, 3 for join and 4 for knock.
SELECT r.room_id, r.room_nid, pg_catalog.clock_timestamp() AS at,
       (SELECT pg_catalog.count(*) FROM roomserver_events e WHERE e.room_nid = r.room_nid) AS events,
       (SELECT coalesce(pg_catalog.max(e.event_nid), 0) FROM roomserver_events e WHERE e.room_nid = r.room_nid) AS last_event_nid,
       EXISTS (SELECT FROM roomserver_membership m
               WHERE m.room_nid = r.room_nid AND m.target_local AND m.membership_nid NOT IN (1, 2, 4)) AS joined,
       EXISTS (SELECT FROM roomserver_membership m
               WHERE m.room_nid = r.room_nid AND m.target_local AND m.membership_nid = 2) AS invited,
       EXISTS (SELECT FROM roomserver_membership m
               WHERE m.room_nid = r.room_nid AND m.target_local AND m.membership_nid = 4) AS knocked,
       EXISTS (SELECT FROM retentiond.hold_in_force h WHERE h.kind = 'room' AND h.subject = r.room_id) AS held,
       (SELECT e.event_id FROM roomserver_events e WHERE e.event_nid = r.last_event_sent_nid) AS last_event,
       s.first_seen AS seen_at, s.last_event_nid AS seen_event_nid
FROM roomserver_rooms r
LEFT JOIN retentiond.room_empty s ON s.room_id = r.room_id AND s.room_nid = r.room_nid
WHERE r.room_id = $1

-- name: sync
-- Whether sync has an event of the room, and whether it knows of an invite that was not answered.
SELECT EXISTS (SELECT FROM syncapi_output_room_events o WHERE o.room_id = $1 AND o.event_id = $2) AS has_event,
       EXISTS (SELECT FROM syncapi_invite_events i WHERE i.room_id = $1 AND NOT i.deleted) AS invited

-- name: previous_events
-- Counted: statistics are old after a crash of the server, and a purge reads the table far more often.
SELECT pg_catalog.count(*) FROM roomserver_previous_events

-- name: locked
-- Whether a transaction that is under way has the room's row: its number is in the row, and its lock among those granted.
SELECT EXISTS (SELECT FROM roomserver_rooms r
               JOIN pg_catalog.pg_locks l ON l.locktype = 'transactionid' AND l.granted AND l.transactionid = r.xmax
               WHERE r.room_id = $1)

-- name: is_there
-- Whether a room is there; with a number, under that one.
SELECT EXISTS (SELECT FROM roomserver_rooms WHERE room_id = $1 AND ($2::bigint IS NULL OR room_nid = $2))

-- name: held
SELECT EXISTS (SELECT FROM retentiond.hold_in_force WHERE kind = 'room' AND subject = $1)

-- name: joined
-- The local users that are in a room.
SELECT pg_catalog.count(*) FROM roomserver_membership m JOIN roomserver_rooms r ON r.room_nid = m.room_nid
WHERE r.room_id = $1 AND m.target_local AND m.membership_nid NOT IN (1, 2, 4)

-- name: joined_users
SELECT k.event_state_key AS name FROM roomserver_membership m
JOIN roomserver_rooms r ON r.room_nid = m.room_nid
JOIN roomserver_event_state_keys k ON k.event_state_key_nid = m.target_nid
WHERE r.room_id = $1 AND m.target_local AND m.membership_nid NOT IN (1, 2, 4) ORDER BY 1 LIMIT 1000

-- name: bytes
-- The room's events, as stored.
SELECT coalesce(pg_catalog.sum(pg_catalog.pg_column_size(j.event_json)), 0)::bigint
FROM roomserver_rooms r JOIN roomserver_events e ON e.room_nid = r.room_nid
JOIN roomserver_event_json j ON j.event_nid = e.event_nid WHERE r.room_id = $1

-- name: size
-- What a purge by hand would remove; no row for an unknown room.
SELECT (SELECT pg_catalog.count(*) FROM roomserver_events e WHERE e.room_nid = r.room_nid) AS events,
       (SELECT pg_catalog.count(*) FROM roomserver_membership m
        WHERE m.room_nid = r.room_nid AND m.target_local AND m.membership_nid IN (2, 4)) AS invites,
       (SELECT coalesce(pg_catalog.sum(pg_catalog.pg_column_size(j.event_json)), 0)::bigint
        FROM roomserver_events e JOIN roomserver_event_json j ON j.event_nid = e.event_nid
        WHERE e.room_nid = r.room_nid) AS bytes
FROM roomserver_rooms r WHERE r.room_id = $1

-- name: known
SELECT pg_catalog.count(*) FROM roomserver_rooms WHERE room_id = ANY ($1::text[])

-- name: expected
-- Rooms that dendrite lists as empty, by its own words for it: with a member event (5 in each dendrite), and no local user joined.
SELECT r.room_id FROM roomserver_rooms r
WHERE EXISTS (SELECT FROM roomserver_events e WHERE e.room_nid = r.room_nid AND e.event_type_nid = 5)
  AND NOT EXISTS (SELECT FROM roomserver_membership m
                  WHERE m.room_nid = r.room_nid AND m.target_local AND m.membership_nid = 3)
ORDER BY r.room_nid LIMIT $1
