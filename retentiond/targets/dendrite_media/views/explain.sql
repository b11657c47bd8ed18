-- A plan's data on one media item, by its ID ($1) and server ($2). {hold_media} and {hold_member} are the plan's own
-- copies.

-- name: row
SELECT media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id
FROM mediaapi_media_repository WHERE media_id = $1 AND media_origin = $2

-- name: blob_page
-- A page of the rows of the blob $4, after a key.
SELECT media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id
FROM mediaapi_media_repository
WHERE base64hash COLLATE "C" = $4 AND (media_id, media_origin) > ($1::text, $2::text)
ORDER BY media_id, media_origin
LIMIT $3

-- name: blob_page_with_mentions
-- The same, with the sources that mention each row, of those in $5; $6 are the names of this server.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id, coalesce(f.since_ms, '{}') AS since_ms,
       coalesce(f.sources, '{}') || ARRAY(SELECT h.source FROM ({shown_on_page}) h WHERE h.source = ANY ($5::text[])) AS mentions
FROM mediaapi_media_repository m
LEFT JOIN pg_temp.mention f ON f.media_id = m.media_id COLLATE "C" AND f.media_origin = m.media_origin COLLATE "C"
WHERE m.base64hash COLLATE "C" = $4 AND (m.media_id, m.media_origin) > ($1::text, $2::text)
ORDER BY m.media_id, m.media_origin
LIMIT $3

-- name: bearers
-- The number of rows with its blob.
SELECT count(*) FROM mediaapi_media_repository WHERE base64hash COLLATE "C" = $1

-- name: mentions
-- Those of the sources that were read that mention it; $3 are the names of this server.
SELECT source, since_ms FROM pg_temp.plan_reference WHERE media_id = $1 AND media_origin = $2
UNION ALL
SELECT h.source, NULL
FROM mediaapi_media_repository m CROSS JOIN LATERAL ({shown}) h
WHERE m.media_id = $1 AND m.media_origin = $2

-- name: holds
-- The holds in force on it, each with the first reason that applies; $3 is the uploader.
SELECT * FROM (
    SELECT h.hold_id, h.kind, h.subject,
           CASE WHEN (h.kind = 'origin' AND h.subject = lower($2::text COLLATE "C")) OR (h.kind = 'user' AND h.subject = $3)
                THEN 'named'
                WHEN EXISTS (SELECT FROM {hold_media} x
                             WHERE x.hold_id = h.hold_id AND x.media_id = $1 AND x.media_origin = $2)
                THEN CASE h.kind WHEN 'media' THEN 'named' ELSE 'referred' END
                WHEN EXISTS (SELECT FROM {hold_member} x
                             WHERE x.hold_id = h.hold_id AND x.kind = 'user' AND x.subject = $3) THEN 'member'
                WHEN EXISTS (SELECT FROM {hold_member} x
                             WHERE x.hold_id = h.hold_id AND x.kind = 'origin' AND x.subject = lower($2::text COLLATE "C"))
                THEN 'member_server' END AS why
    FROM retentiond.hold_in_force h) f
WHERE f.why IS NOT NULL
ORDER BY f.hold_id

-- name: restored
-- The mark that keeps a restored item, while it lasts.
SELECT until, restored_at, restored_by, reason FROM retentiond.restored
WHERE media_id = $1 AND media_origin = $2 AND (until IS NULL OR until > clock_timestamp())

-- name: released
-- The restorable rows of it.
SELECT pass_id, policy, released_at, grace_until, facts FROM retentiond.released_media
WHERE media_id = $1 AND media_origin = $2 ORDER BY release_id
