-- Marked rows and their copies: the restorable ones, and the inserts once the files exist.

-- name: restorable_hashes
-- The blobs with a file of some marked row's size; a restore that inserts no row moves no file.
SELECT DISTINCT r.base64hash AS hash
FROM unnest($1::text[], $2::bigint[]) AS f(hash, size)
JOIN retentiond.released_media r ON r.base64hash = f.hash
WHERE (r.restoring ->> 'claimant')::integer = $3 AND (r.file_size_bytes <= 0 OR r.file_size_bytes = f.size)
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")

-- name: restoring_thumbnails
-- The thumbnails of rows that are being restored.
SELECT r.base64hash AS hash, t.width, t.height, t.resize_method
FROM retentiond.released_media r
CROSS JOIN LATERAL unnest(r.thumbnails) AS t
WHERE r.restoring IS NOT NULL AND r.base64hash = ANY ($1::text[])
