-- Statements over the times at which media were last accessed.

-- name: due_by_access_page
-- A page of what is due by its creation, by policies whose time counts from the last access.
SELECT hash, media_id, media_origin, policy FROM pg_temp.due
WHERE (hash, media_id, media_origin) > ($1::text, $2::text, $3::text) AND policy = ANY ($5::integer[])
ORDER BY hash, media_id, media_origin
LIMIT $4

-- name: drop_from_due
-- What was accessed lately is not due after all.
DELETE FROM pg_temp.due d
USING unnest($1::text[], $2::text[], $3::text[]) AS k(hash, media_id, media_origin)
WHERE d.hash = k.hash AND d.media_id = k.media_id AND d.media_origin = k.media_origin
