-- Statements that accept a store whose database and disk do not fit.

-- name: sample_contents
-- A random sample of blobs with rows, to test whether this disk holds them.
SELECT base64hash AS hash FROM mediaapi_media_repository ORDER BY random() LIMIT $1

-- name: taken_ids
-- Those of these IDs that the ledger has given to an entry.
SELECT entry_id FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[])

-- name: entries_page
-- A page of the entries in quarantine, from the ledger.
SELECT entry_id, pass_id, hash, state FROM retentiond.entry
WHERE state IN ('quarantined', 'returned') AND entry_id > $1
ORDER BY entry_id LIMIT $2
