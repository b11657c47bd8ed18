-- What a repair takes note of, and what it takes. Each deletion says again, in the same statement, why it may be.

-- name: drop_findings
DROP TABLE IF EXISTS pg_temp.finding

-- name: make_findings
-- What the audit found, in the order in which it was told; it goes with the connection.
CREATE TEMPORARY TABLE finding (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    path text NOT NULL,
    size bigint NOT NULL,
    hash text,
    media_id text,
    media_origin text,
    width integer,
    height integer,
    method text
)

-- name: finding_page
-- A page of the findings of one kind.
SELECT number, kind, path, size, hash, media_id, media_origin, width, height, method
FROM pg_temp.finding WHERE number > $1 AND kind = $3 ORDER BY number LIMIT $2

-- name: intend_orphans
-- Records the intent to quarantine blobs that no row bears, and that the quarantine has not in its hands; thumbnails of
-- one that lie there by themselves are no reason to leave it.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle, grace_until)
SELECT $1, h.hash, 'blob', 'intended', $2, h.files, h.bytes, $3::interval, clock_timestamp() + $4::interval
FROM unnest($5::text[], $6::integer[], $7::bigint[]) AS h(hash, files, bytes)
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)
  AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = h.hash AND e.kind = 'blob' AND e.state <> 'lost')
  AND NOT EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = h.hash AND r.restoring IS NOT NULL)
ORDER BY h.hash COLLATE "C"
RETURNING entry_id, hash, bytes

-- name: release_orphan_thumbnails
-- Copies into the ledger and deletes thumbnail rows whose medium has no row.
WITH gone AS (
    DELETE FROM mediaapi_thumbnail t
    USING unnest($4::text[], $5::text[], $6::integer[], $7::integer[], $8::text[], $9::bigint[])
          AS k(media_id, media_origin, width, height, resize_method, size)
    WHERE t.media_id = k.media_id AND t.media_origin = k.media_origin AND t.width = k.width AND t.height = k.height
      AND t.resize_method = k.resize_method AND t.file_size_bytes = k.size
      AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                      WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)
    RETURNING t.*
)
INSERT INTO retentiond.released_thumbnail (pass_id, finding, released_at, grace_until, media_id, media_origin,
    content_type, file_size_bytes, creation_ts, width, height, resize_method)
SELECT $1, $2, clock_timestamp(), clock_timestamp() + $3::interval, g.media_id, g.media_origin, g.content_type,
       g.file_size_bytes, g.creation_ts, g.width, g.height, g.resize_method
FROM gone g
RETURNING media_id, media_origin, width, height, resize_method, file_size_bytes

-- name: release_dead_thumbnails
-- The same for thumbnail rows of a content whose file is missing or of another size: the medium still is of that content.
WITH gone AS (
    DELETE FROM mediaapi_thumbnail t
    USING unnest($4::text[], $5::text[], $6::integer[], $7::integer[], $8::text[], $9::bigint[], $10::text[])
          AS k(media_id, media_origin, width, height, resize_method, size, hash)
    WHERE t.media_id = k.media_id AND t.media_origin = k.media_origin AND t.width = k.width AND t.height = k.height
      AND t.resize_method = k.resize_method AND t.file_size_bytes = k.size
      AND EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin
                    AND m.base64hash COLLATE "C" = k.hash)
    RETURNING t.*
)
INSERT INTO retentiond.released_thumbnail (pass_id, finding, released_at, grace_until, media_id, media_origin,
    content_type, file_size_bytes, creation_ts, width, height, resize_method)
SELECT $1, $2, clock_timestamp(), clock_timestamp() + $3::interval, g.media_id, g.media_origin, g.content_type,
       g.file_size_bytes, g.creation_ts, g.width, g.height, g.resize_method
FROM gone g
RETURNING media_id, media_origin, width, height, resize_method, file_size_bytes

-- name: thumbnails_by_key
-- Thumbnail rows of these keys, as they are now.
SELECT t.media_id, t.media_origin, t.width, t.height, t.resize_method, t.file_size_bytes
FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
     AS k(media_id, media_origin, width, height, resize_method)
JOIN mediaapi_thumbnail t ON t.media_id = k.media_id AND t.media_origin = k.media_origin
                         AND t.width = k.width AND t.height = k.height AND t.resize_method = k.resize_method
