-- What comes back by itself: what a dead restorer left, and what has become protected.

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

-- name: protected_in_quarantine
-- A page of contents of which a released row that could come back is protected now.
SELECT DISTINCT r.base64hash AS hash
FROM (SELECT r.* FROM retentiond.released_media r
      JOIN retentiond.reference f ON f.media_id = r.media_id AND f.media_origin = r.media_origin
      WHERE f.copy_id = $3 AND f.source = ANY ($4::text[])
      UNION ALL
      SELECT r.* FROM retentiond.released_media r CROSS JOIN LATERAL ({shown_in_quarantine}) h
      WHERE ARRAY['encrypted', 'encrypted_remote'] && $4::text[] AND h.source = ANY ($4::text[])) r
WHERE r.base64hash > $1 AND NOT r.even_protected AND r.had_file AND r.restoring IS NULL
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
ORDER BY 1 LIMIT $2

-- name: mark_protected
-- Marks the rows of contents that have become protected as being brought back, without keeping them by hand; but for
-- contents that a step under way has.
UPDATE retentiond.released_media r SET restoring = jsonb_build_object('claimant', $2::integer)
WHERE r.base64hash = ANY ($1::text[]) AND r.restoring IS NULL AND NOT r.even_protected
  AND NOT EXISTS (SELECT FROM retentiond.entry e
                  WHERE e.hash = r.base64hash
                    AND (e.claimed_by IS NOT NULL OR e.state IN ('intended', 'purging', 'restoring')))
RETURNING r.base64hash AS hash

-- name: protected_hashes
-- The hashes of released rows that a protection refers to now, but for those that went in spite of it, and for those
-- whose key bears a row again, which wins.
SELECT DISTINCT r.base64hash AS hash
FROM (SELECT r.* FROM retentiond.released_media r
      JOIN retentiond.reference f ON f.media_id = r.media_id AND f.media_origin = r.media_origin
      WHERE f.copy_id = $2 AND f.source = ANY ($3::text[])
      UNION ALL
      SELECT r.* FROM retentiond.released_media r CROSS JOIN LATERAL ({shown_of}) h WHERE h.source = ANY ($3::text[])) r
WHERE r.base64hash = ANY ($1::text[]) AND NOT r.even_protected
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
