-- Statements over dendrite's media tables and the quarantine's part of the ledger.
-- dendrite's tables are found by the connection's search_path, as dendrite finds them; ours bear their schema.
-- Keys are compared in the default collation, that dendrite's unique index has; hashes in "C", that ours has.

-- name: media_columns
-- The columns of dendrite's two tables, to hold against what we copy.
SELECT c.relname AS relation, a.attname AS column, format_type(a.atttypid, NULL) AS type
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.oid IN (to_regclass('mediaapi_media_repository'), to_regclass('mediaapi_thumbnail'))
  AND a.attnum > 0 AND NOT a.attisdropped

-- name: media_page
-- A page of all rows in the order of dendrite's own unique index, after a key.
SELECT media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id
FROM mediaapi_media_repository
WHERE (media_id, media_origin) > ($1::text, $2::text)
ORDER BY media_id, media_origin
LIMIT $3

-- name: media_page_with_mentions
-- The same, with the sources that mention each row.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash,
       m.user_id, coalesce(f.sources, '{}') AS mentions
FROM mediaapi_media_repository m
LEFT JOIN pg_temp.mention f ON f.media_id = m.media_id COLLATE "C" AND f.media_origin = m.media_origin COLLATE "C"
WHERE (m.media_id, m.media_origin) > ($1::text, $2::text)
ORDER BY m.media_id, m.media_origin
LIMIT $3

-- name: make_mentions
-- What mentions media, of the sources that policies ask about: one row a key; it goes with the connection.
CREATE TEMPORARY TABLE mention (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    sources text[] NOT NULL
)

-- name: learn_mentions
INSERT INTO pg_temp.mention (media_id, media_origin, sources)
SELECT f.media_id, f.media_origin, array_agg(DISTINCT f.source)
FROM {reference} f
WHERE f.copy_id = $1 AND f.source = ANY ($2::text[])
GROUP BY f.media_id, f.media_origin

-- name: sort_mentions
CREATE INDEX mention_by_key ON pg_temp.mention (media_id, media_origin)

-- name: analyze_mentions
ANALYZE pg_temp.mention

-- name: drop_mentions
DROP TABLE IF EXISTS pg_temp.mention

-- name: has_media
SELECT EXISTS (SELECT FROM mediaapi_media_repository)

-- name: orphan_thumbnail_rows
-- Thumbnail rows whose medium has no row.
SELECT count(*) FROM mediaapi_thumbnail t
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)

-- name: make_due
-- Where a survey puts what is due by age and policy; it goes with the connection.
CREATE TEMPORARY TABLE due (
    hash text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    policy integer NOT NULL,
    kept text,
    due_id bigint GENERATED ALWAYS AS IDENTITY
)

-- name: sort_due
-- Due rows are worked through by hash: rows that share a blob meet, and so do blobs that share a directory. The key is not
-- in the index: an ID that just fits into that of dendrite would be too long for ours.
CREATE INDEX due_by_hash ON pg_temp.due (hash, due_id)

-- name: analyze_due
ANALYZE pg_temp.due

-- name: drop_due
DROP TABLE IF EXISTS pg_temp.due

-- name: keep_restored
-- Marks what was brought back and is kept from then on.
UPDATE pg_temp.due d SET kept = 'restored'
FROM retentiond.restored r
WHERE d.kept IS NULL AND r.media_id = d.media_id AND r.media_origin = d.media_origin
  AND (r.until IS NULL OR r.until > clock_timestamp())

-- name: keep_referenced
-- Marks what a protection refers to, by the first that does, in the order given.
UPDATE pg_temp.due d SET kept = p.source
FROM (SELECT f.media_id, f.media_origin, ($2::text[])[min(array_position($2::text[], f.source))] AS source
      FROM {reference} f
      WHERE f.copy_id = $1 AND f.source = ANY ($2::text[])
      GROUP BY f.media_id, f.media_origin) p
WHERE d.kept IS NULL AND p.media_id = d.media_id AND p.media_origin = d.media_origin

-- name: count_due
SELECT count(*) FROM pg_temp.due WHERE kept IS NULL

-- name: due_page
-- A page of what is due, by hash.
SELECT hash, due_id, media_id, media_origin, policy, kept
FROM pg_temp.due
WHERE (hash, due_id) > ($1::text, $2::bigint)
ORDER BY hash, due_id
LIMIT $3

-- name: make_gone
-- In a plan: what policies, and quotas, would have taken before a quota has its turn.
CREATE TEMPORARY TABLE gone (
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    PRIMARY KEY (media_id, media_origin)
)

-- name: make_evicted
-- In a plan: what its quotas would take.
CREATE TEMPORARY TABLE evicted (LIKE pg_temp.gone INCLUDING ALL)

-- name: leave_out_gone
DELETE FROM pg_temp.due d USING pg_temp.gone g
WHERE d.media_id = g.media_id AND d.media_origin = g.media_origin

-- name: note_gone
INSERT INTO pg_temp.gone (media_id, media_origin)
SELECT d.media_id, d.media_origin FROM pg_temp.due d WHERE d.kept IS NULL
ON CONFLICT DO NOTHING

-- name: note_evicted
INSERT INTO pg_temp.evicted (media_id, media_origin)
SELECT d.media_id, d.media_origin FROM pg_temp.due d WHERE d.kept IS NULL
ON CONFLICT DO NOTHING

-- name: forget_gone
DELETE FROM pg_temp.gone

-- name: evicted_of
-- Which of these keys a quota of the plan would take.
SELECT e.media_id, e.media_origin
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN pg_temp.evicted e ON e.media_id = k.media_id COLLATE "C" AND e.media_origin = k.media_origin COLLATE "C"

-- name: count_bearers
-- How many rows bear each hash of which some row is due, and how many would be gone by then: one scan, for plans,
-- which make no index.
CREATE TEMPORARY TABLE bearers AS
SELECT m.base64hash COLLATE "C" AS hash, count(*) FILTER (WHERE g.media_id IS NULL) AS rows, count(g.media_id) AS gone
FROM mediaapi_media_repository m
LEFT JOIN pg_temp.gone g ON g.media_id = m.media_id COLLATE "C" AND g.media_origin = m.media_origin COLLATE "C"
WHERE m.base64hash COLLATE "C" IN (SELECT hash FROM pg_temp.due)
GROUP BY 1

-- name: sort_bearers
CREATE INDEX bearers_by_hash ON pg_temp.bearers (hash)

-- name: bearers_of
SELECT hash, rows, gone FROM pg_temp.bearers WHERE hash = ANY ($1::text[])

-- name: drop_bearers
DROP TABLE IF EXISTS pg_temp.bearers

-- name: lock_candidates
-- Locks the batch's rows by their keys and reads them again.
SELECT m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name,
       m.base64hash, m.user_id
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
JOIN mediaapi_media_repository m ON m.media_id = k.media_id AND m.media_origin = k.media_origin
ORDER BY m.media_id, m.media_origin
FOR UPDATE OF m

-- name: kept_keys
-- Which of these keys a mark or a protection keeps; the copy is read in the same snapshot as what it says.
SELECT k.media_id, k.media_origin
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
WHERE EXISTS (SELECT FROM retentiond.restored r
              WHERE r.media_id = k.media_id COLLATE "C" AND r.media_origin = k.media_origin COLLATE "C"
                AND (r.until IS NULL OR r.until > clock_timestamp()))
   OR EXISTS (SELECT FROM retentiond.reference f
              WHERE f.copy_id = $3 AND f.source = ANY ($4::text[])
                AND f.media_id = k.media_id COLLATE "C" AND f.media_origin = k.media_origin COLLATE "C")

-- name: mentions_of
-- Which of these sources mention each of these keys, as the copy says.
SELECT k.media_id, k.media_origin, coalesce(f.sources, '{}') AS sources
FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
CROSS JOIN LATERAL (
    SELECT array_agg(f.source) AS sources FROM retentiond.reference f
    WHERE f.copy_id = $3 AND f.source = ANY ($4::text[])
      AND f.media_id = k.media_id COLLATE "C" AND f.media_origin = k.media_origin COLLATE "C") f

-- name: release
-- Copies rows and their thumbnail rows into the ledger and deletes them; the counts must agree.
WITH key AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::boolean[]) AS k(media_id, media_origin, policy, had_file)
), gone_thumbnail AS (
    DELETE FROM mediaapi_thumbnail t USING key k
    WHERE t.media_id = k.media_id AND t.media_origin = k.media_origin
    RETURNING t.*
), gone_media AS (
    DELETE FROM mediaapi_media_repository m USING key k
    WHERE m.media_id = k.media_id AND m.media_origin = k.media_origin
    RETURNING m.*, k.policy, k.had_file
), thumbnails AS (
    SELECT t.media_id, t.media_origin, jsonb_agg(jsonb_build_object(
        'content_type', t.content_type, 'file_size_bytes', t.file_size_bytes, 'creation_ts', t.creation_ts,
        'width', t.width, 'height', t.height, 'resize_method', t.resize_method)) AS copied
    FROM gone_thumbnail t GROUP BY t.media_id, t.media_origin
), copied AS (
    INSERT INTO retentiond.released_media (pass_id, policy, released_at, grace_until, even_protected, had_file, media_id,
        media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id, thumbnails)
    SELECT $1, m.policy, clock_timestamp(), clock_timestamp() + $6::interval, $7, m.had_file, m.media_id, m.media_origin,
        m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash, m.user_id,
        coalesce(t.copied, '[]')
    FROM gone_media m LEFT JOIN thumbnails t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
    RETURNING jsonb_array_length(thumbnails) AS thumbnails
)
SELECT (SELECT count(*) FROM gone_media) AS media, (SELECT count(*) FROM copied) AS media_copied,
       (SELECT count(*) FROM gone_thumbnail) AS thumbnails,
       (SELECT coalesce(sum(thumbnails), 0) FROM copied) AS thumbnails_copied

-- name: record_entries
-- Records the intent to quarantine each blob that no row bears any more, claimed by us.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle)
SELECT $1, h.hash, 'blob', 'intended', $2, h.files, h.bytes, $3::interval
FROM unnest($4::text[], $5::integer[], $6::bigint[]) AS h(hash, files, bytes)
WHERE NOT EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)
ORDER BY h.hash COLLATE "C"
RETURNING entry_id, hash, bytes

-- name: note_shared
-- Remembers the blobs of which rows went while others stay: their thumbnails may be strays by and by.
INSERT INTO retentiond.shared_blob (hash, pass_id, noted_at, settle)
SELECT h.hash, $1, clock_timestamp(), $2::interval
FROM unnest($3::text[]) AS h(hash)
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)
ON CONFLICT (hash) DO UPDATE SET noted_at = excluded.noted_at

-- name: shared_blobs
-- How many contents of a pass still have rows.
SELECT count(*) FROM (SELECT DISTINCT r.base64hash FROM retentiond.released_media r WHERE r.pass_id = $1) r
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = r.base64hash)

-- name: quarantine_done
-- After the rename: the entry lies in quarantine. In the same look: does a row bear its hash now? Those keep our claim.
UPDATE retentiond.entry e
SET state = 'quarantined', renamed_at = clock_timestamp(),
    claimed_by = CASE WHEN wanted.yes THEN e.claimed_by END
FROM (SELECT d.entry_id, EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = d.hash) AS yes
      FROM retentiond.entry d WHERE d.entry_id = ANY ($1::bigint[])) wanted
WHERE e.entry_id = wanted.entry_id AND e.claimed_by = $2 AND e.state = 'intended'
RETURNING e.entry_id, e.pass_id, e.hash, wanted.yes AS wanted

-- name: entries_lost
-- What the step should have left is not to be seen: kept on record, with the ledger's copy, and reported.
UPDATE retentiond.entry SET state = 'lost', claimed_by = NULL, problem = p.problem
FROM unnest($1::bigint[], $2::text[]) AS p(id, problem)
WHERE entry_id = p.id AND claimed_by = $3

-- name: give_up_claims
-- Lets go of entries that could not be worked on; the next sweep finds them as they are.
UPDATE retentiond.entry SET claimed_by = NULL, problem = p.problem
FROM unnest($1::bigint[], $2::text[]) AS p(id, problem)
WHERE entry_id = p.id AND claimed_by = $3

-- name: wanted_thumbnails
-- The thumbnails that rows know of these hashes.
SELECT DISTINCT m.base64hash AS hash, t.width, t.height, t.resize_method
FROM mediaapi_media_repository m
JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
WHERE m.base64hash COLLATE "C" = ANY ($1::text[])

-- name: entries_returned
UPDATE retentiond.entry SET state = 'returned', claimed_by = NULL, problem = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: look_quarantined
-- A sweep's look at entries in quarantine, a page: whom a row wants is claimed, of the others it is noted that
-- nobody did at the moment of this statement's snapshot.
WITH page AS (
    SELECT entry_id, hash, pass_id FROM retentiond.entry
    WHERE state = 'quarantined' AND kind = 'blob' AND claimed_by IS NULL AND entry_id > $1
      AND ($4 OR renamed_at > clock_timestamp() - interval '1 hour')
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
WITH page AS (
    SELECT entry_id, hash FROM retentiond.entry
    WHERE state = 'returned' AND kind = 'blob' AND claimed_by IS NULL AND entry_id > $1
    ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE retentiond.entry e SET claimed_by = $3
FROM (SELECT p.entry_id, EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = p.hash) AS wanted
      FROM page p) l
WHERE e.entry_id = l.entry_id
RETURNING e.entry_id, e.pass_id, e.hash, l.wanted

-- name: entries_quarantined_again
-- No row bears them any more: the spare in quarantine waits out settle and grace like any entry, from now on.
UPDATE retentiond.entry SET state = 'quarantined', claimed_by = NULL, renamed_at = clock_timestamp(), looked_at = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: intended_hashes
-- Which of these contents somebody is about to rename.
SELECT DISTINCT hash FROM retentiond.entry WHERE hash = ANY ($1::text[]) AND state = 'intended' AND kind = 'blob'

-- name: any_due_entry
-- Whether settle and grace are over for any entry: only then the protections are worth a new copy.
SELECT EXISTS (
    SELECT FROM retentiond.entry e
    WHERE e.state IN ('quarantined', 'returned') AND e.kind = 'blob' AND e.claimed_by IS NULL
      AND e.renamed_at + e.settle <= clock_timestamp()
      AND (e.state = 'returned' OR e.settle = interval '0' OR e.looked_at > e.renamed_at)
      AND (e.grace_until IS NULL OR e.grace_until <= clock_timestamp())
      AND NOT EXISTS (SELECT FROM retentiond.released_media r
                      WHERE r.base64hash = e.hash AND (r.grace_until > clock_timestamp() OR r.restoring IS NOT NULL)))

-- name: claim_due_entries
-- Claims a batch of entries whose settle (before the protections' copy was begun) and grace are over, and looks a
-- last time: do rows bear the hash? Without a settle (nobody writes to the store) this look is enough; else a
-- sweep must have looked before.
WITH page AS (
    SELECT e.entry_id, e.hash FROM retentiond.entry e
    WHERE e.state IN ('quarantined', 'returned') AND e.kind = 'blob' AND e.claimed_by IS NULL
      AND e.renamed_at + e.settle <= $4
      AND (e.state = 'returned' OR e.settle = interval '0' OR e.looked_at > e.renamed_at)
      AND (e.grace_until IS NULL OR e.grace_until <= clock_timestamp())
      AND NOT EXISTS (SELECT FROM retentiond.released_media r
                      WHERE r.base64hash = e.hash AND (r.grace_until > clock_timestamp() OR r.restoring IS NOT NULL))
      AND e.entry_id > $1
    ORDER BY e.entry_id LIMIT $2 FOR UPDATE OF e SKIP LOCKED
)
UPDATE retentiond.entry e SET claimed_by = $3
FROM (SELECT p.entry_id, EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = p.hash) AS wanted
      FROM page p) l
WHERE e.entry_id = l.entry_id
RETURNING e.entry_id, e.pass_id, e.hash, e.state, e.bytes, l.wanted

-- name: protected_hashes
-- The hashes of released rows that a protection refers to now, but for those that went in spite of it, and for those
-- whose key bears a row again, which wins.
SELECT DISTINCT r.base64hash AS hash
FROM retentiond.released_media r
JOIN retentiond.reference f ON f.media_id = r.media_id AND f.media_origin = r.media_origin
WHERE r.base64hash = ANY ($1::text[]) AND f.copy_id = $2 AND f.source = ANY ($3::text[]) AND NOT r.even_protected
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")

-- name: any_released
SELECT EXISTS (SELECT FROM retentiond.released_media)

-- name: protected_in_quarantine
-- A page of contents of which a released row that could come back is protected now.
SELECT DISTINCT r.base64hash AS hash
FROM retentiond.released_media r
JOIN retentiond.reference f ON f.media_id = r.media_id AND f.media_origin = r.media_origin
WHERE r.base64hash > $1 AND f.copy_id = $3 AND f.source = ANY ($4::text[]) AND NOT r.even_protected
  AND r.had_file AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
ORDER BY 1 LIMIT $2

-- name: forget_entries
-- Closes purged entries.
DELETE FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2 RETURNING pass_id, hash, bytes

-- name: forget_rows
-- Forgets the ledger's copies of rows whose grace is over and of whose content nothing is in quarantine any more.
DELETE FROM retentiond.released_media r
WHERE r.base64hash = ANY ($1::text[]) AND r.grace_until <= clock_timestamp() AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash)

-- name: forget_lost
-- Lost entries are forgotten with the last copy of their rows.
DELETE FROM retentiond.entry e
WHERE e.state = 'lost' AND e.claimed_by IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = e.hash)

-- name: claimants
-- Who has claimed entries.
SELECT DISTINCT claimed_by FROM retentiond.entry WHERE claimed_by IS NOT NULL

-- name: inherit_claims
-- Takes over a page of open steps of the dead, and of those that were let go of because they failed.
UPDATE retentiond.entry SET claimed_by = $3
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE entry_id > $1 AND (claimed_by = ANY ($4::integer[])
                         OR claimed_by IS NULL AND state IN ('intended', 'purging', 'restoring'))
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, kind, state

-- name: drop_intents
-- Closes intents of which nothing was moved.
DELETE FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2 AND state = 'intended'

-- name: let_go
-- Lets go of claims; the entries are as they were.
UPDATE retentiond.entry SET claimed_by = NULL WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: entries_demoted
-- Puts inherited entries back to where a sweep begins with them.
UPDATE retentiond.entry
SET state = 'quarantined', claimed_by = NULL, looked_at = NULL, renamed_at = coalesce(renamed_at, clock_timestamp())
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: known_entries
-- Which of these entries the ledger knows.
SELECT entry_id, pass_id, hash FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[])

-- name: wanted_hashes
-- Which of these hashes rows bear.
SELECT h.hash FROM unnest($1::text[]) AS h(hash)
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)

-- name: drop_late_thumbnail_rows
-- Thumbnail rows that dendrite added after their medium's row went. In the same statement: no row bears the key.
DELETE FROM mediaapi_thumbnail t USING retentiond.released_media r
WHERE t.media_id = r.media_id COLLATE "default" AND t.media_origin = r.media_origin COLLATE "default"
  AND ($1 OR r.released_at > clock_timestamp() - interval '1 hour')
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)

-- name: thumbnails_of_returned_keys
-- A page of thumbnail rows of released keys that bear a row again, with the content they belong to, after a key.
SELECT DISTINCT r.media_id, r.media_origin, t.width, t.height, t.resize_method COLLATE "C" AS resize_method,
       m.base64hash AS hash, s.seen_at < clock_timestamp() - interval '1 minute' AS suspect
FROM retentiond.released_media r
JOIN mediaapi_media_repository m
  ON m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default"
JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
LEFT JOIN retentiond.suspect_thumbnail s
  ON s.media_id = t.media_id COLLATE "C" AND s.media_origin = t.media_origin COLLATE "C"
 AND s.width = t.width AND s.height = t.height AND s.resize_method = t.resize_method COLLATE "C"
WHERE ($1 OR r.released_at > clock_timestamp() - interval '1 hour')
  AND (r.media_id, r.media_origin, t.width, t.height, t.resize_method COLLATE "C")
      > ($3::text, $4::text, $5::integer, $6::integer, $7::text)
ORDER BY 1, 2, 3, 4, 5
LIMIT $2

-- name: suspect_thumbnails
INSERT INTO retentiond.suspect_thumbnail (media_id, media_origin, width, height, resize_method, seen_at)
SELECT s.media_id, s.media_origin, s.width, s.height, s.resize_method, clock_timestamp()
FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
     AS s(media_id, media_origin, width, height, resize_method)
ON CONFLICT DO NOTHING

-- name: drop_dead_thumbnails
-- Thumbnail rows without a file at two sweeps, a minute apart; dendrite makes them again once they are gone.
DELETE FROM mediaapi_thumbnail t
USING unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::text[])
      AS s(media_id, media_origin, width, height, resize_method)
WHERE t.media_id = s.media_id AND t.media_origin = s.media_origin
  AND t.width = s.width AND t.height = s.height AND t.resize_method = s.resize_method

-- name: clear_suspects
-- Suspicions that a sweep did not confirm within the day are forgotten.
DELETE FROM retentiond.suspect_thumbnail WHERE seen_at < clock_timestamp() - interval '1 day'

-- name: shared_due
-- Shared blobs whose thumbnails have had their hour.
SELECT hash, pass_id, noted_at, settle FROM retentiond.shared_blob
WHERE noted_at < clock_timestamp() - interval '1 hour' AND hash > $1
ORDER BY hash LIMIT $2

-- name: forget_shared
DELETE FROM retentiond.shared_blob WHERE hash = ANY ($1::text[]) AND noted_at < clock_timestamp() - interval '1 hour'

-- name: record_stray
-- Records the intent to quarantine stray thumbnails of a blob that stays.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle, grace_until)
VALUES ($1, $2, 'thumbnails', 'intended', $3, $4, $5, $6, clock_timestamp() + $7::interval)
RETURNING entry_id

-- name: claim_strays
-- Claims a page of stray thumbnails in quarantine; says whether settle is over and a sweep has looked before.
UPDATE retentiond.entry e SET claimed_by = $3
WHERE e.entry_id IN (
    SELECT entry_id FROM retentiond.entry
    WHERE kind = 'thumbnails' AND state = 'quarantined' AND claimed_by IS NULL AND entry_id > $1
    ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING e.entry_id, e.pass_id, e.hash, e.bytes,
          e.renamed_at + e.settle <= clock_timestamp() AND (e.settle = interval '0' OR e.looked_at > e.renamed_at)
          AND (e.grace_until IS NULL OR e.grace_until <= clock_timestamp())
          AND NOT EXISTS (SELECT FROM retentiond.released_media r
                          WHERE r.base64hash = e.hash AND r.grace_until > clock_timestamp())
          AND NOT EXISTS (SELECT FROM retentiond.thumbnail_release r
                          WHERE r.base64hash = e.hash AND (r.grace_until > clock_timestamp() OR r.restoring IS NOT NULL))
          AS due

-- name: strays_looked
UPDATE retentiond.entry SET looked_at = $3, claimed_by = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: strays_quarantined
UPDATE retentiond.entry SET state = 'quarantined', renamed_at = clock_timestamp(), claimed_by = NULL
WHERE entry_id = ANY ($1::bigint[]) AND claimed_by = $2

-- name: quarantine_summary
-- What lies in quarantine, by state.
SELECT state, count(*) AS entries, coalesce(sum(bytes), 0)::bigint AS bytes FROM retentiond.entry GROUP BY state

-- name: released_summary
-- Released rows that can still be brought back, and when the last grace ends.
SELECT count(*) AS items, max(grace_until) AS until FROM retentiond.released_media

-- name: quarantine_page
-- What can be brought back, a page by release.
SELECT r.release_id, r.pass_id, r.policy, r.released_at, r.grace_until, r.had_file, r.media_id, r.media_origin,
       r.content_type, r.file_size_bytes, r.upload_name, r.base64hash, r.user_id,
       (SELECT e.state FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob'
        ORDER BY e.entry_id DESC LIMIT 1) AS state
FROM retentiond.released_media r
WHERE r.release_id > $1
ORDER BY r.release_id
LIMIT $2

-- name: rowless_page
-- Blobs in quarantine that no released row stands for, a page by entry.
SELECT entry_id, pass_id, hash, state, bytes, renamed_at, grace_until FROM retentiond.entry
WHERE entry_id > $1 AND kind = 'blob' AND grace_until IS NOT NULL AND renamed_at IS NOT NULL AND state <> 'lost'
ORDER BY entry_id LIMIT $2

-- name: claim_rowless
-- Claims a page of them to bring it back, of one pass or all.
UPDATE retentiond.entry SET claimed_by = $3, state = 'restoring'
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE entry_id > $1 AND kind = 'blob' AND grace_until IS NOT NULL AND state = 'quarantined'
                     AND claimed_by IS NULL AND ($4::bigint IS NULL OR pass_id = $4)
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, bytes

-- name: end_grace
-- `quarantine purge --yes`: no grace is waited for any more.
UPDATE retentiond.released_media SET grace_until = clock_timestamp() WHERE grace_until > clock_timestamp()

-- name: end_grace_of_entries
-- The same for what no released row stands for.
UPDATE retentiond.entry SET grace_until = clock_timestamp() WHERE grace_until > clock_timestamp()

-- name: end_grace_of_thumbnails
UPDATE retentiond.released_thumbnail SET grace_until = clock_timestamp() WHERE grace_until > clock_timestamp()

-- name: forget_thumbnails
-- Forgets the copies of thumbnail rows whose grace is over.
DELETE FROM retentiond.released_thumbnail WHERE grace_until <= clock_timestamp()

-- name: select_to_restore
-- Marks a page of released rows as being brought back: by pass, by key, or all, one content after another; not
-- those whose key bears a row again, nor those of a content that a step under way has in its hands. Of a key that
-- was released more than once, with other contents, the newest that had a file comes, unless a pass is named.
WITH page AS (
    SELECT DISTINCT r.base64hash AS hash FROM retentiond.released_media r
    WHERE r.base64hash > $1 AND ($3::bigint IS NULL OR r.pass_id = $3)
      AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
    ORDER BY 1 LIMIT $2
), free AS (
    SELECT p.hash FROM page p
    WHERE NOT EXISTS (SELECT FROM retentiond.entry e
                      WHERE e.hash = p.hash AND (e.claimed_by IS NOT NULL OR e.state IN ('intended', 'purging', 'restoring')))
), marked AS (
    UPDATE retentiond.released_media r SET restoring = $6::jsonb
    FROM free f
    WHERE r.base64hash = f.hash AND ($3::bigint IS NULL OR r.pass_id = $3)
      AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
      AND ($3 IS NOT NULL OR NOT EXISTS (SELECT FROM retentiond.released_media n
                                         WHERE n.media_id = r.media_id AND n.media_origin = r.media_origin
                                           AND n.release_id > r.release_id AND n.had_file))
      AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                      WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
    RETURNING r.base64hash
)
SELECT p.hash, EXISTS (SELECT FROM free f WHERE f.hash = p.hash) AS free,
       EXISTS (SELECT FROM marked m WHERE m.base64hash = p.hash) AS marked
FROM page p ORDER BY p.hash

-- name: lock_copies
-- Locks what the quarantine holds of these contents, so that nothing is claimed between the look and the mark.
SELECT e.entry_id FROM retentiond.entry e
WHERE e.hash IN (SELECT r.base64hash FROM retentiond.released_media r
                 WHERE r.base64hash > $1 AND ($3::bigint IS NULL OR r.pass_id = $3)
                   AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
                 GROUP BY 1 ORDER BY 1 LIMIT $2)
ORDER BY e.entry_id FOR UPDATE

-- name: present_rows
-- Rows of a page of contents that need no bringing back, since their key bears a row.
SELECT r.media_id, r.media_origin FROM retentiond.released_media r
WHERE r.base64hash = ANY ($1::text[]) AND ($2::bigint IS NULL OR r.pass_id = $2)
  AND ($3::text IS NULL OR r.media_id = $3 AND r.media_origin = $4) AND r.restoring IS NULL
  AND EXISTS (SELECT FROM mediaapi_media_repository m
              WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")

-- name: restorers
-- Who has marked rows as being brought back.
SELECT DISTINCT (restoring ->> 'claimant')::integer AS claimant FROM retentiond.released_media WHERE restoring IS NOT NULL

-- name: inherit_restores
-- Takes over a page of contents whose restorer is gone; not those of which somebody has a copy in his hands.
WITH page AS (
    SELECT DISTINCT r.base64hash AS hash FROM retentiond.released_media r
    WHERE r.restoring IS NOT NULL AND (r.restoring ->> 'claimant')::integer = ANY ($1::integer[])
      AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.claimed_by IS NOT NULL)
    ORDER BY 1 LIMIT $2
)
UPDATE retentiond.released_media r SET restoring = jsonb_set(r.restoring, '{claimant}', to_jsonb($3::integer))
FROM page p WHERE r.base64hash = p.hash AND (r.restoring ->> 'claimant')::integer = ANY ($1::integer[])
RETURNING r.base64hash AS hash

-- name: claim_copies
-- Claims what the quarantine holds of these contents, to bring it back. Does every released row of them come?
WITH copy AS (
    SELECT entry_id FROM retentiond.entry
    WHERE hash = ANY ($1::text[]) AND claimed_by IS NULL AND state IN ('quarantined', 'returned')
    ORDER BY entry_id FOR UPDATE SKIP LOCKED
)
UPDATE retentiond.entry e SET claimed_by = $2, state = CASE WHEN e.state = 'quarantined' THEN 'restoring' ELSE e.state END
FROM copy c WHERE e.entry_id = c.entry_id
RETURNING e.entry_id, e.pass_id, e.hash, e.kind, e.state,
    NOT EXISTS (SELECT FROM retentiond.released_media r WHERE r.base64hash = e.hash AND r.restoring IS NULL) AS all_rows

-- name: restorable_hashes
-- The contents of which a file of some marked row's size is at hand; a restore that inserts no row moves no file.
SELECT DISTINCT r.base64hash AS hash
FROM unnest($1::text[], $2::bigint[]) AS f(hash, size)
JOIN retentiond.released_media r ON r.base64hash = f.hash
WHERE (r.restoring ->> 'claimant')::integer = $3 AND (r.file_size_bytes <= 0 OR r.file_size_bytes = f.size)
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")

-- name: restoring_thumbnails
-- The thumbnails of rows that are being brought back.
SELECT r.base64hash AS hash, t.width, t.height, t.resize_method
FROM retentiond.released_media r
CROSS JOIN LATERAL jsonb_to_recordset(r.thumbnails) AS t(width integer, height integer, resize_method text)
WHERE r.restoring IS NOT NULL AND r.base64hash = ANY ($1::text[])

-- name: insert_restored
-- Inserts rows whose whole file stands live (of the row's size, or of any where the row says 0 or less); of two
-- copies of one key the newer. A row that came back meanwhile wins.
WITH live AS (
    SELECT * FROM unnest($1::text[], $2::bigint[]) AS l(hash, size)
), chosen AS (
    SELECT DISTINCT ON (r.media_id, r.media_origin) r.*
    FROM retentiond.released_media r JOIN live l ON l.hash = r.base64hash
    WHERE (r.restoring ->> 'claimant')::integer = $3 AND l.size IS NOT NULL AND (r.file_size_bytes <= 0 OR r.file_size_bytes = l.size)
    ORDER BY r.media_id, r.media_origin, r.release_id DESC
), inserted AS (
    INSERT INTO mediaapi_media_repository (media_id, media_origin, content_type, file_size_bytes, creation_ts,
        upload_name, base64hash, user_id)
    SELECT c.media_id, c.media_origin, c.content_type, c.file_size_bytes, c.creation_ts, c.upload_name, c.base64hash,
        c.user_id
    FROM chosen c
    ON CONFLICT DO NOTHING
    RETURNING media_id, media_origin
)
SELECT c.release_id, c.pass_id, c.media_id, c.media_origin, i.media_id IS NOT NULL AS inserted,
       c.restoring ->> 'by' AS by, c.restoring ->> 'reason' AS reason
FROM chosen c
LEFT JOIN inserted i ON i.media_id = c.media_id COLLATE "default" AND i.media_origin = c.media_origin COLLATE "default"

-- name: insert_restored_thumbnails
-- Inserts the thumbnail rows of rows just inserted whose file stands live, of the row's size.
WITH live AS (
    SELECT * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[])
             AS l(hash, width, height, resize_method, size)
)
INSERT INTO mediaapi_thumbnail (media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height,
    resize_method)
SELECT r.media_id, r.media_origin, t.content_type, t.file_size_bytes, t.creation_ts, t.width, t.height, t.resize_method
FROM retentiond.released_media r
CROSS JOIN LATERAL jsonb_to_recordset(r.thumbnails) AS t(content_type text, file_size_bytes bigint, creation_ts bigint,
    width integer, height integer, resize_method text)
JOIN live l ON l.hash = r.base64hash AND l.width = t.width AND l.height = t.height
           AND l.resize_method = t.resize_method AND l.size = t.file_size_bytes
WHERE r.release_id = ANY ($1::bigint[])
ON CONFLICT DO NOTHING

-- name: mark_restored
-- What was brought back by hand is kept from now on.
INSERT INTO retentiond.restored (media_id, media_origin, until, restored_at, restored_by, reason)
SELECT DISTINCT ON (r.media_id, r.media_origin) r.media_id, r.media_origin, (r.restoring ->> 'until')::timestamptz,
    clock_timestamp(), r.restoring ->> 'by', r.restoring ->> 'reason'
FROM retentiond.released_media r
WHERE r.release_id = ANY ($1::bigint[]) AND r.restoring ? 'by'
ORDER BY r.media_id, r.media_origin, r.release_id DESC
ON CONFLICT (media_id, media_origin) DO UPDATE
SET until = excluded.until, restored_at = excluded.restored_at, restored_by = excluded.restored_by,
    reason = excluded.reason

-- name: end_marks
-- Ends the mark of these media, or of all.
DELETE FROM retentiond.restored r
WHERE $1::text[] IS NULL
   OR EXISTS (SELECT FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
              WHERE k.media_id = r.media_id AND k.media_origin = r.media_origin)
RETURNING r.media_id, r.media_origin

-- name: forget_restored
-- The ledger's copies of rows that are back; of other copies of the same key, too.
DELETE FROM retentiond.released_media r
USING (SELECT media_id, media_origin FROM retentiond.released_media WHERE release_id = ANY ($1::bigint[])) k
WHERE r.media_id = k.media_id AND r.media_origin = k.media_origin AND r.restoring IS NOT NULL

-- name: count_restored
UPDATE retentiond.pass p SET restored_items = p.restored_items + g.items
FROM (SELECT u.pass_id, count(*) AS items FROM unnest($1::bigint[]) AS u(pass_id) GROUP BY 1) g
WHERE p.pass_id = g.pass_id

-- name: not_restored
-- Rows that no whole file stands for stay as they were, and are named.
UPDATE retentiond.released_media SET restoring = NULL
WHERE base64hash = ANY ($1::text[]) AND (restoring ->> 'claimant')::integer = $2
RETURNING media_id, media_origin, base64hash AS hash

-- name: mark_protected
-- Marks the rows of contents that have become protected as being brought back, without keeping them by hand; but for
-- contents that a step under way has.
UPDATE retentiond.released_media r SET restoring = jsonb_build_object('claimant', $2::integer)
WHERE r.base64hash = ANY ($1::text[]) AND r.restoring IS NULL AND NOT r.even_protected
  AND NOT EXISTS (SELECT FROM retentiond.entry e
                  WHERE e.hash = r.base64hash
                    AND (e.claimed_by IS NOT NULL OR e.state IN ('intended', 'purging', 'restoring')))
RETURNING r.base64hash AS hash

-- name: entry_problems
-- What entries could not be worked on for, the most frequent first.
SELECT problem, count(*) AS entries FROM retentiond.entry WHERE problem IS NOT NULL
GROUP BY problem ORDER BY 2 DESC, 1 LIMIT 5

-- name: may_delete
-- Whether this role may do to dendrite's tables what a pass does.
SELECT coalesce(bool_and(has_table_privilege(c.oid, 'SELECT, INSERT') AND has_table_privilege(c.oid, 'DELETE')
                         AND has_table_privilege(c.oid, 'UPDATE')), false)
FROM pg_class c
WHERE c.oid IN (to_regclass('mediaapi_media_repository'), to_regclass('mediaapi_thumbnail'))

-- name: owns_media
-- Whether this role may make an index on dendrite's media table.
SELECT pg_has_role(c.relowner, 'USAGE') FROM pg_class c WHERE c.oid = to_regclass('mediaapi_media_repository')
