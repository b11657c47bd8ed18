-- What a plan's connection knows of one medium, by its ID ($1) and server ($2). {hold_media} is the plan's own copy.

-- name: row
SELECT media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id
FROM mediaapi_media_repository WHERE media_id = $1 AND media_origin = $2

-- name: bearers
-- How many rows bear its content.
SELECT count(*) FROM mediaapi_media_repository WHERE base64hash COLLATE "C" = $1

-- name: mentions
-- Which of the sources that were read mention it.
SELECT source, since_ms FROM pg_temp.plan_reference WHERE media_id = $1 AND media_origin = $2

-- name: holds
-- The holds in force that are on it; $3 is who uploaded it.
SELECT h.hold_id, h.kind, h.subject FROM retentiond.hold_in_force h
WHERE EXISTS (SELECT FROM {hold_media} x WHERE x.hold_id = h.hold_id AND x.media_id = $1 AND x.media_origin = $2)
   OR (h.kind = 'origin' AND h.subject = lower($2::text))
   OR (h.kind = 'user' AND h.subject = $3)
ORDER BY h.hold_id

-- name: restored
-- The mark that keeps what was brought back, while it lasts.
SELECT until, restored_at, restored_by, reason FROM retentiond.restored
WHERE media_id = $1 AND media_origin = $2 AND (until IS NULL OR until > clock_timestamp())

-- name: released
-- What can be brought back of it.
SELECT pass_id, policy, released_at, grace_until FROM retentiond.released_media
WHERE media_id = $1 AND media_origin = $2 ORDER BY release_id
