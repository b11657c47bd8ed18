-- The lease of a store: a row that names the command at work, and the epoch that each of its transactions checks.

-- name: has_settings
-- Whether the settings that safety hangs on came with the connection (a pooler may have ignored them).
SELECT current_setting('synchronous_commit') <> 'off' AND current_setting('row_security') = 'off'

-- name: take_lease
-- Begins a new epoch; the transactions of the one before see it and roll back.
UPDATE retentiond.lease
SET epoch = epoch + 1, command = $1, host = $2, pid = $3, since = clock_timestamp()
RETURNING epoch

-- name: end_lease
-- Clears the holder of the lease, if it is still our epoch.
UPDATE retentiond.lease SET command = NULL, host = NULL, pid = NULL, since = NULL WHERE epoch = $1

-- name: check_lease
-- Holds our epoch until this transaction ends; no row where it is over.
SELECT epoch FROM retentiond.lease WHERE epoch = $1 FOR SHARE

-- name: holder
-- The command that took the lease last; after its death it is still here, but holds no lock.
SELECT command, host, pid, since FROM retentiond.lease WHERE host IS NOT NULL
