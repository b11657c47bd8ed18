-- The history of a target: its passes, its backlog and its last audit.

-- name: last_pass
-- The newest pass of a target; manual deletions do not delay a pass.
SELECT pass_id, state, started_at, finished_at, report
FROM retentiond.pass WHERE target = $1 AND command NOT IN ('audit --repair', 'delete')
ORDER BY started_at DESC LIMIT 1

-- name: last_refusal
SELECT at, refused FROM retentiond.refusal WHERE target = $1

-- name: pass_state
SELECT state FROM retentiond.pass WHERE pass_id = $1

-- name: last_success
-- The end of the newest pass of a target that did all of its work.
SELECT finished_at FROM retentiond.pass
WHERE target = $1 AND state IN ('finished', 'finished_with_failures') ORDER BY started_at DESC LIMIT 1

-- name: freed
-- Deletions of a target's passes, by day in UTC, of the last $2 days up to today.
SELECT (started_at AT TIME ZONE 'UTC')::date AS day, sum((report -> 'removed' ->> 'items')::bigint)::bigint AS items,
       sum((report -> 'removed' ->> 'bytes')::bigint)::bigint AS bytes
FROM retentiond.pass
WHERE target = $1 AND report IS NOT NULL
  AND (started_at AT TIME ZONE 'UTC')::date > (clock_timestamp() AT TIME ZONE 'UTC')::date - $2::integer
GROUP BY 1 ORDER BY 1

-- name: totals
-- All passes of a target together.
SELECT coalesce(sum((report -> 'removed' ->> 'items')::bigint), 0)::bigint AS taken_items,
       least(coalesce(sum((report -> 'removed' ->> 'bytes')::bigint), 0), 9223372036854775807)::bigint AS taken_bytes,
       coalesce(sum(purged_entries), 0)::bigint AS purged_items,
       least(coalesce(sum(purged_bytes), 0), 9223372036854775807)::bigint AS purged_bytes,
       coalesce(sum(restored_items), 0)::bigint AS restored
FROM retentiond.pass WHERE target = $1

-- name: save_backlog
-- What a survey found due.
INSERT INTO retentiond.backlog (target, at, items, bytes, since) VALUES ($1, clock_timestamp(), $2, $3, $4)
ON CONFLICT (target) DO UPDATE
SET at = excluded.at, items = excluded.items, bytes = excluded.bytes, since = excluded.since

-- name: shrink_backlog
-- A pass has taken so many of it; with the last item all of it is gone. For items without a size, such as chats.
UPDATE retentiond.backlog
SET items = greatest(items - $2, 0), since = CASE WHEN items > $2 THEN since END
WHERE target = $1

-- name: backlog
SELECT at, items, bytes, since FROM retentiond.backlog WHERE target = $1

-- name: save_audit
INSERT INTO retentiond.audit (target, command, started_at, finished_at, report) VALUES ($1, $2, $3, $4, $5::jsonb)
ON CONFLICT (target) DO UPDATE
SET command = excluded.command, started_at = excluded.started_at, finished_at = excluded.finished_at,
    report = excluded.report

-- name: last_audit
SELECT command, started_at, finished_at, report FROM retentiond.audit WHERE target = $1
