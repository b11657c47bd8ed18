-- Entries of the quarantine, from the intent to their end; only claimed entries are changed.

-- name: intended_hashes
-- Those of these blobs with an open intent to rename.
SELECT DISTINCT hash FROM retentiond.entry WHERE hash = ANY ($1::text[]) AND state = 'intended' AND kind = 'blob'

-- name: known_entries
-- Those of these entries that the ledger knows.
SELECT entry_id, pass_id, hash FROM retentiond.entry WHERE entry_id = ANY ($1::bigint[])

-- name: wanted_hashes
-- Those of these hashes with rows.
SELECT h.hash FROM unnest($1::text[]) AS h(hash)
WHERE EXISTS (SELECT FROM mediaapi_media_repository m WHERE m.base64hash COLLATE "C" = h.hash)

-- name: wanted_thumbnails
-- The thumbnails in the database of these hashes.
SELECT DISTINCT m.base64hash AS hash, t.width, t.height, t.resize_method
FROM mediaapi_media_repository m
JOIN mediaapi_thumbnail t ON t.media_id = m.media_id AND t.media_origin = m.media_origin
WHERE m.base64hash COLLATE "C" = ANY ($1::text[])
