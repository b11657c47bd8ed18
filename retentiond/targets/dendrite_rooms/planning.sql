-- What the ledger tells a plan.

-- name: first_purge
-- Whether no pass by the policies of this target has purged a room yet; a purge by hand has confirmed none of them.
SELECT NOT EXISTS (SELECT FROM retentiond.pass p
                   WHERE p.target = $1 AND p.kind = $2 AND NOT p.rules ? 'request' AND (p.report -> 'removed' ->> 'items')::bigint > 0)
