-- Restore by hand: what was selected is marked.

-- name: select_to_restore
-- Marks a page of released rows as being brought back: by pass, by key, or all, one content after another; not
-- those whose key bears a row again, nor those of a content that a live claimant works on. `stuck`: the disk left it
-- with a purge that failed, and gave it back neither. Of a key that
-- was released more than once, with other contents, the newest that had a file comes, unless a pass is named.
WITH page AS (
    SELECT DISTINCT r.base64hash AS hash FROM retentiond.released_media r
    WHERE r.base64hash > $1 AND ($3::bigint IS NULL OR r.pass_id = $3)
      AND ($4::text IS NULL OR r.media_id = $4 AND r.media_origin = $5)
    ORDER BY 1 LIMIT $2
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
      AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                      WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
    RETURNING r.base64hash
)
SELECT p.hash, EXISTS (SELECT FROM free f WHERE f.hash = p.hash) AS free,
       EXISTS (SELECT FROM retentiond.entry e
               WHERE e.hash = p.hash AND e.claimed_by IS NULL AND e.state = 'purging') AS stuck,
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

-- name: end_marks
-- Ends the mark of these media, or of all.
DELETE FROM retentiond.restored r
WHERE $1::text[] IS NULL
   OR EXISTS (SELECT FROM unnest($1::text[], $2::text[]) AS k(media_id, media_origin)
              WHERE k.media_id = r.media_id AND k.media_origin = r.media_origin)
RETURNING r.media_id, r.media_origin
