-- The parts of a store, for the report.

-- name: make_stored
-- Every row with its part of the stored bytes by the database: the bytes of a blob are those of its first row.
CREATE TEMPORARY TABLE stored AS
SELECT m.media_origin AS origin, lower(trim(split_part(m.content_type, ';', 1)) COLLATE "C") AS type, m.creation_ts,
       CASE WHEN row_number() OVER (PARTITION BY b.hash ORDER BY m.creation_ts, m.media_id, m.media_origin) = 1
            THEN b.bytes ELSE 0 END AS bytes
FROM mediaapi_media_repository m
JOIN ({blobs}) b ON b.hash = m.base64hash COLLATE "C"

-- name: total
SELECT count(*) AS items, least(coalesce(sum(bytes), 0), 9223372036854775807)::bigint AS bytes FROM pg_temp.stored

-- name: by_origin
-- The servers with the most bytes.
SELECT origin AS name, count(*) AS items, least(sum(bytes), 9223372036854775807)::bigint AS bytes
FROM pg_temp.stored GROUP BY 1 ORDER BY 3 DESC, 2 DESC, 1 LIMIT $1

-- name: by_type
-- The content types with the most bytes, without their parameters.
SELECT type AS name, count(*) AS items, least(sum(bytes), 9223372036854775807)::bigint AS bytes
FROM pg_temp.stored GROUP BY 1 ORDER BY 3 DESC, 2 DESC, 1 LIMIT $1

-- name: by_age
-- Counted by the first of these ages (in days, ascending) that is not below the row's age; null for older ones.
SELECT (SELECT min(d.days) FROM unnest($2::integer[]) AS d(days) WHERE s.creation_ts >= $1 - d.days * 86400000::bigint) AS days,
       count(*) AS items, least(sum(s.bytes), 9223372036854775807)::bigint AS bytes
FROM pg_temp.stored s GROUP BY 1 ORDER BY 1 NULLS LAST
