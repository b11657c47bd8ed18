-- The end of all grace, by hand, and the way back. A grace ends no earlier than the settle: until then all can come back,
-- and the lists show when it is over. The first grace is remembered, however often it is ended.

-- name: end_grace
-- `quarantine purge --yes`, of rows: $1 is the settle of those whose file stays, since another row has it.
UPDATE retentiond.released_media r
SET grace_before = coalesce(grace_before, grace_until),
    grace_until = least(grace_until, greatest(
        clock_timestamp(),
        coalesce((SELECT max(e.renamed_at + e.settle) FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob'),
                 released_at + $1::interval)))
WHERE grace_until > clock_timestamp()

-- name: end_grace_of_entries
-- The same for what no released row stands for.
UPDATE retentiond.entry
SET grace_before = coalesce(grace_before, grace_until),
    grace_until = least(grace_until, greatest(clock_timestamp(), renamed_at + settle))
WHERE grace_until > clock_timestamp()

-- name: end_grace_of_releases
-- The same for thumbnails that were released alone.
UPDATE retentiond.thumbnail_release r
SET grace_before = coalesce(grace_before, grace_until),
    grace_until = least(grace_until, greatest(
        clock_timestamp(),
        coalesce((SELECT max(e.renamed_at + e.settle) FROM retentiond.entry e
                  WHERE e.hash = r.base64hash AND e.kind = 'thumbnails'), released_at + $1::interval)))
WHERE grace_until > clock_timestamp()

-- name: end_grace_of_thumbnails
UPDATE retentiond.released_thumbnail
SET grace_before = coalesce(grace_before, grace_until),
    grace_until = least(grace_until, greatest(clock_timestamp(), released_at + $1::interval))
WHERE grace_until > clock_timestamp()

-- name: give_back_grace_of_entries
-- `quarantine purge --cancel`, of the entries first: a purge that has looked at them just now must not claim them with the
-- ended grace in mind, and claims none that no sweep has looked at since. What a step under way has is left alone.
UPDATE retentiond.entry e
SET looked_at = NULL, grace_until = coalesce(e.grace_before, e.grace_until), grace_before = NULL
WHERE e.claimed_by IS NULL AND e.state IN ('quarantined', 'returned')
  AND (e.grace_before IS NOT NULL
       OR EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = e.hash AND r.grace_before IS NOT NULL)
       OR EXISTS (SELECT FROM retentiond.thumbnail_release r WHERE r.base64hash = e.hash AND r.grace_before IS NOT NULL))

-- name: give_back_grace
-- Then of the rows, but for those of blobs that a step under way has.
WITH back AS (
    UPDATE retentiond.released_media r SET grace_until = r.grace_before, grace_before = NULL
    WHERE r.grace_before IS NOT NULL
      AND NOT EXISTS (SELECT FROM retentiond.entry e
                      WHERE e.hash = r.base64hash AND (e.claimed_by IS NOT NULL OR e.state = 'purging'))
    RETURNING r.grace_until
)
SELECT count(*) AS items, max(grace_until) AS until FROM back

-- name: give_back_grace_of_releases
UPDATE retentiond.thumbnail_release r SET grace_until = r.grace_before, grace_before = NULL
WHERE r.grace_before IS NOT NULL
  AND NOT EXISTS (SELECT FROM retentiond.entry e
                  WHERE e.hash = r.base64hash AND e.kind = 'thumbnails'
                    AND (e.claimed_by IS NOT NULL OR e.state = 'purging'))

-- name: give_back_grace_of_thumbnails
UPDATE retentiond.released_thumbnail SET grace_until = grace_before, grace_before = NULL WHERE grace_before IS NOT NULL

-- name: grace_not_given_back
SELECT count(*) FROM retentiond.released_media WHERE grace_before IS NOT NULL
