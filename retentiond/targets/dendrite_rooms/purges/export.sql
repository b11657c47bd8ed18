-- What is kept of a room.

-- name: state
-- The state events, those that name the room first: its creation, name and aliases; members come last.
SELECT s.type, s.state_key, s.event_id, s.sender, pg_catalog."left"(s.headered_event_json, $2) AS event
FROM syncapi_current_room_state s WHERE s.room_id = $1
ORDER BY s.type = 'm.room.member', s.type, s.state_key LIMIT $3

-- name: event_ids
-- The newest events first: a server that has the room can be asked for them.
SELECT e.event_id FROM roomserver_events e WHERE e.room_nid = $1 ORDER BY e.event_nid DESC LIMIT $2
