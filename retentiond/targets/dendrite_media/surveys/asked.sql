-- Released rows whose facts are checked again.

-- name: distinct_facts
-- The different facts of all rows in quarantine: as many as there are policies, quotas and requests with
-- conditions.
SELECT facts FROM retentiond.released_media WHERE facts IS NOT NULL
UNION
SELECT facts FROM retentiond.thumbnail_release WHERE facts IS NOT NULL

-- name: asked_page
-- A page, by release, of restorable rows with facts; not those whose key is in dendrite's table again.
SELECT r.release_id, r.facts, r.media_id, r.media_origin, r.content_type, r.file_size_bytes, r.creation_ts, r.upload_name,
       r.base64hash, r.user_id
FROM retentiond.released_media r
WHERE r.release_id > $1 AND r.facts IS NOT NULL AND r.had_file AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
ORDER BY r.release_id LIMIT $2

-- name: asked_of
-- The same rows of some blobs.
SELECT r.release_id, r.facts, r.media_id, r.media_origin, r.content_type, r.file_size_bytes, r.creation_ts, r.upload_name,
       r.base64hash, r.user_id
FROM retentiond.released_media r
WHERE r.base64hash = ANY ($1::text[]) AND r.facts IS NOT NULL AND r.had_file AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")

-- name: asked_thumbnails
-- A page, by release, of thumbnails that were released alone, have facts and whose media row exists.
SELECT r.release_id, r.facts, m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name,
       r.base64hash, m.user_id
FROM retentiond.thumbnail_release r
JOIN mediaapi_media_repository m
  ON m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default"
 AND m.base64hash COLLATE "C" = r.base64hash
WHERE r.release_id > $1 AND r.facts IS NOT NULL AND r.restoring IS NULL
ORDER BY r.release_id LIMIT $2
