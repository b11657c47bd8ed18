-- The reverse of a release whose blob the disk did not let go: the rows are back as they were, and the entry is closed.

-- name: close_intents
-- Closes intents of which nothing was moved.
DELETE FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2 AND state = 'intended'
RETURNING entry_id

-- name: take_back_rows
-- Inserts the rows that a pass released with a blob ($1, $2; $3: why they are back), unless a copy of the blob was
-- quarantined after that release. A row that came back meanwhile stays as it is.
WITH back AS (
    SELECT DISTINCT ON (r.media_id, r.media_origin) r.*, e.reason
    FROM unnest($1::bigint[], $2::text[], $3::text[]) AS e(pass_id, hash, reason)
    JOIN retentiond.released_media r ON r.base64hash = e.hash AND r.pass_id = e.pass_id
    WHERE r.restoring IS NULL
      AND NOT EXISTS (SELECT FROM retentiond.entry o
                      WHERE o.hash = r.base64hash AND o.kind = 'blob' AND o.renamed_at >= r.released_at)
    ORDER BY r.media_id, r.media_origin, r.release_id DESC
), inserted AS (
    INSERT INTO mediaapi_media_repository (media_id, media_origin, content_type, file_size_bytes, creation_ts,
        upload_name, base64hash, user_id)
    SELECT b.media_id, b.media_origin, b.content_type, b.file_size_bytes, b.creation_ts, b.upload_name, b.base64hash,
        b.user_id
    FROM back b
    ON CONFLICT DO NOTHING
    RETURNING media_id, media_origin
)
SELECT b.release_id, b.pass_id, b.policy, b.media_id, b.media_origin, b.base64hash AS hash, b.reason, NULL::text AS by,
       i.media_id IS NOT NULL AS inserted
FROM back b
LEFT JOIN inserted i ON i.media_id = b.media_id COLLATE "default" AND i.media_origin = b.media_origin COLLATE "default"

-- name: take_back_thumbnails
-- Inserts all thumbnail rows of rows just inserted.
INSERT INTO mediaapi_thumbnail (media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height,
    resize_method)
SELECT r.media_id, r.media_origin, t.content_type, t.file_size_bytes, t.creation_ts, t.width, t.height, t.resize_method
FROM retentiond.released_media r
CROSS JOIN LATERAL jsonb_to_recordset(r.thumbnails) AS t(content_type text, file_size_bytes bigint, creation_ts bigint,
    width integer, height integer, resize_method text)
WHERE r.release_id = ANY ($1::bigint[])
ON CONFLICT DO NOTHING

-- name: forget_taken_back
-- Forgets the ledger's copies of these rows where the row is back. A trigger may have swallowed the insert: then the copy
-- is the only one.
DELETE FROM retentiond.released_media r
WHERE r.release_id = ANY ($1::bigint[])
  AND EXISTS (SELECT FROM mediaapi_media_repository m
              WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
RETURNING r.release_id
