-- Rooms of a kind whose times cannot be trusted: the ledger records when a copy of references first found them so.

-- name: has_ledger
-- A plan may run before the first pass has made the ledger.
SELECT to_regclass('retentiond.room_seen') IS NOT NULL

-- name: undated_rooms
SELECT r.room_id, r.kind, r.since_ms, r.event FROM pg_temp.retentiond_room r WHERE r.since_ms IS NULL

-- name: forget_rooms
-- Deletes rooms that are not of the kind any more, or were of another in between.
DELETE FROM retentiond.room_seen s
WHERE NOT EXISTS (SELECT FROM pg_temp.retentiond_room r
                  WHERE r.since_ms IS NULL AND r.room_id = s.room_id AND r.kind = s.kind AND r.event = s.event)

-- name: note_rooms
-- Adds the others. A room ID that is too long for the index stays undated.
INSERT INTO retentiond.room_seen (room_id, kind, event, first_seen)
SELECT r.room_id, r.kind, r.event, clock_timestamp()
FROM pg_temp.retentiond_room r WHERE r.since_ms IS NULL AND octet_length(r.room_id) <= 2600
ON CONFLICT (room_id, kind) DO NOTHING

-- name: dated_rooms
-- The undated rooms with the first time that they were found so, in milliseconds, rounded up.
SELECT s.room_id, s.kind, ceil(extract(epoch FROM s.first_seen) * 1000)::bigint AS since_ms
FROM pg_temp.retentiond_room r
JOIN retentiond.room_seen s ON s.room_id = r.room_id AND s.kind = r.kind AND s.event = r.event
WHERE r.since_ms IS NULL

-- name: date_rooms
-- Dates rooms by three arrays of the same length.
UPDATE pg_temp.retentiond_room r SET since_ms = s.since_ms
FROM unnest($1::text[], $2::text[], $3::bigint[]) AS s(room_id, kind, since_ms)
WHERE r.since_ms IS NULL AND r.room_id = s.room_id COLLATE "C" AND r.kind = s.kind
