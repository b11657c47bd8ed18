-- What a crash left open.

-- name: claimants
-- Who has claimed entries.
SELECT DISTINCT claimed_by FROM retentiond.entry WHERE claimed_by IS NOT NULL
