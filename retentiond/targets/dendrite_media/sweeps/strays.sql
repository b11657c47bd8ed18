-- Stray thumbnails: where to look for them, and those that lie in quarantine.

-- name: shared_due
-- Shared blobs whose thumbnails have had their hour.
SELECT hash, pass_id, noted_at, settle FROM retentiond.shared_blob
WHERE noted_at < clock_timestamp() - interval '1 hour' AND hash > $1
ORDER BY hash LIMIT $2

-- name: any_asked_thumbnails_due
-- Whether the grace of thumbnails is over whose facts are asked again: only then the references are worth a copy.
SELECT EXISTS (SELECT FROM retentiond.thumbnail_release
               WHERE facts IS NOT NULL AND restoring IS NULL AND grace_until <= statement_timestamp())
