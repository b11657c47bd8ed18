-- The owners of claims.

-- name: new_claimant
SELECT nextval('retentiond.claimant')::integer
