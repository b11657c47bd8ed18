-- The purge: what is due, its last look, and what is forgotten after it.

-- name: any_due_entry
-- Whether settle and grace are over for any entry: only then the protections are worth a new copy.
SELECT EXISTS (
    SELECT FROM retentiond.entry e
    WHERE e.state IN ('quarantined', 'returned') AND e.kind = 'blob' AND e.claimed_by IS NULL
      AND e.renamed_at + e.settle <= statement_timestamp()
      AND ($1 OR e.retry_at IS NULL OR e.retry_at <= statement_timestamp())
      AND (e.state = 'returned' OR e.settle = interval '0' OR e.looked_at > e.renamed_at)
      AND (e.grace_until IS NULL OR e.grace_until <= statement_timestamp())
      AND NOT EXISTS (SELECT FROM retentiond.released_media r
                      WHERE r.base64hash = e.hash AND (r.grace_until > statement_timestamp() OR r.restoring IS NOT NULL)))

-- name: claim_due_entries
-- Claims a batch of entries whose settle (before the protections' copy was begun) and grace are over, and looks a
-- last time: do rows bear the hash? Without a settle (nobody writes to the store) this look is enough; else a
-- sweep must have looked before.
WITH page AS (
    SELECT e.entry_id, e.hash FROM retentiond.entry e
    WHERE e.state IN ('quarantined', 'returned') AND e.kind = 'blob' AND e.claimed_by IS NULL
      AND e.renamed_at + e.settle <= $4
      AND ($5 OR e.retry_at IS NULL OR e.retry_at <= statement_timestamp())
      AND (e.state = 'returned' OR e.settle = interval '0' OR e.looked_at > e.renamed_at)
      AND (e.grace_until IS NULL OR e.grace_until <= statement_timestamp())
      AND NOT EXISTS (SELECT FROM retentiond.released_media r
                      WHERE r.base64hash = e.hash AND (r.grace_until > statement_timestamp() OR r.restoring IS NOT NULL))
      AND e.entry_id > $1
    ORDER BY e.entry_id LIMIT $2 FOR UPDATE OF e SKIP LOCKED
)
UPDATE retentiond.entry e SET claimed_by = $3
FROM (SELECT p.entry_id, EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = p.hash) AS wanted
      FROM page p) l
WHERE e.entry_id = l.entry_id
RETURNING e.entry_id, e.pass_id, e.hash, e.state, e.bytes, l.wanted

-- name: forget_rows
-- Forgets the ledger's copies of rows whose grace is over and of whose content nothing is in quarantine any more.
DELETE FROM retentiond.released_media r
WHERE r.base64hash = ANY ($1::text[]) AND r.grace_until <= statement_timestamp() AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash)

-- name: forget_lost
-- Lost entries are forgotten with the last copy of their rows.
DELETE FROM retentiond.entry e
WHERE e.state = 'lost' AND e.claimed_by IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = e.hash)

-- name: forget_thumbnails
-- Forgets the copies of thumbnail rows whose grace is over.
DELETE FROM retentiond.released_thumbnail WHERE grace_until <= statement_timestamp()
