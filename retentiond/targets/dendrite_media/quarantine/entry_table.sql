-- Every write to retentiond.entry; entry_table.py has the states of an entry, and sends these statements. Behind
-- IS TRUE stand conditions that must not choose the index: a whole store's entries may meet them, and the statement
-- names those of a batch.

-- name: record_entries
-- Records the intent to quarantine each blob without rows, claimed by us.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle)
SELECT $1, h.hash, 'blob', 'intended', $2, h.files, h.bytes, $3::interval
FROM unnest($4::text[], $5::integer[], $6::bigint[]) AS h(hash, files, bytes)
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)
ORDER BY h.hash COLLATE "C"
RETURNING entry_id, hash, bytes

-- name: intend_orphans
-- Records the intent to quarantine blobs without rows that are not in quarantine; thumbnails of one that are in
-- quarantine alone do not prevent it.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle, grace_until)
SELECT $1, h.hash, 'blob', 'intended', $2, h.files, h.bytes, $3::interval, clock_timestamp() + $4::interval
FROM unnest($5::text[], $6::integer[], $7::bigint[]) AS h(hash, files, bytes)
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)
  AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = h.hash AND e.kind = 'blob' AND e.state <> 'lost')
  AND NOT EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = h.hash AND r.restoring IS NOT NULL)
ORDER BY h.hash COLLATE "C"
RETURNING entry_id, hash, bytes

-- name: record_thumbnails
-- Records the intent to quarantine thumbnails of blobs that stay, claimed by us.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle)
SELECT $1, h.hash, 'thumbnails', 'intended', $2, h.files, h.bytes, $3::interval
FROM unnest($4::text[], $5::integer[], $6::bigint[]) AS h(hash, files, bytes)
ORDER BY h.hash COLLATE "C"
RETURNING entry_id, hash, bytes

-- name: record_stray
-- Records the intent to quarantine stray thumbnails of a blob that stays.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle, grace_until)
VALUES ($1, $2, 'thumbnails', 'intended', $3, $4, $5, $6, clock_timestamp() + $7::interval)
RETURNING entry_id

-- name: ids_above
-- The ids of new entries must be above all on the disk.
SELECT setval(pg_get_serial_sequence('retentiond.entry', 'entry_id'),
              greatest($1, (SELECT coalesce(max(entry_id), 1) FROM retentiond.entry),
                       nextval(pg_get_serial_sequence('retentiond.entry', 'entry_id'))))

-- name: new_ids
-- As many new ids of entries as requested.
SELECT nextval(pg_get_serial_sequence('retentiond.entry', 'entry_id')) AS entry_id FROM generate_series(1, $1::integer)

-- name: take_in
-- Takes entries on the disk into the ledger, as entries without rows. Their grace ends only by hand: an infinite date
-- could not be shown.
INSERT INTO retentiond.entry (entry_id, pass_id, hash, kind, state, files, bytes, settle, renamed_at, grace_until)
OVERRIDING SYSTEM VALUE
SELECT e.entry_id, e.pass_id, e.hash, e.kind, e.state, e.files, e.bytes, $1::interval, clock_timestamp(),
       timestamptz '9000-01-01 UTC'
FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::bigint[])
     AS e(entry_id, pass_id, hash, kind, state, files, bytes)

-- name: quarantine_done
-- After the rename: the entry is in quarantine. In the same look: does a row have its hash now? These keep our claim.
UPDATE retentiond.entry e
SET state = 'quarantined', renamed_at = clock_timestamp(), problem = NULL, failures = 0, retry_at = NULL,
    claimed_by = CASE WHEN EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = e.hash)
                 THEN e.claimed_by END
WHERE e.entry_id = ANY ($1::bigint[]) AND (e.claimed_by = $2 AND e.state = 'intended') IS TRUE
RETURNING e.entry_id, e.pass_id, e.hash, e.claimed_by IS NOT NULL AS wanted

-- name: strays_quarantined
UPDATE retentiond.entry
SET state = 'quarantined', renamed_at = clock_timestamp(), claimed_by = NULL,
    problem = NULL, failures = 0, retry_at = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_returned
UPDATE retentiond.entry
SET state = 'returned', claimed_by = NULL, renamed_at = coalesce(renamed_at, clock_timestamp()),
    problem = NULL, failures = 0, retry_at = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_quarantined_again
-- They have no row any more: the spare copy in quarantine waits out settle and grace like any entry, from now on.
UPDATE retentiond.entry
SET state = 'quarantined', claimed_by = NULL, renamed_at = clock_timestamp(), looked_at = NULL,
    problem = NULL, failures = 0, retry_at = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_demoted
-- Returns inherited entries to the state at which a sweep begins with them.
UPDATE retentiond.entry
SET state = 'quarantined', claimed_by = NULL, looked_at = NULL, renamed_at = coalesce(renamed_at, clock_timestamp())
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_lost
-- The files that the step should have left are missing: the entry is kept on record, with the ledger's copy, and
-- reported.
UPDATE retentiond.entry SET state = 'lost', claimed_by = NULL, problem = $3
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_purging
-- From here on the entry is no copy any more; the rest of it is deleted by any later sweep. Held entries are left
-- out, and thumbnails that were released alone from a held media item. Its bytes are those that the purge frees: a
-- spare copy is one more name of a live file.
UPDATE retentiond.entry e SET state = 'purging', files = coalesce(g.files, e.files), bytes = coalesce(g.bytes, e.bytes)
FROM unnest($1::bigint[], $3::integer[], $4::bigint[]) AS g(entry_id, files, bytes)
WHERE e.entry_id = g.entry_id AND (e.claimed_by = $2) IS TRUE
  AND NOT EXISTS (SELECT FROM retentiond.released_media k WHERE k.base64hash = e.hash AND k.had_file AND {held})
  AND NOT (e.kind = 'thumbnails'
           AND EXISTS (SELECT FROM retentiond.thumbnail_release r JOIN mediaapi_media_repository k
                           ON k.media_id = r.media_id COLLATE "default" AND k.media_origin = r.media_origin COLLATE "default"
                       WHERE r.base64hash = e.hash AND {held}))
RETURNING e.entry_id

-- name: forget_entries
-- Closes purged entries.
DELETE FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2 RETURNING pass_id, hash, files, bytes

-- name: drop_intents
-- Closes intents of which no file was moved.
DELETE FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2 AND state = 'intended'
RETURNING entry_id

-- name: let_go
-- Ends claims; the entries are as they were.
UPDATE retentiond.entry SET claimed_by = NULL WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: note_failures
-- Ends the claims of entries whose step failed. The next sweep tries again; after a second failure in a row they wait
-- a minute, then three, seven and so on, up to an hour; a sweep of everything, which a daemon does once an hour, does
-- not wait.
UPDATE retentiond.entry e
SET claimed_by = NULL, problem = p.problem, failures = e.failures + 1,
    state = CASE WHEN e.state = 'restoring' THEN 'quarantined' ELSE e.state END,
    retry_at = clock_timestamp() + least(interval '1 hour', interval '1 minute' * (2 ^ least(e.failures, 6) - 1))
FROM unnest($1::bigint[], $2::text[]) AS p(id, problem)
WHERE e.entry_id = p.id AND e.claimed_by = $3

-- name: strays_looked
UPDATE retentiond.entry SET looked_at = $3, claimed_by = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: forget_lost
-- Deletes lost entries with the last copy of their rows.
DELETE FROM retentiond.entry e
WHERE e.state = 'lost' AND e.claimed_by IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = e.hash)

-- name: look_quarantined
-- A sweep's look at entries in quarantine, a page: entries with a row are claimed; the others are recorded as without
-- a row at the moment of this statement's snapshot, once after each rename, and where settle asks for it.
WITH page AS (
    SELECT entry_id, pass_id, hash, settle = interval '0' OR coalesce(looked_at > renamed_at, false) AS looked
    FROM retentiond.entry
    WHERE state = 'quarantined' AND kind = 'blob' AND claimed_by IS NULL AND entry_id > $1
      AND ($4 OR renamed_at > statement_timestamp() - interval '1 hour')
      AND ($4 OR retry_at IS NULL OR retry_at <= statement_timestamp())
    ORDER BY entry_id LIMIT $2
), look AS MATERIALIZED (
    SELECT p.entry_id, p.pass_id, p.hash, p.looked,
           EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = p.hash) AS wanted
    FROM page p
), free AS (
    SELECT e.entry_id, l.wanted FROM look l JOIN retentiond.entry e ON e.entry_id = l.entry_id
    WHERE (l.wanted OR NOT l.looked) AND (e.state = 'quarantined' AND e.claimed_by IS NULL) IS TRUE
    FOR UPDATE OF e SKIP LOCKED
), changed AS (
    UPDATE retentiond.entry e
    SET claimed_by = CASE WHEN f.wanted THEN $3::integer END,
        looked_at = CASE WHEN f.wanted THEN e.looked_at ELSE statement_timestamp() END
    FROM free f WHERE e.entry_id = f.entry_id
    RETURNING e.entry_id, f.wanted
)
-- Entries with a row, and the last of the page, behind which the next begins. A full join is never a nested loop,
-- however few rows are expected.
SELECT l.entry_id, l.pass_id, l.hash, coalesce(c.wanted, false) AS wanted
FROM look l FULL JOIN changed c ON c.entry_id = l.entry_id
WHERE c.wanted OR l.entry_id = (SELECT max(entry_id) FROM look)

-- name: claim_returned
-- Claims a page of returned entries, to check whether their live file still exists; returns whether a row has the
-- hash. A sweep of everything ($4) ignores the time of the next try.
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

-- name: lock_due_entries
-- Locks a batch of entries whose settle (before the protections' copy was begun) and grace are over, and looks a
-- last time: do rows have the hash? Without a settle (dendrite does not run) this look is enough; otherwise a sweep
-- must have looked before.
WITH page AS (
    SELECT e.entry_id, e.pass_id, e.hash, e.state FROM retentiond.entry e
    WHERE e.state IN ('quarantined', 'returned') AND e.kind = 'blob' AND e.claimed_by IS NULL
      AND e.renamed_at + e.settle <= $3
      AND ($4 OR e.retry_at IS NULL OR e.retry_at <= statement_timestamp())
      AND (e.state = 'returned' OR e.settle = interval '0' OR e.looked_at > e.renamed_at)
      AND (e.grace_until IS NULL OR e.grace_until <= statement_timestamp())
      AND NOT EXISTS (SELECT FROM retentiond.released_media r
                      WHERE r.base64hash = e.hash AND (r.grace_until > statement_timestamp() OR r.restoring IS NOT NULL))
      AND e.entry_id > $1
    ORDER BY e.entry_id LIMIT $2 FOR UPDATE OF e SKIP LOCKED
)
SELECT p.entry_id, p.pass_id, p.hash, p.state,
       EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = p.hash) AS wanted
FROM page p

-- name: due_purging
-- Claims locked entries that nothing needs, and marks them as purging; held ones are left as they are.
UPDATE retentiond.entry e SET state = 'purging', claimed_by = $2
WHERE e.entry_id = ANY ($1::bigint[]) AND (e.claimed_by IS NULL AND e.state = 'quarantined') IS TRUE
  AND NOT EXISTS (SELECT FROM retentiond.released_media k WHERE k.base64hash = e.hash AND k.had_file AND {held})
RETURNING e.entry_id

-- name: claim_locked
-- Claims locked entries with which something else is to be done.
UPDATE retentiond.entry SET claimed_by = $2 WHERE entry_id = ANY ($1::bigint[]) AND claimed_by IS NULL

-- name: note_freed
-- Records the bytes that the purge of our entries frees, where they are not those of the release.
UPDATE retentiond.entry e SET files = coalesce(g.files, e.files), bytes = coalesce(g.bytes, e.bytes)
FROM unnest($1::bigint[], $3::integer[], $4::bigint[]) AS g(entry_id, files, bytes)
WHERE e.entry_id = g.entry_id AND e.claimed_by = $2

-- name: claim_strays
-- Claims a page of stray thumbnails in quarantine; returns whether settle and grace are over, and whether a sweep has
-- looked before.
UPDATE retentiond.entry e SET claimed_by = $3
WHERE e.entry_id IN (
    SELECT entry_id FROM retentiond.entry
    WHERE kind = 'thumbnails' AND state = 'quarantined' AND claimed_by IS NULL AND entry_id > $1
      AND ($4 OR retry_at IS NULL OR retry_at <= statement_timestamp())
    ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING e.entry_id, e.pass_id, e.hash, e.bytes,
          e.settle = interval '0' OR coalesce(e.looked_at > e.renamed_at, false) AS looked,
          e.renamed_at + e.settle <= clock_timestamp()
          AND (e.grace_until IS NULL OR e.grace_until <= clock_timestamp())
          AND NOT EXISTS (SELECT FROM retentiond.released_media r
                          WHERE r.base64hash = e.hash AND r.grace_until > clock_timestamp())
          AND NOT EXISTS (SELECT FROM retentiond.thumbnail_release r
                          WHERE r.base64hash = e.hash AND (r.grace_until > clock_timestamp() OR r.restoring IS NOT NULL))
          AS over

-- name: inherit_claims
-- Takes over a page of open steps of dead claim owners, and of failed steps without a claim, once it is time to try
-- them again ($5: at any time).
UPDATE retentiond.entry SET claimed_by = $3
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE entry_id > $1 AND (claimed_by = ANY ($4::integer[])
                         OR claimed_by IS NULL AND state IN ('intended', 'purging', 'restoring')
                            AND ($5 OR retry_at IS NULL OR retry_at <= statement_timestamp()))
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, kind, state

-- name: claim_rowless
-- Claims a page of them to restore it, of one pass or all.
UPDATE retentiond.entry SET claimed_by = $3, state = 'restoring'
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE entry_id > $1 AND kind = 'blob' AND grace_until IS NOT NULL AND state = 'quarantined'
                     AND claimed_by IS NULL AND ($4::bigint IS NULL OR pass_id = $4)
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, bytes

-- name: claim_entries
-- The same, claimed.
UPDATE retentiond.entry SET claimed_by = $3
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE state IN ('quarantined', 'returned') AND claimed_by IS NULL AND entry_id > $1
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, state

-- name: claim_copies
-- Claims the copies of these blobs in quarantine, to restore them, and those that were never moved into it: an open
-- intent stays one. Are all their released rows restored?
WITH copy AS (
    SELECT entry_id FROM retentiond.entry
    -- By the index: of an array in the statement too many rows are expected, while the table has no statistics.
    WHERE hash = ANY (ARRAY(SELECT pg_catalog.unnest($1::text[]))) AND claimed_by IS NULL AND (state IN ('quarantined', 'returned', 'intended')) IS TRUE
    ORDER BY entry_id FOR UPDATE SKIP LOCKED
)
UPDATE retentiond.entry e SET claimed_by = $2, state = CASE WHEN e.state = 'quarantined' THEN 'restoring' ELSE e.state END
FROM copy c WHERE e.entry_id = c.entry_id
RETURNING e.entry_id, e.pass_id, e.hash, e.kind, e.state,
    NOT EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = e.hash AND r.restoring IS NULL) AS all_rows

-- name: claim_thumbnail_copies
-- Claims the copies of these blobs' thumbnails in quarantine.
UPDATE retentiond.entry e SET claimed_by = $2
WHERE e.entry_id IN (SELECT entry_id FROM retentiond.entry
                     WHERE hash = ANY ($1::text[]) AND kind = 'thumbnails' AND claimed_by IS NULL AND state = 'quarantined'
                     ORDER BY entry_id FOR UPDATE SKIP LOCKED)
RETURNING e.entry_id, e.pass_id, e.hash

-- name: lock_copies
-- Locks the entries of these blobs, so that no entry is claimed between the look and the mark.
SELECT e.entry_id FROM retentiond.entry e
WHERE e.hash = ANY (ARRAY(SELECT r.base64hash FROM retentiond.released_media r
                          WHERE r.base64hash > $1 AND ($3::bigint IS NULL OR r.pass_id = $3)
                            AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
                          ORDER BY 1 LIMIT $2))
ORDER BY e.entry_id FOR UPDATE

-- name: lock_copies_of
-- Locks the entries of these blobs, so that no entry is claimed between the look and the mark.
SELECT entry_id FROM retentiond.entry WHERE hash = ANY (ARRAY(SELECT pg_catalog.unnest($1::text[])))
ORDER BY entry_id FOR UPDATE

-- name: oldest
-- A part of other statements: the oldest entries whose settle is over, until their bytes reach $1. Entries that an
-- acceptance took in are left out.
SELECT a.entry_id, a.hash
FROM (SELECT e.entry_id, e.hash, sum(e.bytes) OVER (ORDER BY e.renamed_at, e.entry_id) - e.bytes AS before
      FROM retentiond.entry e
      WHERE e.state = 'quarantined' AND e.renamed_at + e.settle <= clock_timestamp()
        AND coalesce(e.grace_until < timestamptz '9000-01-01 UTC', true)) a
WHERE a.before < $1

-- name: shorten_grace_of_entries
-- The same for entries without released rows.
WITH ended AS (
    UPDATE retentiond.entry e SET grace_until = clock_timestamp()
    FROM ({oldest}) o WHERE e.entry_id = o.entry_id AND e.grace_until > clock_timestamp()
    RETURNING e.hash
)
SELECT count(DISTINCT hash) FROM ended

-- name: end_grace_of_entries
-- The same for entries without released rows.
UPDATE retentiond.entry
SET grace_before = coalesce(grace_before, grace_until),
    grace_until = least(grace_until, greatest(clock_timestamp(), renamed_at + settle))
WHERE grace_until > clock_timestamp()

-- name: give_back_grace_of_entries
-- `quarantine purge --cancel`, of the entries first: a purge that has looked at them just now must not claim them by
-- the ended grace, and claims no entry that no sweep has looked at since. Entries of a running step are left alone.
UPDATE retentiond.entry e
SET looked_at = NULL, grace_until = coalesce(e.grace_before, e.grace_until), grace_before = NULL
WHERE e.claimed_by IS NULL AND e.state IN ('quarantined', 'returned')
  AND (e.grace_before IS NOT NULL
       OR EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = e.hash AND r.grace_before IS NOT NULL)
       OR EXISTS (SELECT FROM retentiond.thumbnail_release r WHERE r.base64hash = e.hash AND r.grace_before IS NOT NULL))

-- name: put_off_grace_of_entries
-- The same for entries without released rows.
UPDATE retentiond.entry SET grace_until = grace_until + ($2::timestamptz - greatest($1::timestamptz, renamed_at))
WHERE grace_until > $1 AND renamed_at < $2

-- name: begin_settles_anew
-- The same for entries, and for the grace of those without rows; the others still have none.
UPDATE retentiond.entry
SET renamed_at = clock_timestamp(), looked_at = NULL,
    grace_until = CASE WHEN grace_until IS NOT NULL THEN greatest(grace_until, clock_timestamp() + $1::interval) END
WHERE renamed_at IS NOT NULL
