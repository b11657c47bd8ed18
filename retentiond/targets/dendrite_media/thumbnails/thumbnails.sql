-- Statements that take thumbnails and leave their media, and that bring them back.

-- name: keep_with_old_thumbnails
-- Leaves as due only the rows that have a thumbnail old enough: $1 and $2, the believable dates; $3, the newest date
-- that each policy takes, by its number from 1.
DELETE FROM pg_temp.due d
WHERE NOT EXISTS (SELECT FROM mediaapi_thumbnail t
                  WHERE t.media_id = d.media_id COLLATE "default" AND t.media_origin = d.media_origin COLLATE "default"
                    AND t.creation_ts BETWEEN $1 AND least($2, ($3::bigint[])[d.policy + 1]))

-- name: make_gone_thumbnails
-- In a plan: the thumbnail rows that policies would have taken, and whether the file would have left with them. Nothing
-- is in it in a pass.
CREATE TEMPORARY TABLE IF NOT EXISTS gone_thumbnail (
    hash text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    resize_method text COLLATE "C" NOT NULL,
    freed boolean NOT NULL DEFAULT false,
    PRIMARY KEY (media_id, media_origin, width, height, resize_method)
)

-- name: index_gone_thumbnails
CREATE INDEX IF NOT EXISTS gone_thumbnail_by_hash ON pg_temp.gone_thumbnail (hash)

-- name: note_gone_thumbnails
-- In a plan: the thumbnail rows of these media that are old enough.
INSERT INTO pg_temp.gone_thumbnail (hash, media_id, media_origin, width, height, resize_method)
SELECT k.hash, t.media_id, t.media_origin, t.width, t.height, t.resize_method
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[]) AS k(media_id, media_origin, before, hash)
JOIN mediaapi_thumbnail t ON t.media_id = k.media_id AND t.media_origin = k.media_origin
WHERE t.creation_ts BETWEEN $5 AND k.before

-- name: free_thumbnails
-- In a plan: which thumbnails of these contents no row would know any more, since this batch.
WITH known AS MATERIALIZED (
    SELECT DISTINCT m.base64hash AS hash, t.width, t.height, t.resize_method
    FROM mediaapi_media_repository m
    JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
    WHERE m.base64hash COLLATE "C" = ANY ($1::text[])
      AND NOT EXISTS (SELECT FROM pg_temp.gone g WHERE g.media_id = m.media_id COLLATE "C"
                                                   AND g.media_origin = m.media_origin COLLATE "C")
      AND NOT EXISTS (SELECT FROM pg_temp.gone_thumbnail g
                      WHERE g.media_id = t.media_id COLLATE "C" AND g.media_origin = t.media_origin COLLATE "C"
                        AND g.width = t.width AND g.height = t.height AND g.resize_method = t.resize_method COLLATE "C")
)
UPDATE pg_temp.gone_thumbnail g SET freed = true
WHERE g.hash = ANY ($1::text[]) AND NOT g.freed
  AND NOT EXISTS (SELECT FROM known k WHERE k.hash COLLATE "C" = g.hash AND k.width = g.width AND k.height = g.height
                                        AND k.resize_method COLLATE "C" = g.resize_method)
RETURNING g.hash, g.width, g.height, g.resize_method

-- name: freed_of
-- Which thumbnails of these contents a plan has freed already.
SELECT DISTINCT hash, width, height, resize_method FROM pg_temp.gone_thumbnail
WHERE hash = ANY ($1::text[]) AND freed

-- name: release_thumbnails
-- Copies old thumbnail rows of these media into the ledger and deletes them; the media rows stay.
WITH key AS (
    SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $9::text[])
        AS k(media_id, media_origin, policy, before, hash, facts)
), gone AS (
    DELETE FROM mediaapi_thumbnail t USING key k
    WHERE t.media_id = k.media_id AND t.media_origin = k.media_origin AND t.creation_ts BETWEEN $7 AND k.before
    RETURNING t.*, k.policy, k.hash, k.facts
), copied AS (
    INSERT INTO retentiond.thumbnail_release (pass_id, policy, released_at, grace_until, facts, media_id, media_origin,
        base64hash, thumbnails)
    SELECT $1, g.policy, clock_timestamp(), clock_timestamp() + $8::interval, g.facts::jsonb, g.media_id, g.media_origin,
        g.hash,
        jsonb_agg(jsonb_build_object(
            'content_type', g.content_type, 'file_size_bytes', g.file_size_bytes, 'creation_ts', g.creation_ts,
            'width', g.width, 'height', g.height, 'resize_method', g.resize_method))
    FROM gone g GROUP BY g.policy, g.facts, g.media_id, g.media_origin, g.hash
    RETURNING jsonb_array_length(thumbnails) AS thumbnails
)
SELECT g.media_id, g.media_origin, g.hash, g.width, g.height, g.resize_method, g.file_size_bytes,
       (SELECT sum(c.thumbnails) FROM copied c) AS copied
FROM gone g

-- name: record_thumbnails
-- Records the intent to quarantine thumbnails of contents that stay, claimed by us.
INSERT INTO retentiond.entry (pass_id, hash, kind, state, claimed_by, files, bytes, settle)
SELECT $1, h.hash, 'thumbnails', 'intended', $2, h.files, h.bytes, $3::interval
FROM unnest($4::text[], $5::integer[], $6::bigint[]) AS h(hash, files, bytes)
ORDER BY h.hash COLLATE "C"
RETURNING entry_id, hash, bytes

-- name: take_back_thumbnail_rows
-- Inserts the thumbnail rows that a pass released with a content ($1, $2; $3: why they are back), and forgets the
-- ledger's copies of those whose medium still has a row.
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
    CROSS JOIN LATERAL jsonb_to_recordset(b.thumbnails) AS t(content_type text, file_size_bytes bigint,
        creation_ts bigint, width integer, height integer, resize_method text)
    ON CONFLICT DO NOTHING
)
SELECT b.pass_id, b.policy, b.media_id, b.media_origin, b.base64hash AS hash, b.reason, NULL::text AS by FROM back b

-- name: forget_thumbnails
-- Forgets the ledger's copies of thumbnail rows whose grace is over, and of whose files nothing is in quarantine.
DELETE FROM retentiond.thumbnail_release r
WHERE r.grace_until <= statement_timestamp() AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'thumbnails')

-- name: thumbnail_page
-- Released thumbnails that can be brought back, a page by release.
SELECT r.release_id, r.pass_id, r.policy, r.released_at, r.grace_until, r.media_id, r.media_origin, r.facts,
       (SELECT least(coalesce(sum(greatest((t ->> 'file_size_bytes')::bigint, 0)), 0), 9223372036854775807)::bigint
        FROM jsonb_array_elements(r.thumbnails) t) AS bytes
FROM retentiond.thumbnail_release r
WHERE r.release_id > $1
ORDER BY r.release_id
LIMIT $2

-- name: mark_thumbnails
-- Marks a page of contents whose thumbnails are to be brought back: by pass, by key, or all; $6: who does it.
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

-- name: thumbnail_restorers
SELECT DISTINCT (restoring ->> 'claimant')::integer AS claimant FROM retentiond.thumbnail_release
WHERE restoring IS NOT NULL

-- name: inherit_thumbnail_restores
-- Takes over what those had marked who are gone.
UPDATE retentiond.thumbnail_release SET restoring = jsonb_set(restoring, '{claimant}', to_jsonb($2::integer))
WHERE release_id IN (SELECT release_id FROM retentiond.thumbnail_release
                     WHERE (restoring ->> 'claimant')::integer = ANY ($1::integer[]) ORDER BY release_id LIMIT $3)
RETURNING base64hash AS hash

-- name: claim_thumbnail_copies
-- Claims what the quarantine holds of these contents' thumbnails.
UPDATE retentiond.entry e SET claimed_by = $2
WHERE e.entry_id IN (SELECT entry_id FROM retentiond.entry
                     WHERE hash = ANY ($1::text[]) AND kind = 'thumbnails' AND claimed_by IS NULL AND state = 'quarantined'
                     ORDER BY entry_id FOR UPDATE SKIP LOCKED)
RETURNING e.entry_id, e.pass_id, e.hash

-- name: marked_thumbnails
-- Which thumbnails are to be brought back.
SELECT r.base64hash AS hash, t.width, t.height, t.resize_method
FROM retentiond.thumbnail_release r
CROSS JOIN LATERAL jsonb_to_recordset(r.thumbnails) AS t(width integer, height integer, resize_method text)
WHERE (r.restoring ->> 'claimant')::integer = $2 AND r.base64hash = ANY ($1::text[])

-- name: insert_thumbnails
-- Inserts the marked thumbnail rows of media that are there, whose file stands live, of the row's size. A row that
-- dendrite made meanwhile wins.
WITH live AS (
    SELECT * FROM unnest($2::text[], $3::integer[], $4::integer[], $5::text[], $6::bigint[])
             AS l(hash, width, height, resize_method, size)
), wanted AS (
    SELECT r.release_id, r.media_id, r.media_origin, t.*
    FROM retentiond.thumbnail_release r
    CROSS JOIN LATERAL jsonb_to_recordset(r.thumbnails) AS t(content_type text, file_size_bytes bigint,
        creation_ts bigint, width integer, height integer, resize_method text)
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

-- name: keep_restored_thumbnails
-- What was brought back by hand is kept from now on, the medium with it.
INSERT INTO retentiond.restored (media_id, media_origin, until, restored_at, restored_by, reason)
SELECT DISTINCT ON (r.media_id, r.media_origin) r.media_id, r.media_origin, (r.restoring ->> 'until')::timestamptz,
    clock_timestamp(), r.restoring ->> 'by', r.restoring ->> 'reason'
FROM retentiond.thumbnail_release r
WHERE r.release_id = ANY ($1::bigint[]) AND r.restoring ? 'by'
ORDER BY r.media_id, r.media_origin, r.release_id DESC
ON CONFLICT (media_id, media_origin) DO UPDATE
SET until = excluded.until, restored_at = excluded.restored_at, restored_by = excluded.restored_by,
    reason = excluded.reason

-- name: forget_restored_thumbnails
DELETE FROM retentiond.thumbnail_release r WHERE r.release_id = ANY ($1::bigint[])
RETURNING r.media_id, r.media_origin, r.pass_id, r.restoring ->> 'by' AS by, r.restoring ->> 'reason' AS reason

-- name: not_restored_thumbnails
-- Those for which no file or no medium stands stay as they were, and are named.
UPDATE retentiond.thumbnail_release SET restoring = NULL
WHERE base64hash = ANY ($1::text[]) AND (restoring ->> 'claimant')::integer = $2
RETURNING media_id, media_origin, base64hash AS hash
