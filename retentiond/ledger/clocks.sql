-- The notes of this machine's clock, one for each target and boot, which this file alone writes.

-- name: clock_notes
-- The notes of a target's clock; those without a target are of each. Before a target's first note in this boot, that of
-- another one tells of a leap.
SELECT clock_timestamp() AS now, coalesce(own.wall_ahead, other.wall_ahead) AS wall_ahead,
       own.wall_ahead IS NOT NULL AS own, before.seen_at AS last_boot
FROM (VALUES (true)) one(row)
LEFT JOIN LATERAL (SELECT c.wall_ahead FROM retentiond.host_clock c WHERE c.boot_id = $1 AND c.target IN ($2, '')
                   ORDER BY c.target DESC LIMIT 1) own ON true
LEFT JOIN LATERAL (SELECT c.wall_ahead FROM retentiond.host_clock c WHERE c.boot_id = $1
                   ORDER BY c.seen_at DESC LIMIT 1) other ON true
LEFT JOIN LATERAL (SELECT c.seen_at FROM retentiond.host_clock c
                   WHERE c.target IN ($2, '') AND (c.boot_id <> $1 OR $1 = 'unknown')
                   ORDER BY c.seen_at DESC LIMIT 1) before ON true

-- name: lock_clock
-- A second one that has found the same gap waits here, and then finds the note.
SELECT FROM retentiond.store FOR UPDATE

-- name: save_clock
-- Notes the clock. A note of the future was written by a wrong clock.
WITH wrong AS (
    DELETE FROM retentiond.host_clock
    WHERE target = $1 AND boot_id <> $2 AND seen_at > clock_timestamp() + interval '1 hour'
)
INSERT INTO retentiond.host_clock (target, boot_id, host, wall_ahead, seen_at) VALUES ($1, $2, $3, $4, clock_timestamp())
ON CONFLICT (target, boot_id) DO UPDATE
SET host = excluded.host, wall_ahead = excluded.wall_ahead, seen_at = excluded.seen_at
