-- The media whose old thumbnails are due.

-- name: keep_with_old_thumbnails
-- Leaves as due only the rows that have a thumbnail old enough: $1 and $2, the believable dates; $3, the newest date
-- that each policy removes, by its number from 1.
DELETE FROM pg_temp.due d
WHERE NOT EXISTS (SELECT FROM mediaapi_thumbnail t
                  WHERE t.media_id = d.media_id COLLATE "default" AND t.media_origin = d.media_origin COLLATE "default"
                    AND t.creation_ts BETWEEN $1 AND least($2, ($3::bigint[])[d.policy + 1]))
