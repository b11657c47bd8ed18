-- The looks of a sweep at what lies in quarantine and at what has come back. Times are held against the moment that a
-- statement began: by `clock_timestamp()`, which changes from row to row, no index over a time can be used.

-- name: look_quarantined
-- A sweep's look at entries in quarantine, a page: whom a row wants is claimed, of the others it is noted that
-- nobody did at the moment of this statement's snapshot.
WITH page AS (
    SELECT entry_id, hash, pass_id FROM retentiond.entry
    WHERE state = 'quarantined' AND kind = 'blob' AND claimed_by IS NULL AND entry_id > $1
      AND ($4 OR renamed_at > statement_timestamp() - interval '1 hour')
      AND ($4 OR retry_at IS NULL OR retry_at <= statement_timestamp())
    ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED
), look AS (
    SELECT p.entry_id, EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = p.hash) AS wanted
    FROM page p
)
UPDATE retentiond.entry e
SET claimed_by = CASE WHEN l.wanted THEN $3::integer END,
    looked_at = CASE WHEN l.wanted THEN e.looked_at ELSE statement_timestamp() END
FROM look l WHERE e.entry_id = l.entry_id
RETURNING e.entry_id, e.pass_id, e.hash, l.wanted

-- name: claim_returned
-- Claims a page of returned entries, to see whether their live file still stands; says whether a row bears the hash.
-- A sweep of everything ($4) waits for no time to try again.
WITH page AS (
    SELECT entry_id, hash FROM retentiond.entry
    WHERE state = 'returned' AND kind = 'blob' AND claimed_by IS NULL AND entry_id > $1
      AND ($4 OR retry_at IS NULL OR retry_at <= statement_timestamp())
    ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE retentiond.entry e SET claimed_by = $3
FROM (SELECT p.entry_id, EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = p.hash) AS wanted
      FROM page p) l
WHERE e.entry_id = l.entry_id
RETURNING e.entry_id, e.pass_id, e.hash, l.wanted

-- name: any_released
SELECT EXISTS (SELECT FROM retentiond.released_media) OR EXISTS (SELECT FROM retentiond.thumbnail_release)
