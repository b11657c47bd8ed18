-- The way on where database and disk do not fit.

-- name: sample_contents
-- Contents that rows bear, by chance: is this the disk that has them?
SELECT base64hash AS hash FROM mediaapi_media_repository ORDER BY random() LIMIT $1

-- name: ids_above
-- The ids of new entries shall be above all that lie on the disk.
SELECT setval(pg_get_serial_sequence('retentiond.entry', 'entry_id'),
              greatest($1, (SELECT coalesce(max(entry_id), 1) FROM retentiond.entry),
                       nextval(pg_get_serial_sequence('retentiond.entry', 'entry_id'))))

-- name: new_ids
-- As many ids of entries as are asked for.
SELECT nextval(pg_get_serial_sequence('retentiond.entry', 'entry_id')) AS entry_id FROM generate_series(1, $1::integer)

-- name: taken_ids
-- Which of these ids the ledger has given to an entry.
SELECT entry_id FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[])

-- name: take_in
-- Takes what lies on the disk into the ledger, as entries without rows. Their grace is over when somebody ends it: a
-- date that has no end could not be shown.
INSERT INTO retentiond.entry (entry_id, pass_id, hash, kind, state, files, bytes, settle, renamed_at, grace_until)
OVERRIDING SYSTEM VALUE
SELECT e.entry_id, e.pass_id, e.hash, e.kind, e.state, e.files, e.bytes, $1::interval, clock_timestamp(),
       timestamptz '9000-01-01 UTC'
FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::bigint[])
     AS e(entry_id, pass_id, hash, kind, state, files, bytes)

-- name: entries_page
-- A page of what lies in quarantine, as the ledger has it.
SELECT entry_id, pass_id, hash, state FROM retentiond.entry
WHERE state IN ('quarantined', 'returned') AND entry_id > $1
ORDER BY entry_id LIMIT $2

-- name: claim_entries
-- The same, claimed.
UPDATE retentiond.entry SET claimed_by = $3
WHERE entry_id IN (SELECT entry_id FROM retentiond.entry
                   WHERE state IN ('quarantined', 'returned') AND claimed_by IS NULL AND entry_id > $1
                   ORDER BY entry_id LIMIT $2 FOR UPDATE SKIP LOCKED)
RETURNING entry_id, pass_id, hash, state

-- name: begin_graces_anew
-- By a clock that was wrong nobody knows what is over: each grace begins now.
UPDATE retentiond.released_media
SET grace_until = clock_timestamp() + (grace_until - released_at), released_at = least(released_at, clock_timestamp())

-- name: begin_settles_anew
-- The same for entries, and for the grace of those that have no rows; the others shall go on having none.
UPDATE retentiond.entry
SET renamed_at = clock_timestamp(), looked_at = NULL,
    grace_until = CASE WHEN grace_until IS NOT NULL THEN greatest(grace_until, clock_timestamp() + $1::interval) END
WHERE renamed_at IS NOT NULL

-- name: begin_graces_of_thumbnails_anew
UPDATE retentiond.released_thumbnail
SET grace_until = clock_timestamp() + (grace_until - released_at), released_at = least(released_at, clock_timestamp())

-- name: begin_graces_of_thumbnails_alone_anew
UPDATE retentiond.thumbnail_release
SET grace_until = clock_timestamp() + (grace_until - released_at), released_at = least(released_at, clock_timestamp())
