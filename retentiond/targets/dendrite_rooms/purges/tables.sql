-- The rows of one room in dendrite's tables.

-- name: there
-- The tables that this database has, by their places in the list.
SELECT t.place FROM (VALUES {tables}) AS t (place, oid) WHERE t.oid IS NOT NULL

-- name: count
SELECT pg_catalog.count(*) FROM {table} WHERE {key} = $1

-- name: awaited
-- Whether sync still has events or state of a room.
SELECT EXISTS (SELECT FROM syncapi_output_room_events WHERE room_id = $1)
    OR EXISTS (SELECT FROM syncapi_current_room_state WHERE room_id = $1)

-- name: dead_space
-- The size of each table with its large values, and the part of dead rows in it, by the server's statistics: an estimate.
SELECT t.place, pg_catalog.pg_table_size(t.oid) AS bytes,
       coalesce(pg_catalog.pg_table_size(t.oid) * s.n_dead_tup / nullif(s.n_live_tup + s.n_dead_tup, 0), 0)::bigint AS reusable
FROM (VALUES {tables}) AS t (place, oid)
JOIN pg_catalog.pg_stat_all_tables s ON s.relid = t.oid
