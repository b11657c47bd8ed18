-- The way on where database and disk do not fit.

-- name: sample_contents
-- Contents that rows bear, by chance: is this the disk that has them?
SELECT base64hash AS hash FROM mediaapi_media_repository ORDER BY random() LIMIT $1

-- name: taken_ids
-- Which of these ids the ledger has given to an entry.
SELECT entry_id FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[])

-- name: entries_page
-- A page of what lies in quarantine, as the ledger has it.
SELECT entry_id, pass_id, hash, state FROM retentiond.entry
WHERE state IN ('quarantined', 'returned') AND entry_id > $1
ORDER BY entry_id LIMIT $2
