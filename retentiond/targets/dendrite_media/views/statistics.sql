-- The statements of the report alone; what is stored is in stored.sql.

-- name: drop_not_due
-- Leaves the rows of a survey that are due at the time $1 (milliseconds); $2 are the keeps of the policies in their order,
-- in milliseconds, null for ever.
DELETE FROM pg_temp.due d
WHERE d.counted_from IS NOT NULL AND (d.counted_from::numeric + ($2::bigint[])[d.policy + 1] <= $1) IS NOT TRUE

-- name: drop_created_later
-- The same of rows whose time began when the media were stored; those that are gone stay.
DELETE FROM pg_temp.due d USING mediaapi_media_repository m
WHERE d.counted_from IS NULL
  AND m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"
  AND (m.creation_ts::numeric + ($2::bigint[])[d.policy + 1] <= $1) IS NOT TRUE

-- name: count_due
SELECT count(*) FROM pg_temp.due WHERE kept IS NULL

-- name: room_names
-- The events that name each of these rooms: its name, else its alias. An event is at most 64 KiB.
SELECT s.room_id, s.type, s.headered_event_json AS event
FROM unnest($1::text[]) AS r(room_id)
JOIN syncapi_current_room_state s ON s.room_id = r.room_id
WHERE s.type IN ('m.room.name', 'm.room.canonical_alias') AND s.state_key = '' AND octet_length(s.headered_event_json) <= 131072
