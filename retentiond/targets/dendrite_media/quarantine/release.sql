-- Release: a batch of rows is locked, checked for reasons to keep it, copied into the ledger and deleted.

-- name: lock_candidates
-- Locks the batch's rows by their keys and reads them again.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name,
       m.base64hash, m.user_id
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN mediaapi_media_repository m ON m.media_id = k.media_id AND m.media_origin = k.media_origin
ORDER BY m.media_id, m.media_origin
FOR UPDATE OF m

-- name: kept_keys
-- Those of these keys that a mark or a protection keeps; the copy is read in the same snapshot as its references. $5
-- are the names of this server.
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
