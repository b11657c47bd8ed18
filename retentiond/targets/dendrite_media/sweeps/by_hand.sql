-- The end of all grace, by hand.

-- name: end_grace
-- `quarantine purge --yes`: no grace is waited for any more.
UPDATE retentiond.released_media SET grace_until = clock_timestamp() WHERE grace_until > clock_timestamp()

-- name: end_grace_of_entries
-- The same for what no released row stands for.
UPDATE retentiond.entry SET grace_until = clock_timestamp() WHERE grace_until > clock_timestamp()

-- name: end_grace_of_thumbnails
UPDATE retentiond.released_thumbnail SET grace_until = clock_timestamp() WHERE grace_until > clock_timestamp()
