-- The due rows of a survey, for the limits.

-- name: last_rules
-- The rules of the target's newest pass that came to its end; removals by hand followed no rules.
SELECT rules FROM retentiond.pass
WHERE target = $1 AND state IN ('finished', 'finished_with_failures') AND command NOT IN ('audit --repair', 'delete')
ORDER BY started_at DESC LIMIT 1

-- name: count_growth
-- The number of due rows that are remote and were created after their policy's start (policies and starts in two
-- arrays). A row with a user, or with a name of ours, is local.
SELECT count(*)
FROM pg_temp.due d
JOIN mediaapi_media_repository m
  ON m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"
JOIN unnest($1::integer[], $2::bigint[]) AS p(policy, since) ON p.policy = d.policy
WHERE d.kept IS NULL AND m.creation_ts > p.since AND m.user_id = '' AND lower(m.media_origin COLLATE "C") <> ALL ($3::text[])

-- name: due_by_origin
-- The servers with the most due rows, each with its share of all of them.
SELECT media_origin AS name, count(*) / (sum(count(*)) OVER ())::double precision AS share
FROM pg_temp.due WHERE kept IS NULL
GROUP BY media_origin ORDER BY count(*) DESC, media_origin LIMIT $1
