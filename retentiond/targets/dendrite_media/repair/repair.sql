-- The findings and removals of a repair. Each deletion repeats its condition in the same statement.

-- name: drop_findings
DROP TABLE IF EXISTS pg_temp.finding

-- name: make_findings
-- The findings of the audit, in the order of their report; the table ends with the connection.
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

-- name: thumbnails_by_key
-- Thumbnail rows of these keys, as they are now.
SELECT t.media_id, t.media_origin, t.width, t.height, t.resize_method, t.file_size_bytes
FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
     AS k(media_id, media_origin, width, height, resize_method)
JOIN mediaapi_thumbnail t ON t.media_id = k.media_id AND t.media_origin = k.media_origin
                         AND t.width = k.width AND t.height = k.height AND t.resize_method = k.resize_method
