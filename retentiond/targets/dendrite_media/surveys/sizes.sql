-- The bytes that leave the media tree, as the database records them; for a removal the sizes on the disk count.

-- name: blobs
-- A part of other statements: each blob (with {where}) with the number of rows that have its hash, and the bytes
-- that are freed with the last of them: its file and its thumbnails, each once, however many rows share them.
SELECT f.hash, f.rows, least(f.bytes + coalesce(t.bytes, 0), 9223372036854775807)::bigint AS bytes
FROM (SELECT m.base64hash COLLATE "C" AS hash, count(*) AS rows, greatest(max(m.file_size_bytes), 0) AS bytes
      FROM mediaapi_media_repository m
      {where}
      GROUP BY 1) f
LEFT JOIN (SELECT o.hash, sum(o.bytes) AS bytes
           FROM (SELECT m.base64hash COLLATE "C" AS hash, greatest(max(t.file_size_bytes), 0) AS bytes
                 FROM mediaapi_media_repository m
                 JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
                 {where}
                 GROUP BY 1, t.width, t.height, t.resize_method) o
           GROUP BY o.hash) t ON t.hash = f.hash

-- name: due_by_age
-- The rows that a survey found due and nothing keeps, of those that existed at the time $1 (milliseconds): by
-- policy and age in whole days the rows, the bytes that are freed with them, and when the time of the oldest began. A
-- blob is freed with the row that comes due last, and not at all if a row with its hash stays. $2 are the keeps of
-- the policies in their order, in milliseconds; null for ever.
-- Of a blob with a single row, most of them, that needs no order.
WITH found AS {how} ({found})
SELECT s.policy, s.age, count(*) AS items, least(sum(s.bytes), 9223372036854775807)::bigint AS bytes,
       min(s.began) AS oldest
FROM (SELECT f.policy, f.age, f.began, f.bytes FROM found f WHERE f.rows = 1
      UNION ALL
      SELECT f.policy, f.age, f.began,
             CASE WHEN count(*) OVER (PARTITION BY f.hash) = f.rows
                   AND row_number() OVER (PARTITION BY f.hash
                                          ORDER BY f.began::numeric + ($2::bigint[])[f.policy + 1] DESC NULLS FIRST,
                                                   f.due_id) = 1
                  THEN f.bytes ELSE 0 END
      FROM found f WHERE f.rows > 1) s
GROUP BY s.policy, s.age

-- name: found
-- A part of it: the due rows, each with its age, and with the rows and bytes of its blob.
SELECT d.policy, d.hash, d.due_id, (($1::bigint - c.began) / 86400000)::integer AS age, c.began, b.rows, b.bytes
FROM pg_temp.due d
JOIN mediaapi_media_repository m
  ON m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"
JOIN ({due_blobs}) b ON b.hash = d.hash
CROSS JOIN LATERAL (SELECT coalesce(d.counted_from, m.creation_ts) AS began) c
WHERE d.kept IS NULL AND m.creation_ts <= $1

-- name: found_measured
-- The same, of a store that is measured already: only due rows without a measure of their own are looked for.
SELECT d.policy, d.hash, d.due_id, (($1::bigint - d.counted_from) / 86400000)::integer AS age, d.counted_from AS began,
       coalesce(b.rows, 1) AS rows, coalesce(b.bytes, d.bytes) AS bytes
FROM pg_temp.due d
LEFT JOIN pg_temp.shared b ON b.hash = d.hash
WHERE d.kept IS NULL AND d.bytes IS NOT NULL AND d.counted_from <= $1
UNION ALL
SELECT d.policy, d.hash, d.due_id, (($1::bigint - d.counted_from) / 86400000)::integer AS age, d.counted_from AS began,
       coalesce(b.rows, s.rows) AS rows, coalesce(b.bytes, s.bytes) AS bytes
FROM pg_temp.due d
JOIN pg_temp.stored s ON s.media_id = d.media_id AND s.origin = d.media_origin
LEFT JOIN pg_temp.shared b ON b.hash = d.hash
WHERE d.kept IS NULL AND d.bytes IS NULL AND s.creation_ts <= $1
