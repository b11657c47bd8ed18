-- The proof of disposal: records are added at the end, and pruned from the beginning.

-- name: lock_chain
-- Holds the end of the chain until this transaction ends, so that no other record gets the same number.
SELECT c.head, c.head_hash, c.pruned, s.store_id, clock_timestamp() AS now
FROM retentiond.record_chain c CROSS JOIN retentiond.store s
FOR UPDATE OF c

-- name: add_record
WITH added AS (
    INSERT INTO retentiond.record (number, at, content, hash) VALUES ($1, $2, $3, $4)
)
UPDATE retentiond.record_chain SET head = $1, head_hash = $4

-- name: chain
-- What the first record of the chain must follow, and which must be the last.
SELECT pruned, pruned_hash, head, head_hash FROM retentiond.record_chain

-- name: record_page
-- A page of records after a number, up to the one that was the newest at the beginning.
SELECT number, content, hash FROM retentiond.record WHERE number > $1 AND number <= $3 ORDER BY number LIMIT $2

-- name: last_to_prune
-- The last record of those at the beginning that are all older than the time given; of two clocks the older counts.
SELECT number, hash FROM retentiond.record
WHERE number = (SELECT coalesce((SELECT min(r.number) FROM retentiond.record r WHERE r.at >= $1), c.head + 1) - 1
                FROM retentiond.record_chain c)

-- name: allow_pruning
-- Lets this transaction delete records.
SELECT set_config('retentiond.pruning', 'yes', true)

-- name: prune
DELETE FROM retentiond.record WHERE number <= $1

-- name: save_pruned
UPDATE retentiond.record_chain SET pruned = $1, pruned_hash = $2
