-- The database's side of an audit: in the order in which the disk is walked, and again for each suspect.

-- name: make_audited
-- Every blob with a row, with the expected files of its directory in the format of the scan; null if its rows
-- disagree, and each of several rows for one thumbnail counts: such blobs are compared closely. Read once, since an
-- order by hash costs a sort.
CREATE TEMPORARY TABLE audited AS
WITH thumbnail AS (
    SELECT m.base64hash COLLATE "C" AS hash, string_agg(t.file, '' ORDER BY t.file) AS files
    FROM (SELECT media_id, media_origin,
                 (' thumbnail-' || width || 'x' || height || '-' || resize_method || ':' || file_size_bytes)
                 COLLATE "C" AS file
          FROM mediaapi_thumbnail) t
    JOIN mediaapi_media_repository m ON m.media_id = t.media_id AND m.media_origin = t.media_origin
    GROUP BY 1
), content AS (
    SELECT base64hash COLLATE "C" AS hash, count(*) AS rows,
           CASE WHEN min(file_size_bytes) = max(file_size_bytes) THEN 'file:' || min(file_size_bytes) END AS file
    FROM mediaapi_media_repository
    WHERE base64hash COLLATE "C" ~ '^[A-Za-z0-9_-]{43}$'
    GROUP BY 1
)
SELECT c.hash, c.rows, c.file || coalesce(t.files, '') AS files
FROM content c LEFT JOIN thumbnail t ON t.hash = c.hash

-- name: sort_audited
CREATE UNIQUE INDEX audited_by_hash ON pg_temp.audited (hash)

-- name: analyze_audited
ANALYZE pg_temp.audited

-- name: drop_audited
DROP TABLE IF EXISTS pg_temp.audited

-- name: count_audited
SELECT count(*) AS contents, coalesce(sum(rows), 0)::bigint AS rows FROM pg_temp.audited

-- name: audited_page
SELECT hash, rows, files FROM pg_temp.audited WHERE hash > $1::text ORDER BY hash LIMIT $2

-- name: rows_of
-- The rows of these blobs.
SELECT base64hash AS hash, media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name,
       base64hash, user_id
FROM mediaapi_media_repository
WHERE base64hash COLLATE "C" = ANY ($1::text[])
ORDER BY media_id COLLATE "C", media_origin COLLATE "C"

-- name: thumbnail_rows_of
-- The thumbnail rows of these blobs.
SELECT m.base64hash AS hash, t.media_id, t.media_origin, t.width, t.height, t.resize_method, t.file_size_bytes
FROM mediaapi_media_repository m
JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
WHERE m.base64hash COLLATE "C" = ANY ($1::text[])
ORDER BY t.media_id COLLATE "C", t.media_origin COLLATE "C", t.width, t.height, t.resize_method COLLATE "C"

-- name: explained_by_quarantine
-- Those of these blobs that the quarantine accounts for: completely, or only thumbnails, and whether a move of some
-- is in progress. Lost entries are left out.
SELECT hash, bool_or(whole) AS whole, bool_or(moving) AS moving
FROM (SELECT e.hash, e.kind = 'blob' AS whole, e.state = 'intended' OR e.claimed_by IS NOT NULL AS moving
      FROM retentiond.entry e
      WHERE e.hash = ANY ($1::text[]) AND e.state <> 'lost'
      UNION ALL
      SELECT r.base64hash, true, true FROM retentiond.released_media r
      WHERE r.base64hash = ANY ($1::text[]) AND r.restoring IS NOT NULL
      UNION ALL
      SELECT s.hash, false, true FROM retentiond.shared_blob s WHERE s.hash = ANY ($1::text[])) held
GROUP BY hash

-- name: invalid_hashes
-- A page of rows with an invalid hash, in the order of dendrite's own index.
SELECT media_id, media_origin, file_size_bytes, base64hash
FROM mediaapi_media_repository
WHERE (media_id, media_origin) > ($1::text, $2::text) AND base64hash COLLATE "C" !~ '^[A-Za-z0-9_-]{43}$'
ORDER BY media_id, media_origin
LIMIT $3

-- name: orphan_thumbnails
-- A page of thumbnail rows without a media row, in the order of dendrite's own index.
SELECT t.media_id, t.media_origin, t.width, t.height, t.resize_method, t.file_size_bytes
FROM mediaapi_thumbnail t
WHERE (t.media_id, t.media_origin, t.width, t.height, t.resize_method) > ($1::text, $2::text, $3::integer, $4::integer, $5::text)
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)
ORDER BY t.media_id, t.media_origin, t.width, t.height, t.resize_method
LIMIT $6

-- name: still_orphans
-- Those of these thumbnail rows that still exist, and still have no media row.
SELECT t.media_id, t.media_origin, t.width, t.height, t.resize_method, t.file_size_bytes
FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
     AS k(media_id, media_origin, width, height, resize_method)
JOIN mediaapi_thumbnail t ON t.media_id = k.media_id AND t.media_origin = k.media_origin
                         AND t.width = k.width AND t.height = k.height AND t.resize_method = k.resize_method
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)
