-- The rows and thumbnails that the earlier removals of a dry run would have removed; in a pass the tables stay empty.

-- name: make_gone
CREATE TEMPORARY TABLE IF NOT EXISTS gone (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    PRIMARY KEY (media_id, media_origin)
)

-- name: make_evicted
-- Those of them that quotas would remove.
CREATE TEMPORARY TABLE IF NOT EXISTS evicted (LIKE pg_temp.gone INCLUDING ALL)

-- name: make_gone_thumbnails
-- In a plan: the thumbnail rows that policies would have removed, and whether the file would have been moved with
-- them. Empty in a pass.
CREATE TEMPORARY TABLE IF NOT EXISTS gone_thumbnail (
    hash text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    resize_method text COLLATE "C" NOT NULL,
    freed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (media_id, media_origin, width, height, resize_method)
)

-- name: index_gone_thumbnails
CREATE INDEX IF NOT EXISTS gone_thumbnail_by_hash ON pg_temp.gone_thumbnail (hash)

-- name: note_gone
INSERT INTO pg_temp.gone (media_id, media_origin)
SELECT k.media_id, k.media_origin FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)

-- name: note_evicted
INSERT INTO pg_temp.evicted (media_id, media_origin)
SELECT k.media_id, k.media_origin FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)

-- name: forget_gone
DELETE FROM pg_temp.gone

-- name: leave_out_gone
DELETE FROM pg_temp.due d USING pg_temp.gone g
WHERE d.media_id = g.media_id AND d.media_origin = g.media_origin

-- name: note_gone_thumbnails
-- In a plan: the thumbnail rows of these media that are old enough.
INSERT INTO pg_temp.gone_thumbnail (hash, media_id, media_origin, width, height, resize_method)
SELECT k.hash, t.media_id, t.media_origin, t.width, t.height, t.resize_method
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS k(media_id, media_origin, before, hash)
JOIN mediaapi_thumbnail t ON t.media_id = k.media_id AND t.media_origin = k.media_origin
WHERE t.creation_ts BETWEEN $5 AND k.before

-- name: free_thumbnails
-- In a plan: the thumbnails of these blobs that no row would reference any more, since this batch.
WITH known AS MATERIALIZED (
    SELECT DISTINCT m.base64hash AS hash, t.width, t.height, t.resize_method
    FROM mediaapi_media_repository m
    JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
    WHERE m.base64hash COLLATE "C" = ANY ($1::text[])
      AND NOT EXISTS (SELECT FROM pg_temp.gone g WHERE g.media_id = m.media_id COLLATE "C"
                                                   AND g.media_origin = m.media_origin COLLATE "C")
      AND NOT EXISTS (SELECT FROM pg_temp.gone_thumbnail g
                      WHERE g.media_id = t.media_id COLLATE "C" AND g.media_origin = t.media_origin COLLATE "C"
                        AND g.width = t.width AND g.height = t.height AND g.resize_method = t.resize_method COLLATE "C")
)
UPDATE pg_temp.gone_thumbnail g SET freed = true
WHERE g.hash = ANY ($1::text[]) AND NOT g.freed
  AND NOT EXISTS (SELECT FROM known k WHERE k.hash COLLATE "C" = g.hash AND k.width = g.width AND k.height = g.height
                                        AND k.resize_method COLLATE "C" = g.resize_method)
RETURNING g.hash, g.width, g.height, g.resize_method

-- name: freed_of
-- The thumbnails of these blobs that a plan has freed already.
SELECT DISTINCT hash, width, height, resize_method FROM pg_temp.gone_thumbnail
WHERE hash = ANY ($1::text[]) AND freed
