-- Rows of purged rooms.

-- name: count
-- The rows in one table of rooms that were purged, by the room.
SELECT {key} AS key, pg_catalog.count(*) AS rows FROM {table} WHERE {key} = ANY ($1) GROUP BY 1
