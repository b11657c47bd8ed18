-- The statements of the report alone; what is stored is in stored.sql.

-- name: count_codes
-- The measured rows, by the code of their verdict.
SELECT s.code, count(*) AS items FROM pg_temp.stored s GROUP BY s.code

-- name: take_due
-- The due rows of a survey, out of the measured ones; $1 are the policies by code, null for those that keep. They are
-- counted alone, in no order: they need no number of their own.
CREATE TEMPORARY TABLE due AS
SELECT s.hash, s.media_id, s.origin AS media_origin, ($1::integer[])[s.code + 1] AS policy, NULL::bigint AS size,
       s.creation_ts AS counted_from, NULL::text AS kept, 0::bigint AS due_id, s.bytes
FROM pg_temp.stored s
WHERE ($1::integer[])[s.code + 1] IS NOT NULL

-- name: drop_not_due
-- Leaves the rows of a survey that are due at the time $1 (milliseconds); $2 are the keeps of the policies in their order,
-- in milliseconds, null for ever.
DELETE FROM pg_temp.due d
WHERE (d.counted_from::numeric + ($2::bigint[])[d.policy + 1] <= $1) IS NOT TRUE

-- name: count_due
-- The rows that are due at that time and that nothing keeps.
SELECT count(*) FROM pg_temp.due d
WHERE d.kept IS NULL AND d.counted_from::numeric + ($2::bigint[])[d.policy + 1] <= $1

-- name: room_names
-- The events that name each of these rooms: its name, else its alias. An event is at most 64 KiB.
SELECT s.room_id, s.type, s.headered_event_json AS event
FROM unnest($1::text[]) AS r(room_id)
JOIN syncapi_current_room_state s ON s.room_id = r.room_id
WHERE s.type IN ('m.room.name', 'm.room.canonical_alias') AND s.state_key = '' AND octet_length(s.headered_event_json) <= 131072
