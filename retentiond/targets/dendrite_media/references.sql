-- What the protections refer to. Each source is one statement, and so one snapshot; its rows are (text): what
-- follows `mxc://`, to the end of the string it stands in. `references_of` cuts keys out of such texts.
-- What counts of an event is its content: dendrite keeps the previous content beside it, under `unsigned`.
-- What does not parse keeps whatever it mentions.

-- name: json_function
-- Parses JSON, or returns NULL. It lives in the connection's own temporary schema, so that nothing is left behind.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_json(given text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    RETURN given::jsonb;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$

-- name: key_function
-- Every key that a text might mean by its `mxc://`: media IDs are whatever another server chose, so the ID may
-- end at the string's end, at white space or punctuation, or at the first character that is unusual in one.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_keys(given text) RETURNS TABLE (media_id text, media_origin text)
LANGUAGE sql IMMUTABLE STRICT AS $$
    WITH mention AS (
        SELECT (regexp_matches(given, 'mxc://([^/]+)/(.+)$'))[1] AS origin,
               (regexp_matches(given, 'mxc://([^/]+)/(.+)$'))[2] AS rest
        UNION
        SELECT m[1], m[2] FROM regexp_matches(given, 'mxc://([^/\s"\\<>]+)/([^\s"\\<>]+)', 'g') AS m
    )
    SELECT cut.id, mention.origin
    FROM mention, LATERAL (
        VALUES (mention.rest), (substring(mention.rest FROM '^[^?#]+')), (substring(mention.rest FROM '^[^/?#]+')),
               (substring(mention.rest FROM '^[A-Za-z0-9_=-]+'))) AS cut(id)
    WHERE cut.id IS NOT NULL
$$

-- name: string_function
-- Every string in a JSON document that mentions `mxc://`, keys of objects too, with its escapes undone.
CREATE OR REPLACE FUNCTION pg_temp.retentiond_strings(given jsonb) RETURNS SETOF text
LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT ('"' || s[1] || '"')::jsonb #>> '{}'
    FROM regexp_matches(given::text, '"((?:[^"\\]|\\.)*mxc://(?:[^"\\]|\\.)*)"', 'g') AS s
$$

-- name: profiles
-- Avatars of local users.
SELECT DISTINCT k.media_id, k.media_origin
FROM userapi_profiles p CROSS JOIN LATERAL pg_temp.retentiond_keys(p.avatar_url) k
WHERE p.avatar_url LIKE '%mxc:%'

-- name: member_avatars
-- Avatars of everybody, local and remote, as the rooms see them.
SELECT DISTINCT k.media_id, k.media_origin
FROM (SELECT headered_event_json AS raw, pg_temp.retentiond_json(headered_event_json) -> 'content' AS content
      FROM syncapi_current_room_state
      WHERE type = 'm.room.member' AND (headered_event_json LIKE '%mxc:%' OR headered_event_json LIKE '%\\u00%')
      OFFSET 0) e
CROSS JOIN LATERAL (
    SELECT e.content ->> 'avatar_url' AS mention WHERE jsonb_typeof(e.content) = 'object'
    UNION ALL
    SELECT replace(e.raw, '\/', '/') WHERE jsonb_typeof(e.content) IS DISTINCT FROM 'object') s
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k

-- name: room_state
-- Whatever room state mentions: room avatars, emoji, stickers, and the unforeseen; but for the avatars of members.
SELECT DISTINCT k.media_id, k.media_origin
FROM (SELECT headered_event_json AS raw, type,
             pg_temp.retentiond_json(headered_event_json) -> 'content' AS content
      FROM syncapi_current_room_state
      WHERE headered_event_json LIKE '%mxc:%' OR headered_event_json LIKE '%\\u00%'
      OFFSET 0) e
CROSS JOIN LATERAL (
    SELECT pg_temp.retentiond_strings(CASE WHEN e.type = 'm.room.member' THEN e.content - 'avatar_url' ELSE e.content END)
           AS mention
    WHERE jsonb_typeof(e.content) = 'object'
    UNION ALL
    SELECT replace(e.raw, '\/', '/') WHERE jsonb_typeof(e.content) IS DISTINCT FROM 'object') s
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k

-- name: account_data
-- Personal emoji, stickers and whatever else people keep with their account.
SELECT DISTINCT k.media_id, k.media_origin
FROM (SELECT content AS raw, pg_temp.retentiond_json(content) AS content
      FROM userapi_account_datas
      WHERE content LIKE '%mxc:%' OR content LIKE '%\\u00%'
      OFFSET 0) d
CROSS JOIN LATERAL (
    SELECT pg_temp.retentiond_strings(d.content) AS mention
    UNION ALL
    SELECT replace(d.raw, '\/', '/') WHERE d.content IS NULL) s
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k

-- name: make_plan_copy
-- A plan's copy: it goes with the connection.
CREATE TEMPORARY TABLE plan_reference (
    copy_id bigint NOT NULL,
    source text COLLATE "C" NOT NULL,
    media_id text COLLATE "C" NOT NULL,
    media_origin text COLLATE "C" NOT NULL
)

-- name: newest_copy
-- The newest whole copy that has these sources, if it was begun after the given time.
SELECT copy_id, begun_at FROM retentiond.reference_copy
WHERE sources @> $1::text[] AND begun_at >= $2
ORDER BY copy_id DESC LIMIT 1

-- name: begin_copy
INSERT INTO retentiond.reference_copy (sources, begun_at) VALUES ($1, clock_timestamp()) RETURNING copy_id, begun_at

-- name: copy_source
-- Adds a source that lies in the same database.
INSERT INTO {reference} (copy_id, source, media_id, media_origin)
SELECT $1::bigint, $2::text, r.media_id, r.media_origin FROM ({source}) r

-- name: hold_copy
-- Keeps a copy from being dropped until this transaction ends; no row where it is gone already.
SELECT copy_id FROM retentiond.reference_copy WHERE copy_id = $1 FOR KEY SHARE

-- name: drop_old_copies
-- Copies before the newest, but for those that somebody relies on at this moment: a later copy's maker drops them.
WITH old AS (
    DELETE FROM retentiond.reference_copy WHERE copy_id IN (
        SELECT copy_id FROM retentiond.reference_copy WHERE copy_id < $1 FOR UPDATE SKIP LOCKED)
    RETURNING copy_id
)
DELETE FROM retentiond.reference WHERE copy_id IN (SELECT copy_id FROM old)

-- name: analyze_copy
ANALYZE {reference}
