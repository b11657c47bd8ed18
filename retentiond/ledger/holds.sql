-- The recorded holds of all kinds of target.

-- name: lock_holds
-- For a transaction that deletes: a hold that is added meanwhile waits for its end, or is seen in it.
LOCK TABLE retentiond.hold IN SHARE MODE

-- name: add_hold
INSERT INTO retentiond.hold (kind, subject, until, reason, added_at, added_by, narrowed, with_members)
VALUES ($1, $2, $3, $4, clock_timestamp(), $5, $6::jsonb, $7)
RETURNING hold_id

-- name: holds_page
-- Holds by number, a page: those in force, or all.
SELECT h.hold_id, h.kind, h.subject, h.narrowed, h.with_members, h.until, h.reason, h.added_at, h.added_by, h.released_at, h.released_by,
       h.release_reason,
       CASE WHEN h.released_at IS NOT NULL THEN 'released'
            WHEN h.until < (clock_timestamp() AT TIME ZONE 'UTC')::date THEN 'ended'
            ELSE 'in_force' END AS state
FROM retentiond.hold h
WHERE h.hold_id > $1
  AND ($3 OR EXISTS (SELECT FROM retentiond.hold_in_force f WHERE f.hold_id = h.hold_id))
  AND ($4::bigint[] IS NULL OR h.hold_id = ANY ($4::bigint[]))
ORDER BY h.hold_id LIMIT $2

-- name: release_holds
-- Releases holds that are in force, by number or by subject.
UPDATE retentiond.hold
SET released_at = clock_timestamp(), released_by = $1, release_reason = $2
WHERE released_at IS NULL
  AND (hold_id = ANY ($3::bigint[]) OR (kind = $4 AND subject = $5 AND narrowed = $6::jsonb))
RETURNING hold_id

-- name: count_holds
SELECT count(*) FROM retentiond.hold_in_force
