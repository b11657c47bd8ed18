-- The table of the signs of trouble, which this file alone writes.

-- name: stop
INSERT INTO retentiond.room_trouble (target, sign, room_id, detail, at)
VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp())
ON CONFLICT (target) DO NOTHING

-- name: stopped
SELECT sign, room_id, detail, at FROM retentiond.room_trouble WHERE target = $1

-- name: accept
DELETE FROM retentiond.room_trouble WHERE target = $1 RETURNING sign
