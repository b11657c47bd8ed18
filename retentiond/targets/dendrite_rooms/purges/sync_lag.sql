-- The room server's newest events against those of sync.

-- name: newest_sent
-- The last event that each room sent to sync, the newest first.
SELECT e.event_id FROM roomserver_rooms r JOIN roomserver_events e ON e.event_nid = r.last_event_sent_nid
ORDER BY r.last_event_sent_nid DESC LIMIT $1

-- name: received
SELECT o.event_id FROM syncapi_output_room_events o WHERE o.event_id = ANY ($1::text[])
