-- The counts of a plan.

-- name: orphan_thumbnail_rows
-- Thumbnail rows without a media row.
SELECT count(*) FROM mediaapi_thumbnail t
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)
