-- The restorable items, in pages.

-- name: quarantine_page
-- The restorable rows, a page by release, with the bytes of the file and its thumbnails.
SELECT r.release_id, r.pass_id, r.policy, r.released_at, r.grace_until, r.had_file,
       coalesce(r.file_size_bytes > 0 AND r.file_bytes <> r.file_size_bytes, false) AS damaged, r.media_id, r.media_origin,
       r.content_type, r.upload_name, r.base64hash, r.user_id, r.facts,
       least(greatest(r.file_size_bytes, 0)
             + (SELECT coalesce(sum(t.file_size_bytes), 0) FROM unnest(r.thumbnails) t),
             9223372036854775807)::bigint AS bytes,
       (SELECT e.state FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob'
        ORDER BY e.entry_id DESC LIMIT 1) AS state
FROM retentiond.released_media r
WHERE r.release_id > $1
ORDER BY r.release_id
LIMIT $2

-- name: rowless_page
-- Blobs in quarantine without a released row, a page by entry.
SELECT entry_id, pass_id, hash, state, bytes, renamed_at, grace_until FROM retentiond.entry
WHERE entry_id > $1 AND kind = 'blob' AND grace_until IS NOT NULL AND renamed_at IS NOT NULL AND state <> 'lost'
ORDER BY entry_id LIMIT $2

-- name: thumbnail_page
-- Restorable released thumbnails, a page by release.
SELECT r.release_id, r.pass_id, r.policy, r.released_at, r.grace_until, r.media_id, r.media_origin, r.facts,
       (SELECT least(coalesce(sum(greatest(t.file_size_bytes, 0)), 0), 9223372036854775807)::bigint
        FROM unnest(r.thumbnails) t) AS bytes
FROM retentiond.thumbnail_release r
WHERE r.release_id > $1
ORDER BY r.release_id
LIMIT $2
