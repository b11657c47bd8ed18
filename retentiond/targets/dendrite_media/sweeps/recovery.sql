-- What a crash left open.

-- name: claimants
-- Who has claimed entries.
SELECT DISTINCT claimed_by FROM retentiond.entry WHERE claimed_by IS NOT NULL

-- name: inherit_claims
-- Takes over a page of open steps of the dead, and of those that were let go of because they failed, once it is time
-- to try them again ($5: whatever the time).
UPDATE retentiond.entry SET claimed_by = $3
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE entry_id > $1 AND (claimed_by = ANY ($4::integer[])
                         OR claimed_by IS NULL AND state IN ('intended', 'purging', 'restoring')
                            AND ($5 OR retry_at IS NULL OR retry_at <= statement_timestamp()))
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, kind, state
