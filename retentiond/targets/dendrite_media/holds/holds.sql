-- The items that the holds in force keep. {hold_media} and {hold_member} are the ledger's tables, or a plan's own
-- copies of them.

-- name: held
-- A condition: is a hold on the row `k`, by its key, its server, its uploader, or as a member of a held room has
-- either? It is inserted into other statements.
(EXISTS (SELECT FROM {hold_media} x JOIN retentiond.hold_in_force h ON h.hold_id = x.hold_id
         WHERE x.media_id = k.media_id COLLATE "C" AND x.media_origin = k.media_origin COLLATE "C")
 OR EXISTS (SELECT FROM retentiond.hold_in_force h
            WHERE h.kind = 'origin' AND h.subject = lower(k.media_origin COLLATE "C"))
 OR EXISTS (SELECT FROM retentiond.hold_in_force h WHERE h.kind = 'user' AND h.subject = k.user_id COLLATE "C")
 OR EXISTS (SELECT FROM {hold_member} x JOIN retentiond.hold_in_force h ON h.hold_id = x.hold_id
            WHERE x.kind = 'origin' AND x.subject = lower(k.media_origin COLLATE "C"))
 OR EXISTS (SELECT FROM {hold_member} x JOIN retentiond.hold_in_force h ON h.hold_id = x.hold_id
            WHERE x.kind = 'user' AND x.subject = k.user_id COLLATE "C"))

-- name: held_by
-- A condition: is the hold of this number, kind and subject on the row `k`?
((k.media_id COLLATE "C", k.media_origin COLLATE "C") IN
     (SELECT x.media_id, x.media_origin FROM retentiond.hold_media x WHERE x.hold_id = $1)
 OR ($2::text = 'origin' AND lower(k.media_origin COLLATE "C") = $3::text)
 OR ($2::text = 'user' AND k.user_id = $3::text)
 OR lower(k.media_origin COLLATE "C") IN
     (SELECT x.subject FROM retentiond.hold_member x WHERE x.hold_id = $1 AND x.kind = 'origin')
 OR k.user_id COLLATE "C" IN
     (SELECT x.subject FROM retentiond.hold_member x WHERE x.hold_id = $1 AND x.kind = 'user'))

-- name: any_hold
SELECT EXISTS (SELECT FROM retentiond.hold_in_force)

-- name: keep_held_keys
-- Mark due rows that a hold keeps by their key.
UPDATE pg_temp.due d SET kept = 'hold'
FROM {hold_media} x JOIN retentiond.hold_in_force h ON h.hold_id = x.hold_id
WHERE d.kept IS NULL AND x.media_id = d.media_id AND x.media_origin = d.media_origin

-- name: keep_held_origins
UPDATE pg_temp.due d SET kept = 'hold'
FROM retentiond.hold_in_force h
WHERE d.kept IS NULL AND h.kind = 'origin' AND h.subject = lower(d.media_origin COLLATE "C")

-- name: keep_held_users
UPDATE pg_temp.due d SET kept = 'hold'
FROM retentiond.hold_in_force h JOIN mediaapi_media_repository m ON m.user_id = h.subject COLLATE "default"
WHERE d.kept IS NULL AND h.kind = 'user'
  AND m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"

-- name: keep_held_member_origins
-- Mark due rows of the servers that have members in a room that is held with them.
UPDATE pg_temp.due d SET kept = 'hold'
FROM {hold_member} x JOIN retentiond.hold_in_force h ON h.hold_id = x.hold_id
WHERE d.kept IS NULL AND x.kind = 'origin' AND x.subject = lower(d.media_origin COLLATE "C")

-- name: keep_held_members
-- Mark due uploads of local members of a room that is held with them.
UPDATE pg_temp.due d SET kept = 'hold'
FROM {hold_member} x JOIN retentiond.hold_in_force h ON h.hold_id = x.hold_id
JOIN mediaapi_media_repository m ON m.user_id = x.subject COLLATE "default"
WHERE d.kept IS NULL AND x.kind = 'user'
  AND m.media_id = d.media_id COLLATE "default" AND m.media_origin = d.media_origin COLLATE "default"

-- name: members
-- The members that a hold keeps with its room.
SELECT kind, subject FROM retentiond.hold_member WHERE hold_id = $1 ORDER BY kind, subject

-- name: held_keys
-- Those of these rows (by ID, server and uploader) that a hold keeps.
SELECT k.media_id, k.media_origin
FROM unnest($1::text[], $2::text[], $3::text[]) AS k(media_id, media_origin, user_id)
WHERE {held}

-- name: coverage
-- The number of rows that a hold covers now, and of rows in quarantine that can be restored.
SELECT (SELECT count(*) FROM mediaapi_media_repository k WHERE {held_by}) AS items,
       (SELECT count(*) FROM retentiond.released_media k
        WHERE k.had_file AND {held_by}
          AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = k.base64hash AND e.state IN ('purging', 'lost'))
          AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                          WHERE m.media_id = k.media_id COLLATE "default"
                            AND m.media_origin = k.media_origin COLLATE "default")) AS in_quarantine

-- name: held_in_quarantine
-- A page of blobs of which a released row is held.
SELECT DISTINCT k.base64hash AS hash FROM retentiond.released_media k
WHERE k.base64hash > $1 AND k.had_file AND k.restoring IS NULL AND {held}
ORDER BY 1 LIMIT $2

-- name: without_entry
-- A condition: is the grace of the released row `k` over, without an entry (a shared blob, no file)? Restorable
-- rows with a hold, and rows that a pass has still to count at its end, are left out.
(k.grace_until <= statement_timestamp() AND k.restoring IS NULL
 AND NOT EXISTS (SELECT FROM retentiond.entry e WHERE e.hash = k.base64hash AND e.state <> 'lost')
 AND NOT EXISTS (SELECT FROM retentiond.pass p WHERE p.pass_id = k.pass_id AND p.state = 'running')
 AND NOT (k.had_file AND {held}))

-- name: due_rows_without_entry
-- A page of these rows, by release.
SELECT k.release_id, k.base64hash AS hash, k.had_file FROM retentiond.released_media k
WHERE k.release_id > $1 AND {without_entry}
ORDER BY k.release_id LIMIT $2
