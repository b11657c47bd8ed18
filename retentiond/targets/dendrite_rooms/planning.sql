-- What the ledger tells a plan.

-- name: first_purge
-- Whether no pass of this target has purged a room yet.
SELECT NOT EXISTS (SELECT FROM retentiond.pass p
                   WHERE p.target = $1 AND p.kind = $2 AND (p.report -> 'removed' ->> 'items')::bigint > 0)
