-- Release: a batch of rows is locked, asked for what keeps it, copied into the ledger and deleted.

-- name: lock_candidates
-- Locks the batch's rows by their keys and reads them again.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name,
       m.base64hash, m.user_id
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN mediaapi_media_repository m ON m.media_id = k.media_id AND m.media_origin = k.media_origin
ORDER BY m.media_id, m.media_origin
FOR UPDATE OF m

-- name: kept_keys
-- Which of these keys a mark or a protection keeps; the copy is read in the same snapshot as what it says. $5 are the names
-- of this server.
SELECT k.media_id, k.media_origin
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
WHERE EXISTS (SELECT FROM retentiond.restored r
              WHERE r.media_id = k.media_id COLLATE "C" AND r.media_origin = k.media_origin COLLATE "C"
                AND (r.until IS NULL OR r.until > clock_timestamp()))
   OR EXISTS (SELECT FROM retentiond.reference f
              WHERE f.copy_id = $3 AND f.source = ANY ($4::text[])
                AND f.media_id = k.media_id COLLATE "C" AND f.media_origin = k.media_origin COLLATE "C")
   OR EXISTS (SELECT FROM mediaapi_media_repository m CROSS JOIN LATERAL ({shown}) h
              WHERE m.media_id = k.media_id AND m.media_origin = k.media_origin AND h.source = ANY ($4::text[]))

-- name: release
-- Copies rows and their thumbnail rows into the ledger and deletes them; the counts must agree.
WITH key AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $8::text[])
        AS k(media_id, media_origin, policy, file_bytes, facts)
), gone_thumbnail AS (
    DELETE FROM mediaapi_thumbnail t USING key k
    WHERE t.media_id = k.media_id AND t.media_origin = k.media_origin
    RETURNING t.*
), gone_media AS (
    DELETE FROM mediaapi_media_repository m USING key k
    WHERE m.media_id = k.media_id AND m.media_origin = k.media_origin
    RETURNING m.*, k.policy, k.file_bytes, k.facts
), thumbnails AS (
    SELECT t.media_id, t.media_origin, jsonb_agg(jsonb_build_object(
        'content_type', t.content_type, 'file_size_bytes', t.file_size_bytes, 'creation_ts', t.creation_ts,
        'width', t.width, 'height', t.height, 'resize_method', t.resize_method)) AS copied
    FROM gone_thumbnail t GROUP BY t.media_id, t.media_origin
), copied AS (
    INSERT INTO retentiond.released_media (pass_id, policy, released_at, grace_until, even_protected, had_file, file_bytes, facts,
        media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id, thumbnails)
    SELECT $1, m.policy, clock_timestamp(), clock_timestamp() + $6::interval, $7, m.file_bytes IS NOT NULL, m.file_bytes, m.facts::jsonb,
        m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash, m.user_id,
        coalesce(t.copied, '[]')
    FROM gone_media m LEFT JOIN thumbnails t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
    RETURNING jsonb_array_length(thumbnails) AS thumbnails
)
SELECT (SELECT count(*) FROM gone_media) AS media, (SELECT count(*) FROM copied) AS media_copied,
       (SELECT count(*) FROM gone_thumbnail) AS thumbnails,
       (SELECT coalesce(sum(thumbnails), 0) FROM copied) AS thumbnails_copied

-- name: note_shared
-- Remembers the blobs of which rows went while others stay: their thumbnails may be strays by and by.
INSERT INTO retentiond.shared_blob (hash, pass_id, noted_at, settle)
SELECT h.hash, $1, clock_timestamp(), $2::interval
FROM unnest($3::text[]) AS h(hash)
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)
ON CONFLICT (hash) DO UPDATE SET noted_at = excluded.noted_at
