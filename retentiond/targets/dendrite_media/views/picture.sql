-- What a store is made of, for the report. Sizes are those that the rows record.

-- name: total
SELECT count(*) AS items, coalesce(sum(greatest(file_size_bytes, 0)), 0)::bigint AS bytes FROM mediaapi_media_repository

-- name: by_origin
-- The servers with the most bytes.
SELECT media_origin AS name, count(*) AS items, sum(greatest(file_size_bytes, 0))::bigint AS bytes
FROM mediaapi_media_repository GROUP BY 1 ORDER BY 3 DESC, 2 DESC, 1 LIMIT $1

-- name: by_type
-- The content types with the most bytes, without their parameters.
SELECT lower(trim(split_part(content_type, ';', 1))) AS name, count(*) AS items,
       sum(greatest(file_size_bytes, 0))::bigint AS bytes
FROM mediaapi_media_repository GROUP BY 1 ORDER BY 3 DESC, 2 DESC, 1 LIMIT $1

-- name: by_age
-- Counted by the first of these ages (in days, ascending) that a row is not older than; null for older ones.
SELECT (SELECT min(d.days) FROM unnest($2::integer[]) AS d(days) WHERE m.creation_ts >= $1 - d.days * 86400000::bigint) AS days,
       count(*) AS items, sum(greatest(m.file_size_bytes, 0))::bigint AS bytes
FROM mediaapi_media_repository m GROUP BY 1 ORDER BY 1 NULLS LAST

-- name: ages
-- What the survey put into its table and nothing keeps, by policy and by age in whole days.
SELECT d.policy, (($1 - m.creation_ts) / 86400000)::integer AS age, count(*) AS items,
       sum(greatest(m.file_size_bytes, 0))::bigint AS bytes
FROM pg_temp.due d
JOIN mediaapi_media_repository m
  ON m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"
WHERE d.kept IS NULL
GROUP BY 1, 2

-- name: freed
-- What the passes of a target took, by day in UTC, the newest first.
SELECT (started_at AT TIME ZONE 'UTC')::date AS day, sum((report -> 'removed' ->> 'items')::bigint)::bigint AS items,
       sum((report -> 'removed' ->> 'bytes')::bigint)::bigint AS bytes
FROM retentiond.pass WHERE target = $1 AND report IS NOT NULL
GROUP BY 1 ORDER BY 1 DESC LIMIT $2
