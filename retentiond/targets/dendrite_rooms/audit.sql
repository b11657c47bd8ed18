-- The rooms of dendrite's databases, compared with each other. Each database is asked for its own; what seems to be missing
-- is asked for again, since rooms come and go meanwhile.

-- name: make_others
CREATE TEMPORARY TABLE retentiond_others (room_id text COLLATE "C" PRIMARY KEY)

-- name: drop_others
DROP TABLE IF EXISTS pg_temp.retentiond_others

-- name: analyze_others
ANALYZE pg_temp.retentiond_others

-- name: rooms
SELECT r.room_id FROM roomserver_rooms r

-- name: count_rooms
SELECT pg_catalog.count(*) FROM roomserver_rooms

-- name: sent_rooms
-- Rooms of which an event was sent to sync.
SELECT r.room_id FROM roomserver_rooms r WHERE r.last_event_sent_nid > 0

-- name: orphans_in_sync
-- Rooms of sync that the room server, whose rooms are copied beside it, does not have.
SELECT v.room_id, pg_catalog.count(*) AS events, pg_catalog.sum(v.bytes)::bigint AS bytes
FROM (SELECT o.room_id, pg_catalog.pg_column_size(o.headered_event_json) AS bytes FROM syncapi_output_room_events o
      UNION ALL
      SELECT s.room_id, pg_catalog.pg_column_size(s.headered_event_json) FROM syncapi_current_room_state s) v
WHERE NOT EXISTS (SELECT FROM pg_temp.retentiond_others k WHERE k.room_id = v.room_id)
GROUP BY v.room_id

-- name: missing_in_sync
-- Of the copied rooms, those without an event in sync.
SELECT k.room_id FROM pg_temp.retentiond_others k
WHERE NOT EXISTS (SELECT FROM syncapi_output_room_events o WHERE o.room_id = k.room_id)

-- name: known
-- Those of some rooms that the room server has.
SELECT r.room_id FROM roomserver_rooms r WHERE r.room_id = ANY ($1::text[])

-- name: known_to_sync
SELECT DISTINCT o.room_id FROM syncapi_output_room_events o WHERE o.room_id = ANY ($1::text[])

-- name: purged
-- When each of some rooms was purged last.
SELECT p.room_id, pg_catalog.max(p.sent_at) AS at FROM retentiond.room_purge p
WHERE p.room_id = ANY ($1::text[]) AND p.state IN ('emptied', 'purged', 'rows_stay') GROUP BY p.room_id

-- name: events_without_room
-- The numbers of rooms that the room server does not have, although it has events of them.
SELECT e.room_nid, pg_catalog.count(*) AS events FROM roomserver_events e
WHERE NOT EXISTS (SELECT FROM roomserver_rooms r WHERE r.room_nid = e.room_nid)
GROUP BY e.room_nid

-- name: purged_numbers
-- The rooms that had some numbers when they were purged.
SELECT DISTINCT ON (p.room_nid) p.room_nid, p.room_id FROM retentiond.room_purge p
WHERE p.room_nid = ANY ($1::bigint[]) ORDER BY p.room_nid, p.purge_id DESC

-- name: has_purges
SELECT pg_catalog.to_regclass('retentiond.room_purge') IS NOT NULL
