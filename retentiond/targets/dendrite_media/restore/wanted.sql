-- Automatic restores: those of dead processes, and newly protected media.

-- name: restorers
-- The claim owners that have marked rows as being restored.
SELECT DISTINCT (restoring ->> 'claimant')::integer AS claimant FROM retentiond.released_media WHERE restoring IS NOT NULL

-- name: thumbnail_restorers
SELECT DISTINCT (restoring ->> 'claimant')::integer AS claimant FROM retentiond.thumbnail_release
WHERE restoring IS NOT NULL

-- name: protected_in_quarantine
-- A page of blobs of which a restorable released row is protected now.
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
-- The hashes of released rows to which a protection refers now, except rows that were deleted in spite of it, and
-- those whose key has a row again, which wins.
SELECT DISTINCT r.base64hash AS hash
FROM (SELECT r.* FROM retentiond.released_media r
      JOIN retentiond.reference f ON f.media_id = r.media_id AND f.media_origin = r.media_origin
      WHERE f.copy_id = $2 AND f.source = ANY ($3::text[])
      UNION ALL
      SELECT r.* FROM retentiond.released_media r CROSS JOIN LATERAL ({shown_of}) h WHERE h.source = ANY ($3::text[])) r
WHERE r.base64hash = ANY ($1::text[]) AND NOT r.even_protected
  AND NOT EXISTS (SELECT FROM mediaapi_media_repository m
                  WHERE m.media_id = r.media_id COLLATE "default" AND m.media_origin = r.media_origin COLLATE "default")
