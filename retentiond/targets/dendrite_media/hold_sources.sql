-- What a room or a user refers to: each source is one statement over one table, for the room or user in $1. References
-- are cut out of events as for the protections; what does not parse counts with whatever it mentions.

-- name: events
-- Whatever the content of these events mentions, avatars of members too.
SELECT DISTINCT k.media_id, k.media_origin
FROM (SELECT headered_event_json AS raw, pg_temp.retentiond_content(headered_event_json) AS content
      FROM {table}
      WHERE {whose} = $1 AND (headered_event_json LIKE '%mxc:%' OR headered_event_json LIKE '%\\u00%')
      OFFSET 0) e
CROSS JOIN LATERAL (
    SELECT x AS mention FROM pg_temp.retentiond_strings(e.content) AS x WHERE jsonb_typeof(e.content) = 'object'
    UNION ALL
    SELECT pg_temp.retentiond_raw(e.raw) WHERE jsonb_typeof(e.content) IS DISTINCT FROM 'object') s
CROSS JOIN LATERAL pg_temp.retentiond_keys(s.mention) k

-- name: profile
-- The avatar of a local user.
SELECT DISTINCT k.media_id, k.media_origin
FROM userapi_profiles p CROSS JOIN LATERAL pg_temp.retentiond_keys(p.avatar_url) k
WHERE '@' || p.localpart || ':' || p.server_name = $1

-- name: encrypted
-- Whether what the room's messages refer to cannot be seen.
SELECT EXISTS (SELECT FROM syncapi_current_room_state WHERE room_id = $1 AND type = 'm.room.encryption')
