-- What comes back by itself: what a dead restorer left, and what has become protected.

-- name: restorers
-- Who has marked rows as being brought back.
SELECT DISTINCT (restoring ->> 'claimant')::integer AS claimant FROM retentiond.released_media WHERE restoring IS NOT NULL

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
