-- The restore of thumbnails that were released alone.

-- name: marked_thumbnails
-- The thumbnails to be restored.
SELECT r.base64hash AS hash, t.width, t.height, t.resize_method
FROM retentiond.thumbnail_release r
CROSS JOIN LATERAL unnest(r.thumbnails) AS t
WHERE (r.restoring ->> 'claimant')::integer = $2 AND r.base64hash = ANY ($1::text[])
