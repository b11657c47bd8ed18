-- The rows that have the blobs of due rows, in a temporary table: a dry run frees a blob with its last row.

-- name: count_bearers
-- The number of rows with each hash of a due row, and of those that would be deleted by then: one scan, for plans,
-- which create no index; its workers leave out most rows by a filter (blob_filter.py).
CREATE TEMPORARY TABLE bearers AS
SELECT m.base64hash COLLATE "C" AS hash, count(*) FILTER (WHERE g.media_id IS NULL) AS rows, count(g.media_id) AS gone
FROM mediaapi_media_repository m
LEFT JOIN pg_temp.gone g ON g.media_id = m.media_id COLLATE "C" AND g.media_origin = m.media_origin COLLATE "C"
WHERE {near} AND m.base64hash COLLATE "C" IN (SELECT hash FROM pg_temp.due)
GROUP BY 1

-- name: sort_bearers
CREATE INDEX bearers_by_hash ON pg_temp.bearers (hash)

-- name: bearers_of
SELECT hash, rows, gone FROM pg_temp.bearers WHERE hash = ANY ($1::text[])

-- name: drop_bearers
DROP TABLE IF EXISTS pg_temp.bearers

-- name: uploaders
-- The uploaders of these media, with counts; '' stands for other servers.
SELECT m.user_id, count(*) AS items
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN mediaapi_media_repository m ON m.media_id = k.media_id AND m.media_origin = k.media_origin
GROUP BY m.user_id
