-- What is kept of a room.

-- name: state
-- The state events, those that name the room first: its creation, name and aliases; members come last. `sum` is the size of
-- an event and of those before it; the first one beyond $4 bytes is the last row.
SELECT v.type, v.state_key, v.event_id, v.sender, v.event, v.sum
FROM (SELECT s.*, pg_catalog."left"(s.headered_event_json, $2) AS event,
             pg_catalog.octet_length(s.headered_event_json) AS size,
             pg_catalog.sum(pg_catalog.octet_length(s.headered_event_json))
                 OVER (ORDER BY s.type = 'm.room.member', s.type, s.state_key) AS sum
      FROM syncapi_current_room_state s WHERE s.room_id = $1) v
WHERE v.sum - v.size <= $4
ORDER BY v.sum LIMIT $3

-- name: event_ids
-- The newest events first: a server that has the room can be asked for them.
SELECT e.event_id FROM roomserver_events e WHERE e.room_nid = $1 ORDER BY e.event_nid DESC LIMIT $2
