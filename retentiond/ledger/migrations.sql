-- The versions of the ledger's own tables and of those of each kind of target.

-- name: ledger_version
-- The version of the ledger in this database; no row without a ledger.
SELECT version FROM retentiond.ledger_version

-- name: record_version
INSERT INTO retentiond.ledger_version (version) VALUES ($1)

-- name: lock_version
-- For an update; a second process waits here for the first.
SELECT version FROM retentiond.ledger_version FOR UPDATE

-- name: update_version
UPDATE retentiond.ledger_version SET version = $1

-- name: part_version
-- The version of the tables of a kind of target in this database; no row without tables.
SELECT version FROM retentiond.ledger_part WHERE package = $1

-- name: record_part
-- No row where another was faster.
INSERT INTO retentiond.ledger_part (package, version) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true

-- name: lock_part
SELECT version FROM retentiond.ledger_part WHERE package = $1 FOR UPDATE

-- name: update_part
UPDATE retentiond.ledger_part SET version = $2 WHERE package = $1
