-- Statements that find the rows that a quota removes. The tables are temporary, and end with the connection.

-- name: drop_matched
DROP TABLE IF EXISTS pg_temp.matched, pg_temp.content, pg_temp.chosen

-- name: make_matched
-- Every row that the quota matches.
CREATE TEMPORARY TABLE matched (
    hash text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    bytes bigint NOT NULL,
    created double precision NOT NULL
)

-- name: make_content
-- Their blobs, as they are on the disk: sizes, and when they were last accessed.
CREATE TEMPORARY TABLE content (
    hash text COLLATE "C" PRIMARY KEY,
    bytes bigint NOT NULL,
    accessed double precision
)

-- name: make_chosen
CREATE TEMPORARY TABLE chosen (hash text COLLATE "C" PRIMARY KEY)

-- name: leave_out_matched
DELETE FROM pg_temp.matched m USING pg_temp.gone g
WHERE m.media_id = g.media_id AND m.media_origin = g.media_origin

-- name: sort_matched
CREATE INDEX matched_by_hash ON pg_temp.matched (hash)

-- name: analyze_matched
ANALYZE pg_temp.matched

-- name: matched_bytes
-- The recorded sizes of the rows, thumbnails too: enough to find that all fits without a look at the disk.
SELECT least(coalesce((SELECT sum(c.bytes) FROM (SELECT max(m.bytes) AS bytes FROM pg_temp.matched m GROUP BY m.hash) c), 0)
      + coalesce((SELECT sum(greatest(t.file_size_bytes, 0)) FROM pg_temp.matched m
                  JOIN mediaapi_thumbnail t ON t.media_id = m.media_id COLLATE "default"
                                           AND t.media_origin = m.media_origin COLLATE "default"
                  WHERE NOT EXISTS (SELECT FROM pg_temp.gone_thumbnail g
                                    WHERE g.media_id = m.media_id AND g.media_origin = m.media_origin AND g.width = t.width
                                      AND g.height = t.height AND g.resize_method = t.resize_method COLLATE "C")),
                 0), 9223372036854775807)::bigint

-- name: content_page
SELECT m.hash FROM pg_temp.matched m WHERE m.hash > $1 GROUP BY m.hash ORDER BY m.hash LIMIT $2

-- name: live_bytes
SELECT coalesce(sum(bytes), 0)::bigint FROM pg_temp.content

-- name: choose
-- The blobs to remove, in the order wanted ($2: by access), until their size reaches $1. A blob is removed only
-- whole: if one of its rows stays, its file stays, and nothing would be freed.
INSERT INTO pg_temp.chosen (hash)
SELECT r.hash FROM (
    SELECT k.hash, sum(k.bytes) OVER (ORDER BY a.at, k.hash) - k.bytes AS before
    FROM (SELECT d.hash FROM pg_temp.due d GROUP BY d.hash HAVING bool_and(d.kept IS NULL)) f
    JOIN pg_temp.content k ON k.hash = f.hash
    JOIN (SELECT m.hash, max(m.created) AS created, count(*) AS rows FROM pg_temp.matched m GROUP BY m.hash) c
      ON c.hash = f.hash
    JOIN (SELECT d.hash, count(*) AS rows FROM pg_temp.due d GROUP BY d.hash) g ON g.hash = f.hash
    JOIN (SELECT m.base64hash COLLATE "C" AS hash, count(*) AS rows FROM mediaapi_media_repository m
          WHERE m.base64hash COLLATE "C" IN (SELECT hash FROM pg_temp.due)
            AND NOT EXISTS (SELECT FROM pg_temp.gone g WHERE g.media_id = m.media_id COLLATE "C"
                                                         AND g.media_origin = m.media_origin COLLATE "C")
          GROUP BY 1) b ON b.hash = f.hash AND b.rows = g.rows
    CROSS JOIN LATERAL (SELECT CASE WHEN $2 THEN greatest(k.accessed, c.created) ELSE c.created END AS at) a
    WHERE k.bytes > 0
) r
WHERE r.before < $1

-- name: keep_chosen
-- Only the chosen rows are due.
DELETE FROM pg_temp.due d WHERE NOT EXISTS (SELECT FROM pg_temp.chosen c WHERE c.hash = d.hash)

-- name: count_encrypted
-- The number of due rows that an encrypted room may show, by pseudo-source ($1); $2 are the names of this server.
SELECT h.source, count(*) AS items
FROM pg_temp.due d
JOIN mediaapi_media_repository m
  ON m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"
CROSS JOIN LATERAL ({shown}) h
WHERE d.kept IS NULL AND h.source = ANY ($1::text[])
GROUP BY h.source

-- name: chosen_bytes
SELECT coalesce(sum(k.bytes), 0)::bigint FROM pg_temp.content k JOIN pg_temp.chosen c ON c.hash = k.hash

-- name: count_due
SELECT count(*) FROM pg_temp.due WHERE kept IS NULL
