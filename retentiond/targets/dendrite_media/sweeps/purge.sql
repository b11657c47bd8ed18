-- The purge: expired entries, the last check, and the deletions from the ledger after it.

-- name: any_due_entry
-- Whether settle and grace are over for any entry: only then a new copy of the protections is worth its cost.
SELECT EXISTS (
    SELECT FROM retentiond.entry e
    WHERE e.state IN ('quarantined', 'returned') AND e.kind = 'blob' AND e.claimed_by IS NULL
      AND e.renamed_at + e.settle <= statement_timestamp()
      AND ($1 OR e.retry_at IS NULL OR e.retry_at <= statement_timestamp())
      AND (e.state = 'returned' OR e.settle = interval '0' OR e.looked_at > e.renamed_at)
      AND (e.grace_until IS NULL OR e.grace_until <= statement_timestamp())
      AND NOT EXISTS (SELECT FROM retentiond.released_media r
                      WHERE r.base64hash = e.hash AND (r.grace_until > statement_timestamp() OR r.restoring IS NOT NULL)))
