-- Marked rows and their copies: what can be restored, and the inserts once the files stand.

-- name: claim_copies
-- Claims what the quarantine holds of these contents, to bring it back, and what was never moved into it: an open
-- intent stays one. Does every released row of them come?
WITH copy AS (
    SELECT entry_id FROM retentiond.entry
    WHERE hash = ANY ($1::text[]) AND claimed_by IS NULL AND state IN ('quarantined', 'returned', 'intended')
    ORDER BY entry_id FOR UPDATE SKIP LOCKED
)
UPDATE retentiond.entry e SET claimed_by = $2, state = CASE WHEN e.state = 'quarantined' THEN 'restoring' ELSE e.state END
FROM copy c WHERE e.entry_id = c.entry_id
RETURNING e.entry_id, e.pass_id, e.hash, e.kind, e.state,
    NOT EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = e.hash AND r.restoring IS NULL) AS all_rows

-- name: restorable_hashes
-- The contents of which a file of some marked row's size is at hand; a restore that inserts no row moves no file.
SELECT DISTINCT r.base64hash AS hash
FROM unnest($1::text[], $2::bigint[]) AS f(hash, size)
JOIN retentiond.released_media r ON r.base64hash = f.hash
WHERE (r.restoring ->> 'claimant')::integer = $3 AND (r.file_size_bytes <= 0 OR r.file_size_bytes = f.size)
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")

-- name: restoring_thumbnails
-- The thumbnails of rows that are being brought back.
SELECT r.base64hash AS hash, t.width, t.height, t.resize_method
FROM retentiond.released_media r
CROSS JOIN LATERAL jsonb_to_recordset(r.thumbnails) AS t(width integer, height integer, resize_method text)
WHERE r.restoring IS NOT NULL AND r.base64hash = ANY ($1::text[])

-- name: insert_restored
-- Inserts rows whose whole file stands live (of the row's size, or of any where the row says 0 or less); of two
-- copies of one key the newer. A row that came back meanwhile wins.
WITH live AS (
    SELECT * FROM unnest($1::text[], $2::bigint[]) AS l(hash, size)
), chosen AS (
    SELECT DISTINCT ON (r.media_id, r.media_origin) r.*
    FROM retentiond.released_media r JOIN live l ON l.hash = r.base64hash
    WHERE (r.restoring ->> 'claimant')::integer = $3 AND l.size IS NOT NULL AND (r.file_size_bytes <= 0 OR r.file_size_bytes = l.size)
    ORDER BY r.media_id, r.media_origin, r.release_id DESC
), inserted AS (
    INSERT INTO mediaapi_media_repository (media_id, media_origin, content_type, file_size_bytes, creation_ts,
        upload_name, base64hash, user_id)
    SELECT c.media_id, c.media_origin, c.content_type, c.file_size_bytes, c.creation_ts, c.upload_name, c.base64hash,
        c.user_id
    FROM chosen c
    ON CONFLICT DO NOTHING
    RETURNING media_id, media_origin
)
SELECT c.release_id, c.pass_id, c.media_id, c.media_origin, i.media_id IS NOT NULL AS inserted,
       c.restoring ->> 'by' AS by, c.restoring ->> 'reason' AS reason
FROM chosen c
LEFT JOIN inserted i ON i.media_id = c.media_id COLLATE "default" AND i.media_origin = c.media_origin COLLATE "default"

-- name: insert_restored_thumbnails
-- Inserts the thumbnail rows of rows just inserted whose file stands live, of the row's size.
WITH live AS (
    SELECT * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[])
             AS l(hash, width, height, resize_method, size)
)
INSERT INTO mediaapi_thumbnail (media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height,
    resize_method)
SELECT r.media_id, r.media_origin, t.content_type, t.file_size_bytes, t.creation_ts, t.width, t.height, t.resize_method
FROM retentiond.released_media r
CROSS JOIN LATERAL jsonb_to_recordset(r.thumbnails) AS t(content_type text, file_size_bytes bigint, creation_ts bigint,
    width integer, height integer, resize_method text)
JOIN live l ON l.hash = r.base64hash AND l.width = t.width AND l.height = t.height
           AND l.resize_method = t.resize_method AND l.size = t.file_size_bytes
WHERE r.release_id = ANY ($1::bigint[])
ON CONFLICT DO NOTHING

-- name: mark_restored
-- What was brought back by hand is kept from now on.
INSERT INTO retentiond.restored (media_id, media_origin, until, restored_at, restored_by, reason)
SELECT DISTINCT ON (r.media_id, r.media_origin) r.media_id, r.media_origin, (r.restoring ->> 'until')::timestamptz,
    clock_timestamp(), r.restoring ->> 'by', r.restoring ->> 'reason'
FROM retentiond.released_media r
WHERE r.release_id = ANY ($1::bigint[]) AND r.restoring ? 'by'
ORDER BY r.media_id, r.media_origin, r.release_id DESC
ON CONFLICT (media_id, media_origin) DO UPDATE
SET until = excluded.until, restored_at = excluded.restored_at, restored_by = excluded.restored_by,
    reason = excluded.reason

-- name: forget_restored
-- The ledger's copies of rows that are back; of other copies of the same key, too. A trigger, or another unique index,
-- may have swallowed a row without a word: its copy is the only one.
DELETE FROM retentiond.released_media r
USING (SELECT media_id, media_origin FROM retentiond.released_media WHERE release_id = ANY ($1::bigint[])) k
WHERE r.media_id = k.media_id AND r.media_origin = k.media_origin AND r.restoring IS NOT NULL
  AND EXISTS (SELECT FROM mediaapi_media_repository m
              WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")

-- name: count_restored
UPDATE retentiond.pass p SET restored_items = p.restored_items + g.items
FROM (SELECT u.pass_id, count(*) AS items FROM unnest($1::bigint[]) AS u(pass_id) GROUP BY 1) g
WHERE p.pass_id = g.pass_id

-- name: not_restored
-- Rows that no whole file stands for stay as they were, and are named.
UPDATE retentiond.released_media SET restoring = NULL
WHERE base64hash = ANY ($1::text[]) AND (restoring ->> 'claimant')::integer = $2
RETURNING media_id, media_origin, base64hash AS hash
