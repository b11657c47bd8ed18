-- Thumbnails that were released alone: the list, and their restore.

-- name: thumbnail_page
-- Restorable released thumbnails, a page by release.
SELECT r.release_id, r.pass_id, r.policy, r.released_at, r.grace_until, r.media_id, r.media_origin, r.facts,
       (SELECT least(coalesce(sum(greatest((t ->> 'file_size_bytes')::bigint, 0)), 0), 9223372036854775807)::bigint
        FROM jsonb_array_elements(r.thumbnails) t) AS bytes
FROM retentiond.thumbnail_release r
WHERE r.release_id > $1
ORDER BY r.release_id
LIMIT $2

-- name: thumbnail_restorers
SELECT DISTINCT (restoring ->> 'claimant')::integer AS claimant FROM retentiond.thumbnail_release
WHERE restoring IS NOT NULL

-- name: marked_thumbnails
-- The thumbnails to be restored.
SELECT r.base64hash AS hash, t.width, t.height, t.resize_method
FROM retentiond.thumbnail_release r
CROSS JOIN LATERAL jsonb_to_recordset(r.thumbnails) AS t(width integer, height integer, resize_method text)
WHERE (r.restoring ->> 'claimant')::integer = $2 AND r.base64hash = ANY ($1::text[])
