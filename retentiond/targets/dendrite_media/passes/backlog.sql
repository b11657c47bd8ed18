-- What is due and has not gone yet, for monitoring.

-- name: count_backlog
-- What the survey found due, by policy: how many rows, how large, and when the oldest of them was created.
SELECT d.policy, count(*) AS items, sum(greatest(m.file_size_bytes, 0))::bigint AS bytes, min(m.creation_ts) AS oldest
FROM pg_temp.due d
JOIN mediaapi_media_repository m
  ON m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"
WHERE d.kept IS NULL
GROUP BY d.policy
