-- What a crash left open.

-- name: claimants
-- Who has claimed entries.
SELECT DISTINCT claimed_by FROM retentiond.entry WHERE claimed_by IS NOT NULL

-- name: inherit_claims
-- Takes over a page of open steps of the dead, and of those that were let go of because they failed.
UPDATE retentiond.entry SET claimed_by = $3
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE entry_id > $1 AND (claimed_by = ANY ($4::integer[])
                         OR claimed_by IS NULL AND state IN ('intended', 'purging', 'restoring'))
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, kind, state
