-- Samples of targets: one a day.

-- name: has_sample
-- Whether today, by the server's clock in UTC, has a sample of the target.
SELECT EXISTS (SELECT FROM retentiond.sample
               WHERE target = $1 AND day = (pg_catalog.clock_timestamp() AT TIME ZONE 'UTC')::date)

-- name: save_sample
-- Adds the sample of today, unless another process has added it meanwhile. The totals of passes come from their own
-- table: a reader takes the difference from the day before.
INSERT INTO retentiond.sample (target, day, at, items, bytes, classes, largest, free_bytes, database_bytes, taken_items,
                               taken_bytes, purged_items, purged_bytes, restored_items)
SELECT $1, (n.now AT TIME ZONE 'UTC')::date, n.now, $2, $3, $4::jsonb, $5::jsonb, $6,
       pg_catalog.pg_database_size(pg_catalog.current_database()), p.taken_items, p.taken_bytes, p.purged_items,
       p.purged_bytes, p.restored_items
FROM (SELECT pg_catalog.clock_timestamp() AS now) n
CROSS JOIN (SELECT coalesce(sum((report -> 'removed' ->> 'items')::bigint), 0)::bigint AS taken_items,
                   coalesce(sum((report -> 'removed' ->> 'bytes')::bigint), 0)::bigint AS taken_bytes,
                   coalesce(sum(purged_entries), 0)::bigint AS purged_items,
                   coalesce(sum(purged_bytes), 0)::bigint AS purged_bytes,
                   coalesce(sum(restored_items), 0)::bigint AS restored_items
            FROM retentiond.pass WHERE target = $1) p
ON CONFLICT (target, day) DO NOTHING
RETURNING day

-- name: samples
-- The newest samples of a target, at most so many (NULL: all), oldest first, each with the difference of its totals from the one before. A ledger that was
-- restored from a backup has smaller totals than before: no difference is below zero. A day that is yet to come is of a clock
-- that was wrong, and is left out.
SELECT * FROM (
SELECT day, at, items, bytes, classes, largest, free_bytes, database_bytes,
       greatest(taken_items - lag(taken_items, 1, taken_items) OVER w, 0) AS taken_items,
       greatest(taken_bytes - lag(taken_bytes, 1, taken_bytes) OVER w, 0) AS taken_bytes,
       greatest(purged_items - lag(purged_items, 1, purged_items) OVER w, 0) AS purged_items,
       greatest(purged_bytes - lag(purged_bytes, 1, purged_bytes) OVER w, 0) AS purged_bytes,
       greatest(restored_items - lag(restored_items, 1, restored_items) OVER w, 0) AS restored_items
FROM retentiond.sample WHERE target = $1 AND day <= (pg_catalog.clock_timestamp() AT TIME ZONE 'UTC')::date
WINDOW w AS (ORDER BY day)
ORDER BY day DESC LIMIT $2
) newest
ORDER BY day

-- name: prune_samples
-- Removes the samples of all targets from the days before the one on which the time given ends.
DELETE FROM retentiond.sample
WHERE day < ((pg_catalog.clock_timestamp() - $1::interval) AT TIME ZONE 'UTC')::date
