-- Steps that a crash left open.

-- name: claimants
-- The claim owners of entries.
SELECT DISTINCT claimed_by FROM retentiond.entry WHERE claimed_by IS NOT NULL
