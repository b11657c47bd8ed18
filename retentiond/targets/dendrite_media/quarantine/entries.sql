-- Entries of the quarantine, from the intent to their end; what is not ours to change is not claimed by us.

-- name: record_entries
-- Records the intent to quarantine each blob that no row bears any more, claimed by us.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle)
SELECT $1, h.hash, 'blob', 'intended', $2, h.files, h.bytes, $3::interval
FROM unnest($4::text[], $5::integer[], $6::bigint[]) AS h(hash, files, bytes)
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)
ORDER BY h.hash COLLATE "C"
RETURNING entry_id, hash, bytes

-- name: intended_hashes
-- Which of these contents somebody is about to rename.
SELECT DISTINCT hash FROM retentiond.entry WHERE hash = ANY ($1::text[]) AND state = 'intended' AND kind = 'blob'

-- name: quarantine_done
-- After the rename: the entry lies in quarantine. In the same look: does a row bear its hash now? Those keep our claim.
UPDATE retentiond.entry e
SET state = 'quarantined', renamed_at = clock_timestamp(),
    claimed_by = CASE WHEN wanted.yes THEN e.claimed_by END, problem = NULL, failures = 0, retry_at = NULL
FROM (SELECT d.entry_id, EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = d.hash) AS yes
      FROM retentiond.entry d WHERE d.entry_id = ANY ($1::bigint[])) wanted
WHERE e.entry_id = wanted.entry_id AND e.claimed_by = $2 AND e.state = 'intended'
RETURNING e.entry_id, e.pass_id, e.hash, wanted.yes AS wanted

-- name: entries_returned
UPDATE retentiond.entry
SET state = 'returned', claimed_by = NULL, renamed_at = coalesce(renamed_at, clock_timestamp()),
    problem = NULL, failures = 0, retry_at = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_lost
-- What the step should have left is not to be seen: kept on record, with the ledger's copy, and reported.
UPDATE retentiond.entry SET state = 'lost', claimed_by = NULL, problem = $3
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_demoted
-- Puts inherited entries back to where a sweep begins with them.
UPDATE retentiond.entry
SET state = 'quarantined', claimed_by = NULL, looked_at = NULL, renamed_at = coalesce(renamed_at, clock_timestamp())
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_quarantined_again
-- No row bears them any more: the spare in quarantine waits out settle and grace like any entry, from now on.
UPDATE retentiond.entry
SET state = 'quarantined', claimed_by = NULL, renamed_at = clock_timestamp(), looked_at = NULL,
    problem = NULL, failures = 0, retry_at = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: strays_quarantined
UPDATE retentiond.entry
SET state = 'quarantined', renamed_at = clock_timestamp(), claimed_by = NULL,
    problem = NULL, failures = 0, retry_at = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: drop_intents
-- Closes intents of which nothing was moved.
DELETE FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2 AND state = 'intended'

-- name: forget_entries
-- Closes purged entries.
DELETE FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2 RETURNING pass_id, hash, files, bytes

-- name: let_go
-- Lets go of claims; the entries are as they were.
UPDATE retentiond.entry SET claimed_by = NULL WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: known_entries
-- Which of these entries the ledger knows.
SELECT entry_id, pass_id, hash FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[])

-- name: wanted_hashes
-- Which of these hashes rows bear.
SELECT h.hash FROM unnest($1::text[]) AS h(hash)
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)

-- name: wanted_thumbnails
-- The thumbnails that rows know of these hashes.
SELECT DISTINCT m.base64hash AS hash, t.width, t.height, t.resize_method
FROM mediaapi_media_repository m
JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
WHERE m.base64hash COLLATE "C" = ANY ($1::text[])
