-- Stray thumbnails: the blobs to look at, and the thumbnails in quarantine.

-- name: shared_due
-- Shared blobs whose thumbnails have waited for an hour.
SELECT hash, pass_id, noted_at, settle FROM retentiond.shared_blob
WHERE noted_at < clock_timestamp() - interval '1 hour' AND hash > $1
ORDER BY hash LIMIT $2

-- name: any_asked_thumbnails_due
-- Whether the grace of thumbnails with facts is over: only then a copy of the references is worth its cost.
SELECT EXISTS (SELECT FROM retentiond.thumbnail_release
               WHERE facts IS NOT NULL AND restoring IS NULL AND grace_until <= statement_timestamp())
