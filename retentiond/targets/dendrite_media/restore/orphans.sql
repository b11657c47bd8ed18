-- Orphan blobs in quarantine: no released row stands for them.

-- name: claim_rowless
-- Claims a page of them to bring it back, of one pass or all.
UPDATE retentiond.entry SET claimed_by = $3, state = 'restoring'
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE entry_id > $1 AND kind = 'blob' AND grace_until IS NOT NULL AND state = 'quarantined'
                     AND claimed_by IS NULL AND ($4::bigint IS NULL OR pass_id = $4)
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, bytes
