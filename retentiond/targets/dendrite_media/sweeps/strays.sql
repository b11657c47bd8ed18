-- Stray thumbnails: where to look for them, and those that lie in quarantine.

-- name: shared_due
-- Shared blobs whose thumbnails have had their hour.
SELECT hash, pass_id, noted_at, settle FROM retentiond.shared_blob
WHERE noted_at < clock_timestamp() - interval '1 hour' AND hash > $1
ORDER BY hash LIMIT $2

-- name: forget_shared
DELETE FROM retentiond.shared_blob WHERE hash = ANY ($1::text[]) AND noted_at < clock_timestamp() - interval '1 hour'

-- name: record_stray
-- Records the intent to quarantine stray thumbnails of a blob that stays.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle, grace_until)
VALUES ($1, $2, 'thumbnails', 'intended', $3, $4, $5, $6, clock_timestamp() + $7::interval)
RETURNING entry_id

-- name: claim_strays
-- Claims a page of stray thumbnails in quarantine; says whether settle and grace are over, and whether a sweep has
-- looked before.
UPDATE retentiond.entry e SET claimed_by = $3
WHERE e.entry_id IN (
    SELECT entry_id FROM retentiond.entry
    WHERE kind = 'thumbnails' AND state = 'quarantined' AND claimed_by IS NULL AND entry_id > $1
      AND ($4 OR retry_at IS NULL OR retry_at <= statement_timestamp())
    ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING e.entry_id, e.pass_id, e.hash, e.bytes,
          e.settle = interval '0' OR coalesce(e.looked_at > e.renamed_at, false) AS looked,
          e.renamed_at + e.settle <= clock_timestamp()
          AND (e.grace_until IS NULL OR e.grace_until <= clock_timestamp())
          AND NOT EXISTS (SELECT FROM retentiond.released_media r
                          WHERE r.base64hash = e.hash AND r.grace_until > clock_timestamp())
          AND NOT EXISTS (SELECT FROM retentiond.thumbnail_release r
                          WHERE r.base64hash = e.hash AND (r.grace_until > clock_timestamp() OR r.restoring IS NOT NULL))
          AS over

-- name: strays_looked
UPDATE retentiond.entry SET looked_at = $3, claimed_by = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: any_asked_thumbnails_due
-- Whether the grace of thumbnails is over whose facts are asked again: only then the references are worth a copy.
SELECT EXISTS (SELECT FROM retentiond.thumbnail_release
               WHERE facts IS NOT NULL AND restoring IS NULL AND grace_until <= statement_timestamp())
