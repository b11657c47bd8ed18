-- Restore by hand: the selected items are marked.

-- name: present_rows
-- Rows of a page of blobs that need no restore, since their key has a row.
SELECT r.media_id, r.media_origin FROM retentiond.released_media r
WHERE r.base64hash = ANY ($1::text[]) AND ($2::bigint IS NULL OR r.pass_id = $2)
  AND ($3::text IS NULL OR r.media_id = $3 AND r.media_origin = $4) AND r.restoring IS NULL
  AND EXISTS (SELECT FROM mediaapi_media_repository m
              WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default"
              OFFSET 0)
