-- What can be brought back, in pages.

-- name: quarantine_page
-- What can be brought back, a page by release.
SELECT r.release_id, r.pass_id, r.policy, r.released_at, r.grace_until, r.had_file, r.media_id, r.media_origin,
       r.content_type, r.file_size_bytes, r.upload_name, r.base64hash, r.user_id,
       (SELECT e.state FROM retentiond.entry e WHERE e.hash = r.base64hash AND e.kind = 'blob'
        ORDER BY e.entry_id DESC LIMIT 1) AS state
FROM retentiond.released_media r
WHERE r.release_id > $1
ORDER BY r.release_id
LIMIT $2

-- name: rowless_page
-- Blobs in quarantine that no released row stands for, a page by entry.
SELECT entry_id, pass_id, hash, state, bytes, renamed_at, grace_until FROM retentiond.entry
WHERE entry_id > $1 AND kind = 'blob' AND grace_until IS NOT NULL AND renamed_at IS NOT NULL AND state <> 'lost'
ORDER BY entry_id LIMIT $2
