-- Every write to the tables of released rows, and to those of shared blobs and of marks; sent by released_rows.py. What is
-- done to media rows and to thumbnail rows that were released alone is written once: {released} is one of their tables,
-- {kind} that of their entries.

-- name: release
-- Copies rows into the ledger and deletes them; the counts must agree. A media row leaves with its thumbnail rows; of a
-- media item with a date in `before` only the thumbnail rows made between $9 and that date leave, and they are returned,
-- one a row beside the counts.
WITH key AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[])
        WITH ORDINALITY AS k(media_id, media_origin, policy, hash, file_bytes, before, facts, number)
), gone_thumbnail AS (
    DELETE FROM mediaapi_thumbnail t USING key k
    WHERE t.media_id = k.media_id AND t.media_origin = k.media_origin
      AND (k.before IS NULL OR t.creation_ts BETWEEN $9 AND k.before)
    RETURNING t.*, k.hash, k.before, k.number
), gone_media AS (
    DELETE FROM mediaapi_media_repository m USING key k
    WHERE m.media_id = k.media_id AND m.media_origin = k.media_origin AND k.before IS NULL
    RETURNING m.*, k.policy, k.file_bytes, k.facts, k.number
), thumbnails AS (
    SELECT t.number, array_agg(ROW(t.content_type, t.file_size_bytes, t.creation_ts, t.width, t.height,
                                   t.resize_method)::retentiond.thumbnail_copy) AS copied
    FROM gone_thumbnail t GROUP BY t.number
), copied AS (
    INSERT INTO retentiond.released_media (pass_id, policy, released_at, grace_until, even_protected, had_file, file_bytes, facts,
        media_id, media_origin, content_type, file_size_bytes, creation_ts, upload_name, base64hash, user_id, thumbnails)
    SELECT $1, m.policy, clock_timestamp(), clock_timestamp() + $10::interval, $11, m.file_bytes IS NOT NULL, m.file_bytes, m.facts::jsonb,
        m.media_id, m.media_origin, m.content_type, m.file_size_bytes, m.creation_ts, m.upload_name, m.base64hash, m.user_id,
        coalesce(t.copied, '{}')
    -- A left join in effect; but a full one is never a nested loop, which a few expected rows would make it.
    FROM gone_media m FULL JOIN thumbnails t ON t.number = m.number
    WHERE coalesce(m.number, 0) > 0
    RETURNING cardinality(thumbnails) AS thumbnails
), copied_alone AS (
    INSERT INTO retentiond.thumbnail_release (pass_id, policy, released_at, grace_until, facts, media_id, media_origin,
        base64hash, thumbnails)
    SELECT $1, k.policy, clock_timestamp(), clock_timestamp() + $10::interval, k.facts::jsonb, k.media_id, k.media_origin,
        k.hash, t.copied
    FROM key k FULL JOIN thumbnails t ON t.number = k.number
    WHERE coalesce(k.before + t.number, 0) <> 0
    RETURNING cardinality(thumbnails) AS thumbnails
)
SELECT c.*, g.media_id, g.media_origin, g.hash, g.width, g.height, g.resize_method, g.file_size_bytes
FROM (SELECT (SELECT count(*) FROM gone_media) AS media, (SELECT count(*) FROM copied) AS media_copied,
             (SELECT count(*) FROM gone_thumbnail) AS thumbnails,
             (SELECT coalesce(sum(a.thumbnails), 0) FROM (SELECT thumbnails FROM copied
                                                          UNION ALL SELECT thumbnails FROM copied_alone) a) AS thumbnails_copied) c
LEFT JOIN gone_thumbnail g ON g.before IS NOT NULL

-- name: note_shared
-- Records the blobs of which some rows were released while others stay: their thumbnails may become strays.
INSERT INTO retentiond.shared_blob (hash, pass_id, noted_at, settle)
SELECT h.hash, $1, clock_timestamp(), $2::interval
FROM unnest($3::text[]) AS h(hash)
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)
ON CONFLICT (hash) DO UPDATE SET noted_at = excluded.noted_at

-- name: forget_shared
DELETE FROM retentiond.shared_blob WHERE hash = ANY ($1::text[]) AND noted_at < clock_timestamp() - interval '1 hour'

-- name: release_orphan_thumbnails
-- Copies thumbnail rows without a media row into the ledger and deletes them.
WITH gone AS (
    DELETE FROM mediaapi_thumbnail t
    USING unnest($4::text[], $5::text[], $6::integer[], $7::integer[], $8::text[], $9::bigint[])
          AS k(media_id, media_origin, width, height, resize_method, size)
    WHERE t.media_id = k.media_id AND t.media_origin = k.media_origin AND t.width = k.width AND t.height = k.height
      AND t.resize_method = k.resize_method AND t.file_size_bytes = k.size
      AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                      WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin)
    RETURNING t.*
)
INSERT INTO retentiond.released_thumbnail (pass_id, finding, released_at, grace_until, media_id, media_origin,
    content_type, file_size_bytes, creation_ts, width, height, resize_method)
SELECT $1, $2, clock_timestamp(), clock_timestamp() + $3::interval, g.media_id, g.media_origin, g.content_type,
       g.file_size_bytes, g.creation_ts, g.width, g.height, g.resize_method
FROM gone g
RETURNING media_id, media_origin, width, height, resize_method, file_size_bytes

-- name: release_dead_thumbnails
-- The same for thumbnail rows of a blob whose file is missing or of another size: the media row still has that blob.
WITH gone AS (
    DELETE FROM mediaapi_thumbnail t
    USING unnest($4::text[], $5::text[], $6::integer[], $7::integer[], $8::text[], $9::bigint[], $10::text[])
          AS k(media_id, media_origin, width, height, resize_method, size, hash)
    WHERE t.media_id = k.media_id AND t.media_origin = k.media_origin AND t.width = k.width AND t.height = k.height
      AND t.resize_method = k.resize_method AND t.file_size_bytes = k.size
      AND EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = t.media_id AND m.media_origin = t.media_origin
                    AND m.base64hash COLLATE "C" = k.hash)
    RETURNING t.*
)
INSERT INTO retentiond.released_thumbnail (pass_id, finding, released_at, grace_until, media_id, media_origin,
    content_type, file_size_bytes, creation_ts, width, height, resize_method)
SELECT $1, $2, clock_timestamp(), clock_timestamp() + $3::interval, g.media_id, g.media_origin, g.content_type,
       g.file_size_bytes, g.creation_ts, g.width, g.height, g.resize_method
FROM gone g
RETURNING media_id, media_origin, width, height, resize_method, file_size_bytes

-- name: select_to_restore
-- Marks a page of released rows as being restored: by pass, by key, or all, one blob after another; not those whose
-- key has a row again, nor those of a blob in use by a live claim owner. `stuck`: a purge failed on the disk, and so
-- did its way back. Of a key that was released more than once, with other blobs, the newest one with a file is
-- restored, unless a pass is named.
WITH page AS (
    SELECT DISTINCT h.hash
    FROM (SELECT r.base64hash AS hash FROM retentiond.released_media r
          WHERE r.base64hash > $1 AND ($3::bigint IS NULL OR r.pass_id = $3)
            AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
          ORDER BY 1 LIMIT $2) h
), free AS (
    SELECT p.hash FROM page p
    WHERE NOT EXISTS (SELECT FROM retentiond.entry e
                      WHERE e.hash = p.hash AND (e.claimed_by IS NOT NULL OR e.state = 'purging'))
), marked AS (
    UPDATE retentiond.released_media r SET restoring = $6::jsonb
    FROM free f
    WHERE r.base64hash = f.hash AND ($3::bigint IS NULL OR r.pass_id = $3)
      AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
      AND ($3 IS NOT NULL OR NOT EXISTS (SELECT FROM retentiond.released_media n
                                         WHERE n.media_id = r.media_id AND n.media_origin = r.media_origin
                                           AND n.release_id > r.release_id AND n.had_file))
      -- OFFSET: asked row by row, by dendrite's index; a join would read its whole table for each page.
      AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                      WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default"
                      OFFSET 0)
    RETURNING r.base64hash
)
SELECT p.hash, EXISTS (SELECT FROM free f WHERE f.hash = p.hash) AS free,
       EXISTS (SELECT FROM retentiond.entry e
               WHERE e.hash = p.hash AND e.claimed_by IS NULL AND e.state = 'purging') AS stuck,
       EXISTS (SELECT FROM marked m WHERE m.base64hash = p.hash) AS marked
FROM page p ORDER BY p.hash

-- name: mark_protected
-- Marks the rows of blobs that have become protected as being restored, without keeping them by hand; not those of
-- blobs in a running step.
UPDATE retentiond.released_media r SET restoring = jsonb_build_object('claimant', $2::integer)
WHERE r.base64hash = ANY ($1::text[]) AND r.restoring IS NULL AND NOT r.even_protected
  AND NOT EXISTS (SELECT FROM retentiond.entry e
                  WHERE e.hash = r.base64hash
                    AND (e.claimed_by IS NOT NULL OR e.state IN ('intended', 'purging', 'restoring')))
RETURNING r.base64hash AS hash

-- name: mark_refuted
-- Marks rows as being restored, without keeping them by hand; not those of blobs in a running step.
UPDATE {released} r SET restoring = jsonb_build_object('claimant', $2::integer)
WHERE r.release_id = ANY ($1::bigint[]) AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.entry e
                  WHERE e.hash = r.base64hash
                    AND (e.claimed_by IS NOT NULL OR e.state IN ('intended', 'purging', 'restoring')))
RETURNING r.base64hash AS hash

-- name: mark_held
-- Marks held rows as being restored, without keeping them by hand; not those of blobs in a running step.
UPDATE retentiond.released_media k SET restoring = jsonb_build_object('claimant', $2::integer)
WHERE k.base64hash = ANY ($1::text[]) AND k.had_file AND k.restoring IS NULL AND {held}
  AND NOT EXISTS (SELECT FROM retentiond.entry e
                  WHERE e.hash = k.base64hash
                    AND (e.claimed_by IS NOT NULL OR e.state IN ('intended', 'purging', 'restoring')))
RETURNING k.base64hash AS hash

-- name: inherit_restores
-- Takes over a page of blobs whose restorer is dead; not those of which a copy is claimed.
WITH page AS (
    SELECT DISTINCT r.base64hash AS hash FROM {released} r
    WHERE r.restoring IS NOT NULL AND (r.restoring ->> 'claimant')::integer = ANY ($1::integer[])
      AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.claimed_by IS NOT NULL)
    ORDER BY 1 LIMIT $2
)
UPDATE {released} r SET restoring = jsonb_set(r.restoring, '{claimant}', to_jsonb($3::integer))
FROM page p WHERE r.base64hash = p.hash AND (r.restoring ->> 'claimant')::integer = ANY ($1::integer[])
RETURNING r.base64hash AS hash

-- name: rows_to_take_back
-- The rows that a pass released with a blob ($1, $2; $3: why they are taken back), unless a copy of the blob was quarantined
-- after that release.
SELECT r.release_id, e.reason
FROM unnest($1::bigint[], $2::text[], $3::text[]) AS e(pass_id, hash, reason)
JOIN retentiond.released_media r ON r.base64hash = e.hash AND r.pass_id = e.pass_id
WHERE r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.entry o
                  WHERE o.hash = r.base64hash AND o.kind = 'blob' AND o.renamed_at >= r.released_at)
ORDER BY r.release_id FOR UPDATE OF r

-- name: rows_to_restore
-- The marked rows whose whole live file exists (of the row's size, or of any if the row says 0 or less).
SELECT r.release_id
FROM unnest($1::text[], $2::bigint[]) AS l(hash, size)
JOIN retentiond.released_media r ON r.base64hash = l.hash
WHERE (r.restoring ->> 'claimant')::integer = $3
  AND l.size IS NOT NULL AND (r.file_size_bytes <= 0 OR r.file_size_bytes = l.size)
ORDER BY r.release_id FOR UPDATE OF r

-- name: insert_restored
-- Inserts the rows of these releases ($1; $2: the reason, if no mark has one); of two of one key the newer. A row
-- that was inserted meanwhile stays as it is.
WITH chosen AS (
    SELECT DISTINCT ON (r.media_id, r.media_origin) r.*, coalesce(r.restoring ->> 'reason', g.reason) AS reason
    FROM unnest($1::bigint[], $2::text[]) AS g(release_id, reason)
    JOIN retentiond.released_media r ON r.release_id = g.release_id
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
SELECT c.release_id, c.pass_id, c.policy, c.media_id, c.media_origin, c.base64hash AS hash,
       i.media_id IS NOT NULL AS inserted, c.restoring ->> 'by' AS by, c.reason
FROM chosen c
LEFT JOIN inserted i ON i.media_id = c.media_id COLLATE "default" AND i.media_origin = c.media_origin COLLATE "default"

-- name: insert_restored_thumbnails
-- Inserts the thumbnail rows of rows just inserted: those with a live file of the row's size, or all of them ($7), if
-- no file had left.
INSERT INTO mediaapi_thumbnail (media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height,
    resize_method)
SELECT r.media_id, r.media_origin, t.content_type, t.file_size_bytes, t.creation_ts, t.width, t.height, t.resize_method
FROM retentiond.released_media r
CROSS JOIN LATERAL unnest(r.thumbnails) AS t
LEFT JOIN unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[])
          AS l(hash, width, height, resize_method, size)
       ON l.hash = r.base64hash AND l.width = t.width AND l.height = t.height
      AND l.resize_method = t.resize_method AND l.size = t.file_size_bytes
WHERE r.release_id = ANY ($1::bigint[]) AND ($7 OR l.hash IS NOT NULL)
ON CONFLICT DO NOTHING

-- name: mark_restored
-- Items restored by hand are kept from now on, the media item with its thumbnails.
INSERT INTO retentiond.restored (media_id, media_origin, until, restored_at, restored_by, reason)
SELECT DISTINCT ON (r.media_id, r.media_origin) r.media_id, r.media_origin, (r.restoring ->> 'until')::timestamptz,
    clock_timestamp(), r.restoring ->> 'by', r.restoring ->> 'reason'
FROM {released} r
WHERE r.release_id = ANY ($1::bigint[]) AND r.restoring ? 'by'
ORDER BY r.media_id, r.media_origin, r.release_id DESC
ON CONFLICT (media_id, media_origin) DO UPDATE
SET until = excluded.until, restored_at = excluded.restored_at, restored_by = excluded.restored_by,
    reason = excluded.reason

-- name: forget_restored
-- Deletes the copies of these rows if the row is in the table, and other copies of their keys that were to be
-- restored, too. A trigger, or another unique index, may have dropped a row without an error: then the copy is the
-- only one.
DELETE FROM retentiond.released_media r
USING (SELECT media_id, media_origin FROM retentiond.released_media WHERE release_id = ANY ($1::bigint[])) k
WHERE r.media_id = k.media_id AND r.media_origin = k.media_origin
  AND (r.release_id = ANY ($1::bigint[]) OR r.restoring IS NOT NULL)
  AND EXISTS (SELECT FROM mediaapi_media_repository m
              WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
RETURNING r.release_id

-- name: not_restored
-- Rows without a file, and thumbnails without a media row, stay as they were, and are returned.
UPDATE {released} SET restoring = NULL
WHERE base64hash = ANY ($1::text[]) AND (restoring ->> 'claimant')::integer = $2
RETURNING media_id, media_origin, base64hash AS hash

-- name: end_marks
-- Ends the mark of these media, or of all.
DELETE FROM retentiond.restored r
WHERE $1::text[] IS NULL
   OR EXISTS (SELECT FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
              WHERE k.media_id = r.media_id AND k.media_origin = r.media_origin)
RETURNING r.media_id, r.media_origin

-- name: mark_thumbnails
-- Marks a page of blobs whose thumbnails are to be restored: by pass, by key, or all; $6: the claim owner.
WITH page AS (
    SELECT DISTINCT r.base64hash AS hash FROM retentiond.thumbnail_release r
    WHERE r.base64hash > $1 AND ($3::bigint IS NULL OR r.pass_id = $3)
      AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
    ORDER BY 1 LIMIT $2
), marked AS (
    UPDATE retentiond.thumbnail_release r SET restoring = $6::jsonb
    FROM page p
    WHERE r.base64hash = p.hash AND r.restoring IS NULL AND ($3::bigint IS NULL OR r.pass_id = $3)
      AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
    RETURNING r.release_id
)
SELECT p.hash, (SELECT count(*) FROM marked) AS marked FROM page p ORDER BY p.hash

-- name: take_back_thumbnail_rows
-- Inserts the thumbnail rows that a pass released with a blob ($1, $2; $3: the reason), and deletes the ledger's
-- copies of those whose media item still has a row.
WITH back AS (
    DELETE FROM retentiond.thumbnail_release r
    USING unnest($1::bigint[], $2::text[], $3::text[]) AS e(pass_id, hash, reason)
    WHERE r.pass_id = e.pass_id AND r.base64hash = e.hash AND r.restoring IS NULL
      AND EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default"
                    AND m.base64hash COLLATE "C" = r.base64hash)
    RETURNING r.pass_id, r.policy, r.media_id, r.media_origin, r.base64hash, r.thumbnails, e.reason
), inserted AS (
    INSERT INTO mediaapi_thumbnail (media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height,
        resize_method)
    SELECT b.media_id, b.media_origin, t.content_type, t.file_size_bytes, t.creation_ts, t.width, t.height,
        t.resize_method
    FROM back b
    CROSS JOIN LATERAL unnest(b.thumbnails) AS t
    ON CONFLICT DO NOTHING
)
SELECT b.pass_id, b.policy, b.media_id, b.media_origin, b.base64hash AS hash, b.reason, NULL::text AS by FROM back b

-- name: insert_thumbnails
-- Inserts the marked thumbnail rows of existing media, with a live file of the row's size. A row that dendrite made
-- meanwhile wins.
WITH live AS (
    SELECT * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[])
             AS l(hash, width, height, resize_method, size)
), wanted AS (
    SELECT r.release_id, r.media_id, r.media_origin, t.*
    FROM retentiond.thumbnail_release r
    CROSS JOIN LATERAL unnest(r.thumbnails) AS t
    JOIN live l ON l.hash = r.base64hash AND l.width = t.width AND l.height = t.height
               AND l.resize_method = t.resize_method AND l.size = t.file_size_bytes
    WHERE (r.restoring ->> 'claimant')::integer = $1
      AND EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default"
                    AND m.base64hash COLLATE "C" = r.base64hash)
), inserted AS (
    INSERT INTO mediaapi_thumbnail (media_id, media_origin, content_type, file_size_bytes, creation_ts, width, height,
        resize_method)
    SELECT w.media_id, w.media_origin, w.content_type, w.file_size_bytes, w.creation_ts, w.width, w.height,
        w.resize_method
    FROM wanted w
    ON CONFLICT DO NOTHING
)
SELECT DISTINCT w.release_id FROM wanted w

-- name: forget_restored_thumbnails
DELETE FROM retentiond.thumbnail_release r WHERE r.release_id = ANY ($1::bigint[])
RETURNING r.media_id, r.media_origin, r.pass_id, r.restoring ->> 'by' AS by, r.restoring ->> 'reason' AS reason

-- name: grace_not_given_back
-- The rows whose grace was ended by hand, still. A grace ends no earlier than the settle: until then all can be
-- restored, and the lists show when it is over. The first grace is kept, however often it is ended.
SELECT count(*) FROM retentiond.released_media WHERE grace_before IS NOT NULL

-- name: end_grace
-- `quarantine purge --yes`, of rows: $1 is the settle of those whose file stays, since another row has it.
UPDATE {released} r
SET grace_before = coalesce(grace_before, grace_until),
    grace_until = least(grace_until, greatest(
        clock_timestamp(),
        coalesce((SELECT max(e.renamed_at + e.settle) FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = '{kind}'),
                 released_at + $1::interval)))
WHERE grace_until > clock_timestamp()

-- name: end_grace_of_thumbnails
UPDATE retentiond.released_thumbnail
SET grace_before = coalesce(grace_before, grace_until),
    grace_until = least(grace_until, greatest(clock_timestamp(), released_at + $1::interval))
WHERE grace_until > clock_timestamp()

-- name: give_back_grace
-- Then of the rows, except those of blobs in a running step.
WITH back AS (
    UPDATE {released} r SET grace_until = r.grace_before, grace_before = NULL
    WHERE r.grace_before IS NOT NULL
      AND NOT EXISTS (SELECT FROM retentiond.entry e
                      WHERE e.hash = r.base64hash AND e.kind = '{kind}'
                        AND (e.claimed_by IS NOT NULL OR e.state = 'purging'))
    RETURNING r.grace_until
)
SELECT count(*) AS items, max(grace_until) AS until FROM back

-- name: give_back_grace_of_thumbnails
UPDATE retentiond.released_thumbnail SET grace_until = grace_before, grace_before = NULL WHERE grace_before IS NOT NULL

-- name: shorten_grace
-- Ends the grace of rows of the oldest entries, until their bytes are enough; returns the number of blobs.
WITH oldest AS (
    SELECT DISTINCT o.hash FROM ({oldest}) o
), of_media AS (
    UPDATE retentiond.released_media r SET grace_until = clock_timestamp()
    FROM oldest o
    WHERE r.base64hash = o.hash AND r.grace_until > clock_timestamp() AND r.restoring IS NULL
    RETURNING r.base64hash AS hash
), of_thumbnails AS (
    UPDATE retentiond.thumbnail_release r SET grace_until = clock_timestamp()
    FROM oldest o
    WHERE r.base64hash = o.hash AND r.grace_until > clock_timestamp() AND r.restoring IS NULL
    RETURNING r.base64hash AS hash
)
SELECT count(DISTINCT s.hash) FROM (SELECT hash FROM of_media UNION ALL SELECT hash FROM of_thumbnails) s

-- name: put_off_graces
-- Graces that were not over at the beginning of a gap, in which it is not known how much time has passed, end so much later.
UPDATE {released} SET grace_until = grace_until + ($2::timestamptz - greatest($1::timestamptz, released_at))
WHERE grace_until > $1 AND released_at < $2

-- name: begin_graces_anew
-- After a wrong clock no end is known: each grace begins now.
UPDATE {released}
SET grace_until = clock_timestamp() + (grace_until - released_at), released_at = least(released_at, clock_timestamp())

-- name: forget_rows
-- Deletes the ledger's copies of rows whose grace is over and whose blob is not in quarantine any more. The index on
-- graces must not be chosen: all rows may be over.
DELETE FROM retentiond.released_media r
WHERE r.base64hash = ANY ($1::text[]) AND (r.grace_until <= statement_timestamp()) IS TRUE AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash)

-- name: forget_rows_without_entry
-- Deletes those of these rows that still have no entry and no hold.
DELETE FROM retentiond.released_media k WHERE k.release_id = ANY ($1::bigint[]) AND {without_entry}

-- name: forget_thumbnails
-- Deletes the copies of thumbnail rows whose grace is over.
DELETE FROM retentiond.released_thumbnail WHERE grace_until <= statement_timestamp()

-- name: forget_thumbnails_alone
-- Deletes the ledger's copies of thumbnail rows whose grace is over, and whose files are not in quarantine.
DELETE FROM retentiond.thumbnail_release r
WHERE r.grace_until <= statement_timestamp() AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'thumbnails')
